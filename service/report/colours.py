"""The colours of the anomaly map: even steps for the eye, safe for colour-blind readers.

The map's range from `Calibration.map_floor` to `Calibration.map_ceiling` becomes 256 levels. Level 0 is transparent,
so that what is ordinary among normal radiographs stays plain; the anatomy shows through every level.
"""

from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.package import Calibration

Picture = NDArray[np.uint8]

OUTLINE: Final = (64, 224, 255)  # of regions: far from every colour of the map, and from grey
_MOST_OPAQUE: Final = 0.55
_OPACITY_POWER: Final = 1.6  # low levels fade out instead of tinting a whole normal hand
# The part of the inferno map from purple to yellow: its dark beginning would look like a shadow on the bone.
_FIRST_COLOUR: Final = 95
_LAST_COLOUR: Final = 240


def levels(anomaly_map: NDArray[np.float32], calibration: Calibration) -> Picture:
    """(h, w) uint8: the map's place between floor and ceiling; saturating, NaN counts as floor."""
    span = max(calibration.map_ceiling - calibration.map_floor, 1e-6)
    scale = 255.0 / span
    shift = -calibration.map_floor * scale
    return np.asarray(cv2.addWeighted(anomaly_map, scale, anomaly_map, 0.0, shift, dtype=cv2.CV_8U), np.uint8)


def overlay(grey: Picture, level: Picture) -> Picture:
    """(h, w, 3) RGB: the grey radiograph with the levels drawn over it; at level 0 it stays as it is."""
    picture = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)
    touched = np.flatnonzero(level.ravel() >= _first_visible())
    mixed = _mixture()[level.ravel()[touched], grey.ravel()[touched]]
    picture.reshape(-1, 3)[touched] = mixed
    return picture


def opacity(level: int) -> float:
    return float(_MOST_OPAQUE * (level / 255.0) ** _OPACITY_POWER)


@cache
def _first_visible() -> int:
    return next(level for level in range(256) if opacity(level) >= 0.02)


@cache
def _mixture() -> Picture:
    """(256 levels, 256 greys, 3): every possible result, so that drawing is one look-up per pixel."""
    ramp = np.linspace(_FIRST_COLOUR, _LAST_COLOUR, 256).round().astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB).reshape(
        256, 1, 3
    )
    opaque = np.array([opacity(level) for level in range(256)]).reshape(256, 1, 1)
    greys = np.arange(256).reshape(1, 256, 1)
    return np.asarray((greys * (1 - opaque) + colours * opaque).round(), np.uint8)
