"""The defects planted in a drawn hand, and the rectangle each takes on the film."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from skiagraph.phantom_anatomy import Break, LongBone, Point, half_width
from skiagraph.phantom_film import Film, Map

_TRUTH_MARGIN_MM = 1.0


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle in pixels: x right and y down, the pixel (x, y) is its top left corner."""

    x: int
    y: int
    width: int
    height: int


def choose_fracture(rng: np.random.Generator) -> tuple[int, int, Break]:
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
            turn_degrees=side * float(rng.uniform(3, 8)),
        ),
    )


def fracture_box(bone: LongBone, film: Film) -> Box:
    """The rectangle around the line from cortex to cortex on both fragments, with 1 mm to spare."""
    if bone.broken is None:
        raise ValueError(f"bone {bone.name} is not broken")
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


def foreign_body(rng: np.random.Generator, film: Film, soft: Map, bone: Map) -> Map:
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


def box_of(mask: NDArray[np.bool_]) -> Box:
    ys, xs = np.nonzero(mask)
    return Box(
        x=int(xs.min()),
        y=int(ys.min()),
        width=int(xs.max() - xs.min() + 1),
        height=int(ys.max() - ys.min() + 1),
    )


def _segment(x: float, y: float, half: float, angle: float) -> NDArray[np.float64]:
    """Points from one end of a needle to the other, in px."""
    steps = np.linspace(-half, half, 9)
    return np.column_stack([x + steps * np.cos(angle), y + steps * np.sin(angle)])


def _all_in(room: NDArray[np.bool_], points: NDArray[np.float64]) -> bool:
    xs, ys = np.round(points).astype(int).T
    inside = (xs >= 0) & (ys >= 0) & (xs < room.shape[1]) & (ys < room.shape[0])
    return bool(inside.all() and room[ys, xs].all())
