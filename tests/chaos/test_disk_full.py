"""A spool that runs full: refusals that a sender repeats, nothing lost, and work again once there is room."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dicom_listener import studies
from tests.dicom_listener.peers import FakeService, NodeProcess, Pacs, radiograph, send, until
from tests.dicom_listener.test_interop import dcmtk

pytestmark = pytest.mark.debian("storescu")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here (needs root and the right to mount)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk_refuses_and_recovers(small_disk: Path, tmp_path: Path) -> None:
    reserve = 3 * 1024 * 1024
    with FakeService(tmp_path / "service") as service, Pacs() as pacs:
        node = NodeProcess(
            small_disk, service_url=service.url, destinations=[pacs.destination], reserve_bytes=reserve
        )
        with node:
            filler = small_disk / "filler"
            filler.write_bytes(bytes(6 * 1024 * 1024))
            instance = radiograph(rows=1400)  # 4 MB: fits, and leaves less than half the reserve
            instance.save_as(tmp_path / "large.dcm", enforce_file_format=True)
            sending = ("storescu", "-aec", "SKIAGRAPH", "127.0.0.1", node.port, tmp_path / "large.dcm")
            assert dcmtk(*sending).returncode != 0
            until(lambda: not list((node.settings.folder / "spool" / "incoming").iterdir()))
            assert studies.list_studies(node.settings) == []
            filler.write_bytes(bytes(9 * 1024 * 1024))
            assert dcmtk("echoscu", "-aec", "SKIAGRAPH", "127.0.0.1", node.port).returncode != 0
            assert node.http("/readyz").status_code == 503
            filler.unlink()
            assert dcmtk(*sending).returncode == 0
            until(lambda: studies.list_studies(node.settings, state="delivered"))
            assert node.http("/readyz").status_code == 200


def test_attempts_that_a_full_disk_ends_without_a_record_are_made_again(
    small_disk: Path, tmp_path: Path
) -> None:
    with FakeService(tmp_path / "service") as service, Pacs() as pacs:
        service.behave(delay_seconds=2)
        (tmp_path / "var").symlink_to(small_disk)  # the log stays outside
        with NodeProcess(tmp_path, service_url=service.url, destinations=[pacs.destination]) as node:
            sent = [radiograph() for _ in range(2)]
            send(node.port, sent)
            until(lambda: len(service.asked()) == len(sent))
            filler = small_disk / "filler"
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            until(lambda: node.log().count("Exception encountered in background workflow") >= len(sent))
            service.behave()
            filler.unlink()
            until(lambda: len(studies.list_studies(node.settings, state="delivered")) == len(sent))
            assert "attempts ended without a record and are cancelled" in node.log()
            assert len(set(pacs.received)) == len(pacs.received) == 2 * len(sent)


def test_results_wait_for_room(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "var" / "spool").mkdir(parents=True)
    (tmp_path / "var" / "spool" / "results").symlink_to(small_disk)  # the ledger has room elsewhere
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    with (
        FakeService(tmp_path / "service") as service,
        Pacs() as pacs,
        NodeProcess(tmp_path, service_url=service.url, destinations=[pacs.destination]) as node,
    ):
        sent = [radiograph() for _ in range(2)]
        send(node.port, sent)
        more_than_faults = len(sent) * (node.settings.retry.faults + 2)
        until(lambda: len(service.asked()) >= more_than_faults)
        waiting = studies.list_studies(node.settings)
        assert [one.state for one in waiting] == ["ready"] * len(sent)
        assert all("OSError in the listener: make room" in str(one.error) for one in waiting)
        filler.unlink()
        until(lambda: len(studies.list_studies(node.settings, state="delivered")) == len(sent))
        assert not list(small_disk.rglob(".*"))
        assert len(set(pacs.received)) == len(pacs.received) == 2 * len(sent)
