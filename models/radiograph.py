"""A decoded radiograph and what the network is shown of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Radiograph:
    """One decoded radiograph.

    pixels: (h, w) uint8 or uint16, grey rising with display brightness: Modality LUT, VOI and MONOCHROME1 are
    applied. `h, w` may be smaller than the source by one factor, when it was decoded at reduced resolution.
    source_width_px, source_height_px: size of the source's pixel matrix; regions and heatmaps refer to it.
    polarity_known: True when the header fixes which end is bright (DICOM); False for PNG and JPEG.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    source_width_px: int
    source_height_px: int
    polarity_known: bool


@dataclass(frozen=True, kw_only=True)
class Region:
    """A rectangle in source pixels, x right and y down from the top left corner, with its peak score."""

    x: float
    y: float
    width: float
    height: float
    score: float
