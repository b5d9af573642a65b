"""From bytes to a radiograph: DICOM Part 10, PNG or JPEG, told apart by content."""

from models.rejection import Rejection, RejectionCode
from runners.decode_dicom import decode_dicom
from runners.decode_picture import decode_picture
from runners.decoded import Decoded, DecodeLimits
from skiagraph import log

_PREAMBLE_BYTES = 128
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_log = log.get(__name__)


def decode(data: bytes, *, limits: DecodeLimits, long_side_px: int | None = None) -> Decoded | Rejection:
    """Decode one radiograph; whatever the bytes are, the answer is a value.

    long_side_px: a larger scalable code stream (JPEG 2000) is decoded at a half, a quarter … of its size.
    """
    if not data:
        return Rejection(code=RejectionCode.EMPTY, reason="there are no bytes: the file is empty")
    try:
        if is_dicom(data):
            decoded = decode_dicom(data, limits=limits, long_side_px=long_side_px)
        elif data.startswith(_PICTURES):
            decoded = decode_picture(data, limits=limits)
        else:
            return Rejection(
                code=RejectionCode.NOT_AN_IMAGE,
                reason="the bytes are neither a DICOM file nor a PNG or JPEG picture",
            )
    except Exception as error:  # the libraries below raise whatever hostile bytes make them raise
        _log.info("bytes could not be decoded", error=type(error).__name__)
        return Rejection(
            code=RejectionCode.UNDECODABLE, reason="the pixels cannot be decoded: the data are damaged"
        )
    if isinstance(decoded, Rejection):
        return decoded
    pixels = decoded.radiograph.pixels
    if pixels.min() == pixels.max():
        return Rejection(
            code=RejectionCode.BLANK, reason="the radiograph is blank: all of it has one brightness"
        )
    return decoded


def is_dicom(data: bytes) -> bool:
    """Whether the bytes begin as PS3.10 says a DICOM file does."""
    return data[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == b"DICM"
