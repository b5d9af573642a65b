"""Fixtures of every room: the shared data, free ports, Debian programs."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

REPOSITORY = Path(__file__).resolve().parent.parent
_DEBIAN_PATH = "/usr/bin:/usr/sbin:/usr/local/bin"


def debian_program(name: str) -> str | None:
    """The system's own program, never the one of the same name that pynetdicom puts into the environment."""
    return shutil.which(name, path=_DEBIAN_PATH)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The radiographs beside the project; skips with the reason where they are not."""
    folder = Path(os.environ.get("SKIAGRAPH_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "dicom").is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the shared radiographs are not at {folder}")
        pytest.skip(f"the shared radiographs are not at {folder}: set SKIAGRAPH_SHARED_DATA")
    return folder


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Ports that were free a moment ago, for programs that cannot bind port 0."""

    def take() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return take


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("debian"):
        missing = [name for name in mark.args if debian_program(name) is None]
        if not missing:
            continue
        reason = f"Debian programs missing: {', '.join(missing)} (apt-get install orthanc dcmtk dicom3tools)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
