"""PNG and JPEG of any kind: grey of 1, 8 and 16 bits, palette, RGB, CMYK, transparent, turned by EXIF."""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from models.radiograph import Radiograph
from models.rejection import Rejection, RejectionCode
from runners.decoded import Decoded, DecodeLimits

Image.MAX_IMAGE_PIXELS = None  # our own limit is checked before any pixel is decoded, and is a setting
# By EXIF Orientation; ImageOps.exif_transpose would write all of the EXIF anew, and fail where it is damaged.
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIXTEEN_BITS = frozenset({"I;16", "I;16B", "I;16L", "I"})


def decode_picture(data: bytes, *, limits: DecodeLimits) -> Decoded | Rejection:
    """Decode a picture to grey; only the size is read before it is checked."""
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
        width, height = picture.size
        if width * height > limits.max_pixels:
            return too_large(width, height, limits)
        try:
            picture.load()
        except (OSError, SyntaxError) as error:
            # Pillow says so in words only: "image file is truncated (59 bytes not processed)".
            if "truncated" in str(error):
                return Rejection(
                    code=RejectionCode.TRUNCATED, reason="the picture ends early: the file is truncated"
                )
            raise
        pixels = _grey(_upright(picture))
    return Decoded(
        radiograph=Radiograph(
            pixels=pixels,
            source_width_px=pixels.shape[1],
            source_height_px=pixels.shape[0],
            polarity_known=False,
        ),
        header=None,
    )


def _upright(picture: Image.Image) -> Image.Image:
    """Turned as its EXIF says; as it is where the EXIF is damaged."""
    try:
        turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises whatever the damaged bytes make it raise
        turn = None
    return picture if turn is None else picture.transpose(turn)


def _grey(picture: Image.Image) -> NDArray[np.uint8] | NDArray[np.uint16]:
    if picture.mode in _SIXTEEN_BITS:
        return np.asarray(picture).clip(0, 65535).astype(np.uint16)
    if picture.mode in ("LA", "RGBA", "PA") or "transparency" in picture.info:
        seen = picture.convert("RGBA")
        black = Image.new("RGBA", seen.size, "black")
        picture = Image.alpha_composite(black, seen)
    return np.asarray(picture.convert("L"), dtype=np.uint8)


def too_large(width: int, height: int, limits: DecodeLimits) -> Rejection:
    return Rejection(
        code=RejectionCode.TOO_LARGE,
        reason=f"{width} × {height} pixels are declared, max_pixels allows {limits.max_pixels}",
    )
