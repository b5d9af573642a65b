"""Drawn hand radiographs with a planted, known defect: for demonstrations and tests, not to claim quality.

Everything is made by this file and `phantom_anatomy`: no picture of a person is used, no model trains on it.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from skiagraph.phantom_anatomy import (
    Break,
    Hand,
    LongBone,
    Point,
    ShortBone,
    beyond,
    half_width,
    make_hand,
)
from skiagraph.wrap import DxLabels, dx_instance, seeded_uid

Map = NDArray[np.float32]
MAX_GREY = 4095  # 12 bits stored

_FIELD_MM = (225.0, 281.0)  # what a film of 4:5 shows
_SOFT, _CORTEX, _MEDULLA = 0.021, 0.185, 0.026  # attenuation per mm
_TRUTH_MARGIN_MM = 1.0


class PhantomKind(StrEnum):
    PLAIN = "plain"
    FRACTURE = "fracture"
    FOREIGN_BODY = "foreign_body"


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle in pixels: x right and y down, the pixel (x, y) is its top left corner."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Phantom:
    """A drawn radiograph: pixels (h, w) uint16 of 12 bits, bright bone; truth: the planted defects."""

    pixels: NDArray[np.uint16]
    truth: tuple[Box, ...]
    kind: PhantomKind
    seed: int
    laterality: Literal["L", "R"]
    pixel_spacing_mm: float


@dataclass(frozen=True, kw_only=True)
class _Film:
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


def draw(
    kind: PhantomKind,
    *,
    seed: int,
    width: int = 1024,
    height: int = 1280,
    laterality: Literal["L", "R"] = "R",
) -> Phantom:
    """Draw one hand in posteroanterior view, fingers up; the same arguments give the same pixels.

    The same seed and another `kind` give the same hand on the same film, but for the defect.
    """
    if min(width, height) < 64:
        raise ValueError(
            f"a phantom of {width}×{height} px is too small to show a hand: ask for 64 px or more"
        )
    rng = np.random.default_rng(seed)
    anatomy_seed, film_seed, texture_seed, defect_seed = rng.integers(0, 2**31, 4)
    defect = np.random.default_rng(defect_seed)
    broken = _choose_fracture(defect) if kind is PhantomKind.FRACTURE else None
    hand = make_hand(np.random.default_rng(anatomy_seed), broken)
    film = _place(np.random.default_rng(film_seed), width, height, laterality)
    texture = np.random.default_rng(texture_seed)

    soft = _soft_tissue(hand, film, texture)
    cortex, medulla = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    for long_bone in hand.long_bones:
        _add_long_bone(long_bone, film, cortex, medulla)
    for short_bone in hand.short:
        _add_short_bone(short_bone, film, cortex, medulla)
    trabeculae = _trabeculae(texture, film)
    attenuation = _SOFT * soft + _CORTEX * cortex + _MEDULLA * medulla * trabeculae

    truth: tuple[Box, ...] = ()
    if broken is not None:
        bone = hand.rays[broken[0]][broken[1]]
        truth = (_fracture_box(bone, film),)
    if kind is PhantomKind.FOREIGN_BODY:
        metal = _foreign_body(defect, film, soft, cortex + medulla)
        attenuation += 2.6 * metal
        truth = (_box_of(metal > 0.05),)

    pixels = _expose(attenuation, film, texture)
    _stamp_marker(pixels, film, laterality)
    return Phantom(
        pixels=pixels,
        truth=truth,
        kind=kind,
        seed=seed,
        laterality=laterality,
        pixel_spacing_mm=1 / film.px_per_mm,
    )


def as_dicom(
    phantom: Phantom,
    *,
    patient_id: str = "PHANTOM",
    patient_name: str = "PHANTOM^SYNTHETIC",
    study_instance_uid: str | None = None,
    series_instance_uid: str | None = None,
    instance_number: int = 1,
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2",
    **attributes: Any,
) -> Dataset:
    """A DX For Presentation instance that says in its header that it is drawn.

    UIDs not given follow from kind, seed, size and side: the same phantom has the same UIDs. `attributes` are
    DICOM keywords set last, so that a test can say anything.
    """
    height, width = phantom.pixels.shape
    key = f"phantom/{phantom.kind}/{phantom.seed}/{width}x{height}/{phantom.laterality}/{photometric}"
    dataset = dx_instance(
        phantom.pixels,
        bits_stored=12,
        photometric=photometric,
        labels=DxLabels(
            patient_id=patient_id,
            patient_name=patient_name,
            study_description="SYNTHETIC PHANTOM, no patient",
            series_description=f"Drawn hand, {phantom.kind.replace('_', ' ')}",
            image_comments="Synthetic phantom drawn by software. Not a radiograph of a person.",
            derivation="Drawn by Skiagraph, seed " + str(phantom.seed),
            laterality=phantom.laterality,
            body_part="HAND",
            view_position="PA",
        ),
        study_instance_uid=study_instance_uid or seeded_uid(key + "/study"),
        series_instance_uid=series_instance_uid or seeded_uid(f"{key}/series/{study_instance_uid}"),
        sop_instance_uid=seeded_uid(f"{key}/instance/{study_instance_uid}/{instance_number}"),
        instance_number=instance_number,
        pixel_spacing_mm=phantom.pixel_spacing_mm,
    )
    dataset.QualityControlSubject = "YES"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def _place(rng: np.random.Generator, width: int, height: int, laterality: str) -> _Film:
    px_per_mm = min(width / _FIELD_MM[0], height / _FIELD_MM[1])
    scale = px_per_mm * rng.uniform(0.97, 1.06)
    turn = np.deg2rad(rng.normal(0, 3.5))
    # Seen from the back, fingers up, a right hand has its thumb on the left.
    mirror = -1.0 if laterality == "R" else 1.0
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = scale * turned @ np.array([[mirror, 0.0], [0.0, -1.0]])
    middle = np.array([8.0, 78.0])  # of the hand, mm
    centre = np.array([width / 2, height * 0.47]) + px_per_mm * rng.uniform(-5, 5, 2)
    return _Film(
        width=width,
        height=height,
        px_per_mm=scale,
        matrix=np.column_stack([linear, centre - linear @ middle]),
    )


def _soft_tissue(hand: Hand, film: _Film, rng: np.random.Generator) -> Map:
    """Thickness of the soft tissue in mm: rounded towards the skin."""
    mask: NDArray[np.uint8] = np.zeros((film.height, film.width), np.uint8)
    for outline in (hand.palm, hand.arm):
        cv2.fillPoly(mask, [np.round(film.to_px(outline)).astype(np.int32)], 255)
    reach = max(3, int(9 * film.px_per_mm) | 1)
    # Rounds the corners of the polygons: skin has none.
    mask = np.where(cv2.GaussianBlur(mask, (reach, reach), 0) > 127, 255, 0).astype(np.uint8)
    for number, ray in enumerate(hand.rays):
        thick = 10.6 if number == 0 else (8.6 if number == 4 else 9.6)
        _draw_finger(mask, ray, film, thick)
    close = max(3, int(2.5 * film.px_per_mm) | 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (close, close))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc).astype(np.uint8)
    small = max(3, int(2.5 * film.px_per_mm) | 1)
    mask = np.where(cv2.GaussianBlur(mask, (small, small), 0) > 127, 255, 0).astype(np.uint8)
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5) / film.px_per_mm
    full = 15.0  # mm from the skin to full thickness
    rise = np.clip(depth / full, 0, 1)
    thickness = 2 * full * 0.85 * np.sqrt(1 - (1 - rise) ** 2)
    thenar = _bump(film, hand.rays[0][0].place(hand.rays[0][0].length * 0.4, -7), 17.0)
    hypothenar = _bump(film, hand.rays[4][0].place(hand.rays[4][0].length * 0.35, -4), 14.0)
    wrist = _bump(film, (0.0, -45.0), 60.0)
    uneven = 1 + 0.05 * _noise(rng, film, 9.0) + 0.03 * _noise(rng, film, 2.5)
    thickness *= (1 + 0.35 * thenar + 0.2 * hypothenar + 0.35 * wrist) * uneven
    return np.asarray(cv2.GaussianBlur(thickness, (0, 0), 0.35 * film.px_per_mm), dtype=np.float32)


def _draw_finger(mask: NDArray[np.uint8], ray: tuple[LongBone, ...], film: _Film, thick: float) -> None:
    shift = 4
    tip = len(ray) - 1
    for index, bone in enumerate(ray[1:], start=1):
        for part in np.linspace(0, 1, 16):
            along = part * (bone.length + 1.5)
            centre = beyond(bone, along)[0] if bone.broken and part > bone.broken.at else bone.place(along)
            taper = 1 - 0.11 * (index - 1 + part) - (0.10 * part**3 if index == tip else 0)
            knuckle = 1 + 0.05 * abs(2 * part - 1) ** 3
            x, y = film.to_px([centre])[0]
            radius = thick * taper * knuckle * film.px_per_mm
            cv2.circle(
                mask,
                (round(x * 2**shift), round(y * 2**shift)),
                round(radius * 2**shift),
                255,
                -1,
                cv2.LINE_8,
                shift,
            )


def _add_long_bone(bone: LongBone, film: _Film, cortex: Map, medulla: Map) -> None:
    ends = [bone.base, bone.head, beyond(bone, bone.length)[0]]
    window, x, y = film.patch(ends, margin_mm=bone.base_width + 4)
    along, across = _along_across(bone, x, y)
    if bone.broken is None:
        _add_tube(bone, along, across, np.ones_like(along), film, cortex[window], medulla[window])
        return
    broken, pivot = bone.broken, bone.broken.at * bone.length
    jag = _jag(across)
    near = _soft_step(pivot - broken.gap_mm / 2 + broken.slope * across + jag - along, film)
    _add_tube(bone, along, across, near, film, cortex[window], medulla[window])
    turn = np.deg2rad(broken.turn_degrees)
    a, c = along - pivot, across - broken.shift_mm
    far_along = np.asarray(pivot + a * np.cos(turn) + c * np.sin(turn), np.float32)
    far_across = np.asarray(c * np.cos(turn) - a * np.sin(turn), np.float32)
    jag = _jag(far_across)
    far = _soft_step(far_along - (pivot + broken.gap_mm / 2 + broken.slope * far_across + jag), film)
    _add_tube(bone, far_along, far_across, far, film, cortex[window], medulla[window])


def _jag(across: Map) -> Map:
    """How far the fracture line strays from straight, in mm along the bone."""
    return np.asarray(0.4 * np.sin(across * 1.3) + 0.2 * np.sin(across * 3.1 + 1), dtype=np.float32)


def _add_tube(
    bone: LongBone, along: Map, across: Map, visible: Map, film: _Film, cortex: Map, medulla: Map
) -> None:
    """Chords through a tube: outer minus inner is cortex, inner is medulla. Adds in place."""
    width = half_width(bone, along)
    t = np.clip(along / bone.length, 0, 1)
    # The wall is thick at mid-shaft and a thin plate at the ends.
    wall = 0.30 * bone.shaft_width * np.exp(-((np.abs(t - 0.5) / 0.34) ** 3)) + 0.45
    inside = np.clip(width - wall, 0, None)
    depth_limit = np.minimum(along, bone.length - along) - 0.5
    inside = np.where(
        depth_limit > 0, np.minimum(inside, np.sqrt(np.clip(depth_limit, 0, None) * 2.2 * bone.base_width)), 0
    )
    outer, inner = _chord(width, across), _chord(inside, across)
    flat = visible * np.minimum(1, 5.5 / np.maximum(width, 1e-3))  # wide ends are flatter than round
    cortex += flat * np.clip(outer - inner, 0, 1.6 * bone.shaft_width + 1.0) * 0.72
    medulla += flat * inner


def _add_short_bone(bone: ShortBone, film: _Film, cortex: Map, medulla: Map) -> None:
    window, x, y = film.patch([bone.centre], margin_mm=max(bone.radii) * 1.3)
    turn = np.deg2rad(bone.angle)
    dx, dy = x - bone.centre[0], y - bone.centre[1]
    u = (dx * np.cos(turn) - dy * np.sin(turn)) / bone.radii[0]
    v = (dx * np.sin(turn) + dy * np.cos(turn)) / bone.radii[1]
    theta = np.arctan2(v, u)
    edge = np.ones_like(theta)
    for harmonic, (amplitude, phase) in enumerate(bone.bumps, start=2):
        edge += amplitude * np.cos(harmonic * theta + phase)
    # Squarer than an ellipsoid, so that the middle is flat and the rim reads as a cortical line.
    r = np.sqrt(u * u + v * v) / edge
    size = min(bone.radii)
    wall = min(0.13, 0.8 / size)
    outer = np.clip(1 - r**3.0, 0, 1) ** 0.5
    inner = np.clip(1 - (r / (1 - wall)) ** 3.0, 0, 1) ** 0.5 * (1 - wall)
    cortex[window] += np.asarray(1.05 * size * (outer - inner), np.float32)
    medulla[window] += np.asarray(2.3 * size * inner, np.float32)


def _along_across(bone: LongBone, x: Map, y: Map) -> tuple[Map, Map]:
    angle = np.deg2rad(bone.angle)
    ux, uy = np.float32(np.sin(angle)), np.float32(np.cos(angle))
    dx, dy = x - np.float32(bone.base[0]), y - np.float32(bone.base[1])
    return dx * ux + dy * uy, dx * uy - dy * ux


def _chord(radius: Map, across: Map) -> Map:
    return np.asarray(2 * np.sqrt(np.clip(radius**2 - across**2, 0, None)), dtype=np.float32)


def _soft_step(distance_mm: Map, film: _Film) -> Map:
    return np.asarray(np.clip(distance_mm * film.px_per_mm + 0.5, 0, 1), dtype=np.float32)


def _choose_fracture(rng: np.random.Generator) -> tuple[int, int, Break]:
    """A shaft fracture of a metacarpal or a proximal or middle phalanx of a finger."""
    side = float(rng.choice([-1.0, 1.0]))
    return (
        int(rng.integers(1, 5)),
        int(rng.choice([0, 0, 1, 1, 2])),
        Break(
            at=float(rng.uniform(0.4, 0.62)),
            slope=float(rng.uniform(-0.7, 0.7)),
            gap_mm=float(rng.uniform(1.0, 1.7)),
            shift_mm=side * float(rng.uniform(1.2, 2.4)),
            turn_degrees=side * float(rng.uniform(4, 11)),
        ),
    )


def _fracture_box(bone: LongBone, film: _Film) -> Box:
    """The rectangle around the line from cortex to cortex on both fragments, with 1 mm to spare."""
    assert bone.broken is not None  # noqa: S101
    pivot, broken = bone.broken.at * bone.length, bone.broken
    half = float(half_width(bone, np.array([pivot], np.float32))[0])
    corners: list[Point] = []
    for across in (-half, half):
        edge = broken.slope * across
        corners.append(bone.place(pivot + edge - broken.gap_mm / 2, across))
        turn = np.deg2rad(broken.turn_degrees)
        rest = edge + broken.gap_mm / 2
        corners.append(
            bone.place(
                pivot + rest * np.cos(turn) - across * np.sin(turn),
                broken.shift_mm + rest * np.sin(turn) + across * np.cos(turn),
            )
        )
    px = film.to_px(corners)
    margin = _TRUTH_MARGIN_MM * film.px_per_mm
    low, high = np.floor(px.min(axis=0) - margin).astype(int), np.ceil(px.max(axis=0) + margin).astype(int)
    return Box(x=int(low[0]), y=int(low[1]), width=int(high[0] - low[0]), height=int(high[1] - low[1]))


def _foreign_body(rng: np.random.Generator, film: _Film, soft: Map, bone: Map) -> Map:
    """A needle or a pellet in soft tissue, away from bone: 0..1 of metal."""
    near_bone = cv2.dilate(
        (bone > 0.05).astype(np.uint8), np.ones((3, 3), np.uint8), iterations=max(1, int(film.px_per_mm))
    )
    room = (soft > 8) & (near_bone == 0)
    border = int(12 * film.px_per_mm)
    room[:border], room[-border:], room[:, :border], room[:, -border:] = False, False, False, False
    room[int(film.height * 0.72) :] = False
    candidates = rng.permutation(np.argwhere(room))
    half = rng.uniform(3, 6) * film.px_per_mm
    metal = np.zeros(soft.shape, np.float32)
    if rng.random() < 0.6:
        angles = rng.uniform(0, np.pi, 8)
        ends = next(
            ends
            for y, x in candidates
            for angle in angles
            if _all_in(room, ends := _segment(x, y, half, angle))
        )
        first, second = ((round(x * 16), round(y * 16)) for x, y in (ends[0], ends[-1]))
        cv2.line(metal, first, second, 1.0, max(1, round(0.9 * film.px_per_mm)), cv2.LINE_8, 4)
    else:
        y, x = candidates[0]
        axes = [max(1, round(radius * film.px_per_mm)) for radius in rng.uniform(1.3, 2.2, 2)]
        cv2.ellipse(metal, (int(x), int(y)), axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1, cv2.LINE_8)
    return np.asarray(metal, dtype=np.float32)


def _segment(x: float, y: float, half: float, angle: float) -> NDArray[np.float64]:
    """Points from one end of a needle to the other, in px."""
    steps = np.linspace(-half, half, 9)
    return np.column_stack([x + steps * np.cos(angle), y + steps * np.sin(angle)])


def _all_in(room: NDArray[np.bool_], points: NDArray[np.float64]) -> bool:
    xs, ys = np.round(points).astype(int).T
    inside = (xs >= 0) & (ys >= 0) & (xs < room.shape[1]) & (ys < room.shape[0])
    return bool(inside.all() and room[ys, xs].all())


def _box_of(mask: NDArray[np.bool_]) -> Box:
    ys, xs = np.nonzero(mask)
    return Box(
        x=int(xs.min()),
        y=int(ys.min()),
        width=int(xs.max() - xs.min() + 1),
        height=int(ys.max() - ys.min() + 1),
    )


def _expose(attenuation: Map, film: _Film, rng: np.random.Generator) -> NDArray[np.uint16]:
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


def _stamp_marker(pixels: NDArray[np.uint16], film: _Film, laterality: str) -> None:
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


def _trabeculae(rng: np.random.Generator, film: _Film) -> Map:
    return np.asarray(
        np.clip(1 + 0.24 * _noise(rng, film, 0.35) + 0.18 * _noise(rng, film, 1.2), 0.3, 2), np.float32
    )


def _noise(rng: np.random.Generator, film: _Film, grain_mm: float) -> Map:
    """Smooth noise of unit deviation; grain_mm: its scale."""
    factor = max(1.0, grain_mm * film.px_per_mm)
    small = (max(2, round(film.height / factor)), max(2, round(film.width / factor)))
    coarse = rng.standard_normal(small, dtype=np.float32)
    return np.asarray(
        cv2.resize(coarse, (film.width, film.height), interpolation=cv2.INTER_CUBIC), dtype=np.float32
    )


def _bump(film: _Film, centre: Point, radius_mm: float) -> Map:
    (cx, cy) = film.to_px([centre])[0]
    ys, xs = np.ogrid[0 : film.height, 0 : film.width]
    squared = ((xs - cx) ** 2 + (ys - cy) ** 2) / (radius_mm * film.px_per_mm) ** 2
    return np.asarray(np.exp(-squared), dtype=np.float32)
