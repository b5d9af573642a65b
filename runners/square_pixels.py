"""Radiographs whose pixels are not square, shown to gate and network as people see them."""

from dataclasses import replace
from typing import Any, Final

import cv2
from numpy.typing import NDArray

from models.radiograph import Radiograph
from models.rejection import Rejection, RejectionCode

_SQUARE: Final = 0.01  # spacings are rounded: nearer to 1 than this is square
_ODD: Final = 4.0  # no detector: an error in the header


def with_square_pixels(radiograph: Radiograph, aspect: float) -> Radiograph | Rejection:
    """The same radiograph with the finer axis shrunk; regions and maps still refer to the source's matrix.

    aspect: height of a pixel by its width.
    """
    if abs(aspect - 1) < _SQUARE:
        return radiograph
    if not 1 / _ODD <= aspect <= _ODD:
        return Rejection(
            code=RejectionCode.INVALID_HEADER,
            reason=f"by the header each pixel is {aspect:.3g} times as high as wide: that is no detector",
        )
    height, width = radiograph.pixels.shape
    size = (round(width / aspect), height) if aspect > 1 else (width, round(height * aspect))
    pixels: NDArray[Any] = radiograph.pixels
    shrunk: NDArray[Any] = cv2.resize(
        pixels, (max(1, size[0]), max(1, size[1])), interpolation=cv2.INTER_AREA
    )
    return replace(radiograph, pixels=shrunk)
