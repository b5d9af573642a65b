"""The colours of the anomaly map: even steps for the eye, safe for colour-blind readers.

Where a map value lies among the scores of normal radiographs decides colour and opacity: what half of the
normals reach somewhere stays transparent, so that an ordinary hand stays plain, and the anatomy shows through
every colour.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from models.package import Calibration

Picture = NDArray[np.uint8]

OUTLINE: Final = (64, 224, 255)  # of regions: far from every colour of the map, and from grey
_MOST_OPAQUE: Final = 0.6
_OPACITY_POWER: Final = 0.8
# The part of the inferno map from violet to yellow: its dark beginning would look like a shadow on the bone.
_FIRST_COLOUR: Final = 90
_LAST_COLOUR: Final = 245
_PERCENTILES: Final = (50, 80, 95, 100)
_LEVELS: Final = 256


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A mark on the colour bar: position 0 (transparent) to 1 (most opaque)."""

    position: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Scale:
    """From map values to colours. values: rising map values; positions: theirs on the colour bar, 0 to 1."""

    values: tuple[float, ...]
    positions: tuple[float, ...]
    ticks: tuple[Tick, ...]

    @classmethod
    def of(cls, calibration: Calibration) -> Self:
        """By percentile of the normals' scores where the map has their units, else from floor to ceiling."""
        quantiles = calibration.score_quantiles
        if not quantiles[0] <= calibration.region_threshold <= quantiles[-1]:
            values = (calibration.map_floor, calibration.map_ceiling)
            return cls(values=values, positions=(0.0, 1.0), ticks=())
        known = tuple(quantiles[percentile] for percentile in _PERCENTILES)
        step = 1 / len(known)
        positions = tuple(index * step for index in range(len(known) + 1))
        ticks = (
            Tick(position=position, label=f"{percentile}%")
            for percentile, position in zip(_PERCENTILES, positions, strict=False)
        )
        # Room above the highest normal, so that "higher than all" still has steps.
        ceiling = max(calibration.map_ceiling, 2 * known[-1] - known[-2])
        return cls(values=(*known, ceiling), positions=positions, ticks=tuple(ticks))

    def position(self, value: float) -> float:
        return float(np.interp(value, self.values, self.positions))

    def levels(self, anomaly_map: NDArray[np.float32]) -> Picture:
        """(h, w) uint8, linear from the first to the last value, saturating."""
        factor = (_LEVELS - 1) / max(self.values[-1] - self.values[0], 1e-6)
        shift = -self.values[0] * factor
        return np.asarray(
            cv2.addWeighted(anomaly_map, factor, anomaly_map, 0.0, shift, dtype=cv2.CV_8U), np.uint8
        )

    def positions_of_levels(self) -> NDArray[np.float64]:
        values = np.linspace(self.values[0], self.values[-1], _LEVELS)
        return np.interp(values, self.values, self.positions)


def overlay(grey: Picture, anomaly_map: NDArray[np.float32], scale: Scale) -> Picture:
    """(h, w, 3) RGB: the grey radiograph with the map over it; below the scale it stays as it is."""
    level = scale.levels(anomaly_map)
    picture = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)
    touched = np.flatnonzero(level)
    picture.reshape(-1, 3)[touched] = _mixture(scale)[level.ravel()[touched], grey.ravel()[touched]]
    return picture


def bar(width_px: int, height_px: int, grey: int) -> Picture:
    """(h, w, 3) RGB: the colours from position 0 to 1 as they look over one grey."""
    row = _mix(np.linspace(0, 1, width_px), np.array([grey]))
    return np.repeat(row.reshape(1, width_px, 3), height_px, axis=0)


@lru_cache(maxsize=8)
def _mixture(scale: Scale) -> Picture:
    """(256 levels, 256 greys, 3): every possible result, so that drawing is one look-up per pixel."""
    return _mix(scale.positions_of_levels(), np.arange(256))


def _mix(positions: NDArray[np.float64], greys: NDArray[np.integer]) -> Picture:
    """(positions, greys, 3)"""
    ramp = (_FIRST_COLOUR + positions * (_LAST_COLOUR - _FIRST_COLOUR)).round().astype(np.uint8)
    inferno = cv2.applyColorMap(ramp.reshape(-1, 1), cv2.COLORMAP_INFERNO)
    colours = cv2.cvtColor(inferno, cv2.COLOR_BGR2RGB).reshape(-1, 1, 3)
    opacity = (_MOST_OPAQUE * positions**_OPACITY_POWER).reshape(-1, 1, 1)
    return np.asarray((greys.reshape(1, -1, 1) * (1 - opacity) + colours * opacity).round(), np.uint8)
