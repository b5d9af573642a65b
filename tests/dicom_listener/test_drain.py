"""A destination that is dead, and one that accepts and never answers, beside one that is well.

12 studies by default; `make drain` asks for 500 through SKIAGRAPH_DRAIN_STUDIES.
"""

import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_listener import studies
from tests.dicom_listener.peers import FakeService, NodeProcess, Pacs, radiograph, until
from tests.dicom_listener.test_interop import dcmtk

STUDIES = int(os.environ.get("SKIAGRAPH_DRAIN_STUDIES", "12"))
OUTBOX = 'skiagraph_outbox_pending{destination="away"}'


@pytest.mark.debian("storescu")
def test_dead_destinations_delay_nobody_and_get_everything_once_when_they_are_back(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    away = Pacs(port=free_port())
    # Only a C-ECHO that is answered again can make the results come so quickly.
    retry = {"first_seconds": 600, "longest_seconds": 6000}
    with (
        FakeService(tmp_path / "service") as service,
        Pacs() as well,
        socket.create_server(("127.0.0.1", 0), backlog=1000) as deaf,
    ):
        never = {"name": "deaf", "ae_title": "DEAF", "host": "127.0.0.1", "port": deaf.getsockname()[1]}
        destinations = [away.destination | {"name": "away"}, never, well.destination | {"name": "well"}]
        with NodeProcess(tmp_path, service_url=service.url, destinations=destinations, retry=retry) as node:
            _send_half(tmp_path / "first", node, well, "first")
            _send_half(tmp_path / "second", node, well, "behind a full outbox")
            until(lambda: node.metric(OUTBOX) == STUDIES)
            assert node.metric('skiagraph_peer_up{destination="away"}') == 0
            assert Counter(one.state for one in studies.list_studies(node.settings, limit=STUDIES)) == {
                "scored": STUDIES
            }
            started = time.monotonic()
            with away:
                until(lambda: node.metric(OUTBOX) == 0, seconds=STUDIES)
                print(f"{STUDIES} results drained in {time.monotonic() - started:.1f} s")
                assert Counter(away.received) == Counter(well.received)
                assert max(Counter(uid for uid, _ in away.received).values()) == 1


def _send_half(folder: Path, node: NodeProcess, well: Pacs, when: str) -> None:
    half, expected = STUDIES // 2, len(well.received) + STUDIES
    folder.mkdir()
    for number in range(half):
        radiograph().save_as(folder / f"{number}.dcm", enforce_file_format=True)
    started = time.monotonic()
    sent = dcmtk("storescu", "-R", "+sd", "-aec", "SKIAGRAPH", "127.0.0.1", node.port, folder)
    assert sent.returncode == 0, sent.stderr
    received = time.monotonic()
    until(lambda: len(well.received) == expected, seconds=STUDIES)
    later = time.monotonic() - received
    print(f"{half} studies {when}: received in {received - started:.1f} s, delivered {later:.1f} s later")
