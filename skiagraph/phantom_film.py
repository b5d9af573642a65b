"""The film under a drawn hand: where millimetres lie on it, how rays expose it, and the marker on it."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from skiagraph.phantom_anatomy import Point

Map = NDArray[np.float32]
MAX_GREY = 4095  # 12 bits stored

_FIELD_MM = (225.0, 281.0)  # what a film of 4:5 shows


@dataclass(frozen=True, kw_only=True)
class Film:
    """Where millimetres of the hand lie on the film: rotation, scale and mirror."""

    width: int
    height: int
    px_per_mm: float
    matrix: NDArray[np.float64]  # 2×3, hand mm -> px

    def to_px(self, points: list[Point] | tuple[Point, ...]) -> NDArray[np.float64]:
        found = np.asarray(points, dtype=np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]
        return np.asarray(found, dtype=np.float64)

    def patch(self, points: list[Point], margin_mm: float) -> tuple[tuple[slice, slice], Map, Map]:
        """The part of the film around `points`: its slices, and x and y in hand mm of each of its pixels."""
        px = self.to_px(points)
        margin = margin_mm * self.px_per_mm + 2
        left, top = (int(max(v, 0)) for v in np.floor(px.min(axis=0) - margin))
        right, bottom = np.ceil(px.max(axis=0) + margin).astype(int) + 1
        right, bottom = max(left, min(int(right), self.width)), max(top, min(int(bottom), self.height))
        ys, xs = np.mgrid[top:bottom, left:right]
        back = np.linalg.inv(self.matrix[:, :2])
        dx, dy = xs - self.matrix[0, 2], ys - self.matrix[1, 2]
        x_mm = np.asarray(back[0, 0] * dx + back[0, 1] * dy, dtype=np.float32)
        y_mm = np.asarray(back[1, 0] * dx + back[1, 1] * dy, dtype=np.float32)
        return (slice(top, bottom), slice(left, right)), x_mm, y_mm


def place_film(rng: np.random.Generator, width: int, height: int, laterality: str) -> Film:
    px_per_mm = min(width / _FIELD_MM[0], height / _FIELD_MM[1])
    scale = px_per_mm * rng.uniform(0.97, 1.06)
    turn = np.deg2rad(rng.normal(0, 3.5))
    # Seen from the back, fingers up, a right hand has its thumb on the left.
    mirror = -1.0 if laterality == "R" else 1.0
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = scale * turned @ np.array([[mirror, 0.0], [0.0, -1.0]])
    middle = np.array([8.0, 78.0])  # of the hand, mm
    centre = np.array([width / 2, height * 0.47]) + px_per_mm * rng.uniform(-5, 5, 2)
    return Film(
        width=width,
        height=height,
        px_per_mm=scale,
        matrix=np.column_stack([linear, centre - linear @ middle]),
    )


def expose(attenuation: Map, film: Film, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Detector blur, scatter, quantum noise, heel effect, and a display curve to 12 bits."""
    blurred = cv2.GaussianBlur(attenuation, (0, 0), max(0.4, 0.16 * film.px_per_mm))
    scatter = cv2.GaussianBlur(
        cv2.resize(attenuation, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA), (0, 0), 6
    )
    scatter = cv2.resize(scatter, (film.width, film.height), interpolation=cv2.INTER_LINEAR)
    ys, xs = np.mgrid[0 : film.height, 0 : film.width].astype(np.float32)
    tilt = rng.uniform(-0.05, 0.05, 2)
    heel = tilt[0] * (ys / film.height - 0.5) + tilt[1] * (xs / film.width - 0.5)
    stripes = 0.006 * cv2.GaussianBlur(rng.standard_normal((1, film.width)).astype(np.float32), (0, 0), 2.0)
    signal = blurred + 0.10 * scatter + 0.12 + heel + stripes
    grain = cv2.GaussianBlur(rng.standard_normal(attenuation.shape, dtype=np.float32), (0, 0), 0.8)
    signal += grain * (0.018 + 0.012 * np.sqrt(np.clip(blurred, 0, None)))
    curve = 1 - np.exp(-0.70 * np.clip(signal, 0, None))
    return np.asarray(np.clip(np.round(curve * 4700), 0, MAX_GREY), dtype=np.uint16)


def stamp_marker(pixels: NDArray[np.uint16], film: Film, laterality: str) -> None:
    """A lead letter beside the little finger's tip, clear of the hand."""
    size = film.px_per_mm * 0.42
    x = 0.86 if laterality == "R" else 0.07
    spot = np.zeros(pixels.shape, np.uint8)
    where = (int(film.width * x), int(film.height * 0.12))
    cv2.putText(
        spot, laterality, where, cv2.FONT_HERSHEY_DUPLEX, size, 255, max(1, round(size * 2.2)), cv2.LINE_AA
    )
    lead = cv2.GaussianBlur(spot.astype(np.float32) / 255, (0, 0), max(0.4, 0.12 * film.px_per_mm))
    pixels[:] = np.clip(pixels + lead * (3650 - pixels.astype(np.float32)), 0, MAX_GREY).astype(np.uint16)


def smooth_noise(rng: np.random.Generator, film: Film, grain_mm: float) -> Map:
    """Smooth noise of unit deviation; grain_mm: its scale."""
    factor = max(1.0, grain_mm * film.px_per_mm)
    small = (max(2, round(film.height / factor)), max(2, round(film.width / factor)))
    coarse = rng.standard_normal(small, dtype=np.float32)
    return np.asarray(
        cv2.resize(coarse, (film.width, film.height), interpolation=cv2.INTER_CUBIC), dtype=np.float32
    )
