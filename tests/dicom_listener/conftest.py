"""Fixtures of the listener's tests, and of the chaos tests.

pynetdicom leaves the sockets of cut and refused connections to the garbage collector, which warns of them at
some later time: it runs here, after each test, without the warning.
"""

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import make_certificates

UNCLOSED = "ignore:unclosed <socket:ResourceWarning"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "dicom_listener" in item.path.parts or "chaos" in item.path.parts:
            item.add_marker(pytest.mark.filterwarnings(UNCLOSED))


@pytest.fixture(autouse=True)
def collected_sockets() -> Iterator[None]:
    yield
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and a server and a client that it has signed."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))
