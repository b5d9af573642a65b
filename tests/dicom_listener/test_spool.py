"""The spool where writing fails."""

import resource
from pathlib import Path

import pytest

from dicom_listener.spool import Spool


def test_result_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    kept = spool.keep_result("1.2", 1, "result.json", b"whole")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # as a disk with one block left
    try:
        with pytest.raises(OSError, match="too large"):
            spool.keep_result("1.2", 1, "result.json", bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(spool.path(kept).parent.iterdir()) == [spool.path(kept)]
    assert spool.path(kept).read_bytes() == b"whole"
