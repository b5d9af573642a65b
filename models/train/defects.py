"""Synthetic defects for normal bone: what a network learns to point at, drawn from a seeded generator.

Every defect takes a crop (h, w) float32 (square root of grey, 0..1), a place on bone and returns the
changed crop.
Where it changed visibly is the label, so a defect that vanishes teaches nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
_VISIBLE = 0.022  # change of the square root of grey that an eye notices


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """A point on bone: x, y in pixels; along: direction of the bone, radians; bone: (h, w) soft mask 0..1."""

    x: float
    y: float
    along: float
    bone: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """A crop with its defects and the label (h, w) 0/1 of where they are."""

    crop: FloatArray
    label: FloatArray


def plant(
    crop: FloatArray, mask: FloatArray, donor: FloatArray, *, count: int, rng: np.random.Generator
) -> Planted:
    """`count` defects on the bone of a crop; fewer when there is no bone. donor: another crop to paste
    from."""
    changed = crop
    label = np.zeros_like(crop)
    for _ in range(count):
        place = bone_place(changed, mask, rng)
        if place is None:
            break
        draw = _DEFECTS[int(rng.choice(len(_DEFECTS), p=_SHARES))]
        after = np.clip(draw(changed, place, donor, rng), 0, 1).astype(np.float32) * (mask > 0)
        label = np.maximum(label, _visible_change(changed, after) * near_bone(place.bone))
        changed = after
    return Planted(crop=changed, label=label)


def bone_mask(crop: FloatArray, mask: FloatArray) -> FloatArray:
    """(h, w) soft mask 0..1 of what is denser than its surroundings."""
    weight = cv2.blur(mask, (41, 41)) + 1e-3
    mean = cv2.blur(crop * mask, (41, 41)) / weight
    inner = cv2.erode(mask, np.ones((7, 7), np.uint8))
    soft = np.clip((cv2.GaussianBlur(crop, (0, 0), 1) - mean - 0.01) / 0.04, 0, 1) * inner
    return np.asarray(cv2.GaussianBlur(soft, (0, 0), 1), np.float32)


def near_bone(bone: FloatArray) -> FloatArray:
    """(h, w) 0/1: bone and a little around it; skin that moved along is no defect."""
    return np.asarray(cv2.dilate((bone > 0.3).astype(np.uint8), np.ones((9, 9), np.uint8)), np.float32)


def bone_place(crop: FloatArray, mask: FloatArray, rng: np.random.Generator) -> Place | None:
    """A random point on bone away from the crop's edge; None when the crop shows none."""
    bone = bone_mask(crop, mask)
    edge = crop.shape[0] // 10
    rows, columns = np.nonzero(bone[edge:-edge, edge:-edge] > 0.5)
    if rows.size < 40:
        return None
    pick = int(rng.integers(rows.size))
    x, y = float(columns[pick] + edge), float(rows[pick] + edge)
    return Place(x=x, y=y, along=_bone_direction(crop, x, y), bone=bone)


def _bone_direction(crop: FloatArray, x: float, y: float) -> float:
    """Direction in which the picture changes least around a point (structure tensor)."""
    radius = 14
    top, left = max(0, int(y) - radius), max(0, int(x) - radius)
    around = cv2.GaussianBlur(crop[top : int(y) + radius, left : int(x) + radius], (0, 0), 1)
    down, across = np.gradient(around)
    xx, yy, xy = float((across**2).sum()), float((down**2).sum()), float((across * down).sum())
    return 0.5 * float(np.arctan2(2 * xy, xx - yy)) + np.pi / 2


def _visible_change(before: FloatArray, after: FloatArray) -> FloatArray:
    """(h, w) 0/1: changed enough to be seen, grown so that a thin line makes a target worth hitting."""
    change = cv2.GaussianBlur(np.abs(after - before), (0, 0), 1.0) > _VISIBLE
    grown = cv2.morphologyEx(change.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    return np.asarray(cv2.dilate(grown, np.ones((3, 3), np.uint8)), np.float32)


# ---- fracture lines
# ------------------------------------------------------------------------------------------


def _crossing_angle(place: Place, rng: np.random.Generator) -> float:
    """Mostly across the bone, sometimes oblique, rarely along it."""
    spread = rng.choice([0.25, 0.7, 1.5], p=[0.55, 0.33, 0.12])
    return place.along + np.pi / 2 + float(rng.normal(0, spread))


def _polyline(place: Place, angle: float, length: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A wobbling line through the place, (n, 2) points."""
    steps = max(4, int(length / 3))
    position = np.linspace(-0.5, 0.5, steps) * length + float(rng.uniform(-0.25, 0.25)) * length
    wobble = np.cumsum(rng.normal(0, rng.uniform(0.2, 1.3), steps))
    wobble -= wobble[steps // 2]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack(
        [place.x + position * cos - wobble * sin, place.y + position * sin + wobble * cos], axis=1
    )


def _line_image(
    shape: tuple[int, ...], points: NDArray[np.float64], thickness: int, blur: float
) -> FloatArray:
    picture = np.zeros(shape, np.float32)
    cv2.polylines(picture, [np.rint(points * 16).astype(np.int32)], False, 1.0, thickness, cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), blur), np.float32)


def _fracture_line(crop: FloatArray, place: Place, _: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A thin dark line (bright where fragments overlap) across the bone, with branches."""
    angle = _crossing_angle(place, rng)
    length = float(rng.uniform(10, 46))
    picture = _line_image(
        crop.shape, _polyline(place, angle, length, rng), int(rng.choice([1, 1, 2])), rng.uniform(0.5, 1.1)
    )
    for _branch in range(int(rng.choice([0, 1, 2], p=[0.6, 0.3, 0.1]))):
        turned = angle + float(rng.choice([-1, 1]) * rng.uniform(0.4, 1.3))
        branch = _line_image(crop.shape, _polyline(place, turned, length * 0.5, rng), 1, 0.7)
        picture = np.maximum(picture, branch)
    depth = float(rng.uniform(0.05, 0.2)) * (1.0 if rng.random() < 0.25 else -1.0)
    return crop + depth * picture * (0.15 + 0.85 * place.bone)


# ---- displaced, angulated, impacted fragments
# ------------------------------------------------------------------


def _across_and_along(
    shape: tuple[int, ...], place: Place, angle: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Coordinates along the break (t) and at right angles to it (s, ragged at the break)."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    t = (columns - place.x) * cos + (rows - place.y) * sin
    s = -(columns - place.x) * sin + (rows - place.y) * cos
    ragged = rng.uniform(0, 2.5) * np.sin(t * rng.uniform(0.2, 0.9) + rng.uniform(0, 6.3))
    return t.astype(np.float32), (s + ragged).astype(np.float32)


def _displaced_fragment(
    crop: FloatArray, place: Place, _: FloatArray, rng: np.random.Generator
) -> FloatArray:
    """One side of a break shifted and tilted, the gap dark or the overlap dense."""
    angle = _crossing_angle(place, rng)
    t, s = _across_and_along(crop.shape, place, angle, rng)
    reach, width = float(rng.uniform(10, 34)), float(rng.uniform(10, 26))
    # Full effect beside the break on one side, none on the other, fading with distance along and across.
    effect = (s > 0) * np.exp(-((s / reach) ** 2)) * np.exp(-((np.abs(t) / width) ** 3))
    shift = float(rng.choice([-1, 1]) * rng.uniform(1.0, 5.5))
    impaction = float(rng.normal(0, 2.2))
    tilt = float(rng.normal(0, 0.13))
    along_break = effect * (shift - tilt * s)
    across_break = effect * (impaction + tilt * t)
    moved = _remap(
        crop,
        along_break * np.cos(angle) - across_break * np.sin(angle),
        along_break * np.sin(angle) + across_break * np.cos(angle),
    )
    band = np.exp(-((s / rng.uniform(1.0, 4.0)) ** 2)) * np.exp(-((t / width) ** 2))
    shade = 0.0 if rng.random() < 0.35 else float(rng.uniform(0.03, 0.13)) * (1 if impaction > 0 else -1)
    return np.asarray(moved + shade * band * place.bone, np.float32)


def _impaction_band(crop: FloatArray, place: Place, _: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A dense, ragged band across the bone where it was driven into itself, the cortex bulging beside it."""
    angle = _crossing_angle(place, rng)
    t, s = _across_and_along(crop.shape, place, angle, rng)
    width, height = float(rng.uniform(8, 24)), float(rng.uniform(1.5, 5))
    band = np.exp(-((s / height) ** 2)) * np.exp(-((np.abs(t) / width) ** 3))
    grain = cv2.GaussianBlur(rng.normal(0, 1, crop.shape).astype(np.float32), (0, 0), 1.5)
    bulged = _remap(
        crop, *(-float(rng.uniform(0.0, 0.12)) * t * band * axis for axis in (np.cos(angle), np.sin(angle)))
    )
    dense = float(rng.uniform(0.04, 0.15)) * (1.0 if rng.random() < 0.75 else -1.0)
    return np.asarray(bulged + dense * band * (1 + 0.8 * grain) * (0.1 + 0.9 * place.bone), np.float32)


def _cortical_bulge(crop: FloatArray, place: Place, _: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A buckle: the cortex pushed out or in at right angles to the bone."""
    rows, columns = np.mgrid[0 : crop.shape[0], 0 : crop.shape[1]].astype(np.float32)
    along, across = float(rng.uniform(2.5, 7)), float(rng.uniform(5, 14))
    cos, sin = np.cos(place.along), np.sin(place.along)
    u = (columns - place.x) * cos + (rows - place.y) * sin
    v = -(columns - place.x) * sin + (rows - place.y) * cos
    push = float(rng.choice([-1, 1]) * rng.uniform(1.5, 4.5)) * np.exp(
        -((u / along) ** 2) - (v / across) ** 2
    )
    return _remap(crop, -push * sin, push * cos)


def _remap(crop: FloatArray, move_x: NDArray[np.floating], move_y: NDArray[np.floating]) -> FloatArray:
    rows, columns = np.mgrid[0 : crop.shape[0], 0 : crop.shape[1]].astype(np.float32)
    x, y = (columns + move_x).astype(np.float32), (rows + move_y).astype(np.float32)
    return np.asarray(cv2.remap(crop, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101), np.float32)


# ---- densities, pasted and smoothed patches
# --------------------------------------------------------------------


def _soft_shape(shape: tuple[int, ...], place: Place, size: float, rng: np.random.Generator) -> FloatArray:
    """An irregular soft-edged shape around the place, 0..1."""
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    radii = size * rng.uniform(0.45, 1.2, 8)
    stretch = rng.uniform(0.5, 1.0)
    corners = np.stack([place.x + radii * np.cos(angles), place.y + stretch * radii * np.sin(angles)], axis=1)
    picture = np.zeros(shape, np.float32)
    cv2.fillPoly(picture, [np.rint(corners).astype(np.int32)], 1.0)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 2.5)), np.float32)


def _density(crop: FloatArray, place: Place, _: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A lucent or dense spot."""
    change = float(rng.choice([-1, 1]) * rng.uniform(0.05, 0.16))
    return crop + change * _soft_shape(crop.shape, place, rng.uniform(3, 9), rng) * (0.3 + 0.7 * place.bone)


def _chip(crop: FloatArray, place: Place, _: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A small dense fragment lying beside the bone."""
    away = float(rng.choice([-1, 1]) * rng.uniform(3, 9))
    beside = Place(
        x=place.x - away * np.sin(place.along),
        y=place.y + away * np.cos(place.along),
        along=0.0,
        bone=place.bone,
    )
    return crop + float(rng.uniform(0.08, 0.2)) * _soft_shape(crop.shape, beside, rng.uniform(1.5, 4), rng)


def _pasted_patch(crop: FloatArray, place: Place, donor: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A patch of another radiograph, or of this one turned, at matched brightness."""
    shape = _soft_shape(crop.shape, place, rng.uniform(6, 17), rng)
    source = donor if rng.random() < 0.5 else crop
    turn = float(rng.uniform(25, 335))
    matrix = cv2.getRotationMatrix2D((place.x, place.y), turn, float(rng.uniform(0.85, 1.15)))
    matrix = matrix + np.append(np.zeros((2, 2)), rng.normal(0, 3, (2, 1)), axis=1)
    size = (crop.shape[1], crop.shape[0])
    turned = cv2.warpAffine(source, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    weight = shape.sum() + 1e-3
    matched = turned + ((crop - turned) * shape).sum() / weight
    return np.asarray(crop * (1 - shape) + matched * shape, np.float32)


def _smoothed(crop: FloatArray, place: Place, _: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Trabeculae and cortex blurred away."""
    shape = _soft_shape(crop.shape, place, rng.uniform(6, 14), rng)
    return np.asarray(
        crop * (1 - shape) + cv2.GaussianBlur(crop, (0, 0), rng.uniform(2.0, 4.0)) * shape, np.float32
    )


_Defect = Callable[[FloatArray, Place, FloatArray, np.random.Generator], FloatArray]
_DEFECTS: tuple[_Defect, ...] = (
    _fracture_line,
    _displaced_fragment,
    _impaction_band,
    _cortical_bulge,
    _density,
    _chip,
    _pasted_patch,
    _smoothed,
)
# What fractures look like most often comes most often; densities and pasted patches keep the net from
# overfitting it.
_SHARES = (0.22, 0.30, 0.15, 0.10, 0.06, 0.05, 0.09, 0.03)
