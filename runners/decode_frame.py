"""One encoded frame to stored values, by the decoder chosen for its transfer syntax (docs/adr)."""

import io
import struct
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEG2000MC,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEG2000MCLossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from models.rejection import Rejection, RejectionCode

_JPEG_2000: Final = frozenset(
    {JPEG2000, JPEG2000Lossless, JPEG2000MC, JPEG2000MCLossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL}
)
_JPEG_LS: Final = frozenset({JPEGLSLossless, JPEGLSNearLossless})
_JPEG: Final = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1})
_MAX_REDUCE: Final = 5  # code streams commonly carry five decompositions


def reduction(transfer_syntax_uid: str, long_side: int, wanted: int | None) -> int:
    """How often a scalable code stream is halved so that its long side is at most `wanted`."""
    if not wanted or transfer_syntax_uid not in _JPEG_2000:
        return 0
    steps = 0
    while steps < _MAX_REDUCE and long_side > wanted << steps:
        steps += 1
    return steps


def declared_size(frame: bytes, transfer_syntax_uid: str) -> tuple[int, int] | None:
    """(width, height) that the code stream itself declares, without decoding; None where it has no header."""
    if transfer_syntax_uid in _JPEG_2000:
        left, top, right, bottom = _jpeg2000_extent(frame)
        return right - left, bottom - top
    if transfer_syntax_uid in _JPEG_LS or transfer_syntax_uid in _JPEG:
        return _jpeg_size(frame)
    return None


def decode_frame(frame: bytes, dataset: Dataset, *, reduce: int) -> NDArray[Any] | Rejection:
    """Stored values, (h, w) as the code of the file (not yet sign-extended) or (h, w, 3) uint8 RGB."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in _JPEG_2000 | _JPEG_LS | _JPEG and (
        syntax != RLELossless or dataset.SamplesPerPixel != 1
    ):
        if syntax.is_encapsulated and syntax != RLELossless:
            return Rejection(
                code=RejectionCode.UNDECODABLE, reason=f"transfer syntax {syntax.name} is not supported"
            )
        return _native(frame, dataset)
    if syntax == RLELossless:
        return _rle(frame, dataset)
    # Each of these ends with its own marker; what is missing would be filled with grey, silently.
    if not frame.rstrip(b"\x00\xff").endswith(b"\xff\xd9"):
        return Rejection(
            code=RejectionCode.TRUNCATED,
            reason="the compressed pixels end early: the code stream is truncated",
        )
    if syntax in _JPEG_LS:
        decoded = imagecodecs.jpegls_decode(frame)
    elif syntax in _JPEG:
        decoded = imagecodecs.jpeg_decode(frame)
    elif (
        dataset.get("PixelRepresentation")
        or dataset.get("SamplesPerPixel") == 3
        or dataset.BitsAllocated == 8
    ):
        decoded = imagecodecs.jpeg2k_decode(frame)
    else:
        decoded = _jpeg2000(frame, reduce=reduce)
    return np.asarray(decoded)


def _native(frame: bytes, dataset: Dataset) -> NDArray[Any]:
    """Values that no codec wrapped, and colour in RLE, by pydicom: byte order, planes and YBR included."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.PixelData = frame + b"\0" * (len(frame) % 2)  # without what some exports append
    decoded: NDArray[Any] = pixel_array(dataset, raw=dataset.get("SamplesPerPixel", 1) == 1)
    return decoded


def _rle(frame: bytes, dataset: Dataset) -> NDArray[Any]:
    kind = np.dtype("<u2" if dataset.BitsAllocated == 16 else "u1")
    shape = (int(dataset.Rows), int(dataset.Columns))
    return np.frombuffer(imagecodecs.dicomrle_decode(frame, kind), kind, count=shape[0] * shape[1]).reshape(
        shape
    )


def _jpeg2000(frame: bytes, *, reduce: int) -> NDArray[np.uint16]:
    """Unsigned grey by Pillow, the only one here that decodes at reduced resolution, ten times faster."""
    with Image.open(io.BytesIO(frame), formats=("JPEG2000",)) as picture:
        # Read by load(), as documented.
        picture.reduce = min(reduce, _jpeg2000_levels(frame))  # type: ignore[method-assign,assignment]
        picture.load()
        values = np.asarray(picture)
    # Pillow moves a code stream of fewer bits up to 8, and one of 9 to 15 up to 16.
    return (values >> (8 * values.itemsize - _jpeg2000_bits(frame))).astype(np.uint16)


def _jpeg2000_siz(frame: bytes) -> int:
    """Where the parameters of the SIZ marker begin (ISO 15444-1 A.5.1)."""
    return frame.index(b"\xff\x4f\xff\x51") + 4


def _jpeg2000_extent(frame: bytes) -> tuple[int, int, int, int]:
    right, bottom, left, top = struct.unpack_from(">4I", frame, _jpeg2000_siz(frame) + 4)
    return left, top, right, bottom


def _jpeg2000_bits(frame: bytes) -> int:
    """Precision of the first component."""
    return (frame[_jpeg2000_siz(frame) + 38] & 0x7F) + 1


def _jpeg2000_levels(frame: bytes) -> int:
    """How often the code stream can be halved: the decomposition levels of its COD marker (A.6.1)."""
    at = _jpeg2000_siz(frame) - 2
    while frame[at : at + 2] != b"\xff\x52":
        if frame[at] != 0xFF or frame[at + 1] == 0x90:  # a tile-part: the main header is over
            raise ValueError("the JPEG 2000 code stream has no COD marker")
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return frame[at + 9]


def _jpeg_size(frame: bytes) -> tuple[int, int]:
    """(width, height) of the first frame header, SOF0–15 or SOF55 (ISO 10918-1 B.2.2, 14495-1 C.2.2)."""
    at = 2
    while frame[at] == 0xFF:
        marker = frame[at + 1]
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            height, width = struct.unpack_from(">HH", frame, at + 5)
            return width, height
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    raise ValueError("the JPEG code stream has no frame header")
