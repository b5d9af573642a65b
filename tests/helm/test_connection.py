"""`helm test`: the very command of the rendered pod, against real DICOM nodes."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from tests.dicom_listener.peers import NodeProcess
from tests.helm.chart import Renderer, one

_HOLD = {"name": "all", "when": {"Modality": "*"}, "hold": True}


@contextmanager
def _node(*, called: str, status: int = 0x0000) -> Iterator[tuple[int, list[str]]]:
    """A DICOM node that answers C-ECHO; gives its port and the calling AE titles it sees."""
    seen: list[str] = []

    def answer(event: evt.Event) -> int:
        seen.append(event.assoc.requestor.ae_title)
        return status

    node = AE(ae_title=called)
    node.require_called_aet = True
    node.add_supported_context(Verification)
    server = node.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_ECHO, answer)])
    try:
        yield server.server_address[1], seen
    finally:
        server.shutdown()


def _run(renderer: Renderer, port: int, **listener: object) -> subprocess.CompletedProcess[str]:
    """The command of the container, with the address of this test in place of the Service's."""
    pod = one(renderer.objects({"settings": {"listener": listener}}), "Pod")
    command = pod["spec"]["containers"][0]["command"]
    assert command[0] == "python"
    assert command[-2:] == ["site-skiagraph-listener", "11112"]
    return subprocess.run(
        [sys.executable, *command[1:-2], "127.0.0.1", str(port)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_node_that_answers_passes(renderer: Renderer) -> None:
    with _node(called="HAND_AI") as (port, seen):
        done = _run(renderer, port, ae_title="HAND_AI")
    assert done.returncode == 0, done.stderr
    assert seen == ["ECHOSCU"]


def test_it_calls_as_somebody_who_may(renderer: Renderer) -> None:
    peers = [{"ae_title": "DX1", "host": "10.0.0.9"}, {"ae_title": "ROUTER"}, {"ae_title": "DX2"}]
    with _node(called="SKIAGRAPH") as (port, seen):
        assert _run(renderer, port, peers=peers).returncode == 0
    assert seen == ["ROUTER"]


@pytest.mark.parametrize(("called", "status"), [("SKIAGRAPH", 0x0122), ("ANOTHER", 0x0000)])
def test_a_refusal_of_the_echo_or_of_the_association_fails(
    renderer: Renderer, called: str, status: int
) -> None:
    with _node(called=called, status=status) as (port, _seen):
        done = _run(renderer, port)
    assert done.returncode == 1
    assert f"SKIAGRAPH at 127.0.0.1:{port}" in done.stderr


def test_nobody_at_the_port_fails(renderer: Renderer, free_port: Callable[[], int]) -> None:
    done = _run(renderer, free_port())
    assert done.returncode == 1
    assert "did not accept an association" in done.stderr


@pytest.mark.parametrize(("rules", "code"), [({"shipped_rules": ["phantoms"]}, 0), ({"rules": [_HOLD]}, 1)])
def test_a_phantom_that_a_rule_drops_has_arrived_and_one_that_is_held_has_not(
    renderer: Renderer, tmp_path: Path, rules: dict[str, object], code: int
) -> None:
    """Delivered: tests/operations/test_monitoring.py."""
    pod = one(renderer.objects({}), "Pod")
    (command,) = [item["command"] for item in pod["spec"]["containers"] if item["name"] == "phantom"]
    with NodeProcess(tmp_path, **rules) as node:
        here = ["127.0.0.1", str(node.port), f"http://127.0.0.1:{node.ports['console']}", "60"]
        done = subprocess.run(
            [sys.executable, *command[1:-4], *here], capture_output=True, text=True, check=False, timeout=90
        )
    assert done.returncode == code, done.stdout + done.stderr
    assert ("a rule drops phantoms" in done.stdout) is (code == 0)
