"""DICOM files to data sets, however they were made or cut."""

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom import config, dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from models.rejection import Rejection, RejectionCode
from runners.decoded import DecodeLimits

# Hostile headers are judged by what they say, not by pydicom's warnings.
config.settings.reading_validation_mode = config.IGNORE

_FILTERS = threading.Lock()
_META_START = 132  # after the preamble and DICM
_META_BYTES = 1024  # within which a Transfer Syntax UID is found


def read(data: bytes, *, limits: DecodeLimits) -> Dataset | Rejection:
    """Parse a DICOM file, a deflated one within the limit."""
    if not is_deflated(data):
        with _quietly():
            dataset = dcmread(io.BytesIO(data))
        # Where the bytes end inside an element, pydicom warns and forgets all that it has read.
        return dataset if len(dataset) else truncated()
    # pydicom would inflate without a limit. File Meta Information: its own group length first (PS3.10 7.1).
    (length,) = struct.unpack_from("<I", data, _META_START + 8)
    end = _META_START + 12 + length
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(data[end:], limits.max_inflated_bytes)
    if inflater.unconsumed_tail:
        return Rejection(
            code=RejectionCode.TOO_LARGE,
            reason=f"the deflated data set unfolds to more than {limits.max_inflated_bytes} bytes",
        )
    if not inflater.eof:
        return truncated()
    with _quietly():
        inside, meta = (
            read_dataset(io.BytesIO(part), is_implicit_VR=False, is_little_endian=True)
            for part in (inflated, data[_META_START:end])
        )
    inside.file_meta = FileMetaDataset(meta)
    return inside if len(inside) else truncated()


def read_header(data: bytes, *, limits: DecodeLimits) -> Dataset:
    """The data set without Pixel Data, of a truncated file too; raises anything for damaged bytes."""
    if is_deflated(data):
        dataset = read(data, limits=limits)
        if isinstance(dataset, Rejection):
            raise ValueError(dataset.reason)
        if "PixelData" in dataset:
            del dataset.PixelData
        return dataset
    with _quietly():
        return dcmread(io.BytesIO(data), stop_before_pixels=True)


def optional(dataset: Dataset, keyword: str) -> Any:
    """The value of an attribute that may lack; None for an absent one and for one that cannot be read."""
    try:
        return dataset.get(keyword)
    except Exception:  # pydicom raises whatever the conversion of a broken value raises
        return None


def is_deflated(data: bytes) -> bool:
    """Whether the File Meta Information names the deflated transfer syntax."""
    return DeflatedExplicitVRLittleEndian.encode() in data[:_META_BYTES]


@contextmanager
def _quietly() -> Iterator[None]:
    """Without pydicom's warnings. Warning filters belong to the whole process: one at a time."""
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def truncated() -> Rejection:
    """What is said of a file that ends early."""
    return Rejection(code=RejectionCode.TRUNCATED, reason="the DICOM file ends early: it is truncated")
