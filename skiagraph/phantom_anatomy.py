"""The skeleton and the outline of a drawn hand, in millimetres: +y to the fingertips, +x to the thumb.

The origin is the wrist joint. Lengths and widths are those of an adult in posteroanterior view, jittered.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import cos, radians, sin

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Break:
    """A fracture across a shaft: the part beyond `at` is shifted sideways and turned.

    at: position along the bone, 0..1; slope: obliquity of the line (mm along the bone per mm across).
    """

    at: float
    slope: float
    gap_mm: float
    shift_mm: float
    turn_degrees: float


@dataclass(frozen=True, kw_only=True)
class LongBone:
    """A tube with flared ends; angle in degrees from +y towards +x, widths are half widths in mm."""

    name: str
    base: Point
    angle: float
    length: float
    base_width: float
    shaft_width: float
    head_width: float
    broken: Break | None = None

    def place(self, along: float, across: float = 0.0) -> Point:
        """The point `along` mm from the base and `across` mm to the thumb side of the axis."""
        ux, uy = sin(radians(self.angle)), cos(radians(self.angle))
        return self.base[0] + along * ux + across * uy, self.base[1] + along * uy - across * ux

    @property
    def head(self) -> Point:
        return self.place(self.length)


@dataclass(frozen=True, kw_only=True)
class ShortBone:
    """A carpal or sesamoid bone: an ellipse with a bumpy outline."""

    centre: Point
    radii: Point
    angle: float
    bumps: tuple[tuple[float, float], ...]  # amplitude and phase of the 2nd, 3rd … harmonic of the outline


@dataclass(frozen=True, kw_only=True)
class Hand:
    """Bones by ray, with the soft tissue as discs along each ray, a palm polygon and a forearm polygon."""

    rays: tuple[tuple[LongBone, ...], ...]  # thumb first; metacarpal to distal phalanx
    forearm: tuple[LongBone, ...]  # radius, ulna: from the wrist downwards
    short: tuple[ShortBone, ...]
    palm: tuple[Point, ...]
    arm: tuple[Point, ...]

    @property
    def long_bones(self) -> tuple[LongBone, ...]:
        return (*(bone for ray in self.rays for bone in ray), *self.forearm)


# name, base x, base y, angle of the metacarpal, angle of the finger, (length, base, shaft, head) of each bone
_RAYS = (
    ("1", 21.5, 20.5, 37.0, 25.0, ((44, 7.2, 4.6, 7.0), (30, 7.0, 4.4, 5.6), (22, 6.2, 3.2, 4.0))),
    (
        "2",
        13.0,
        29.5,
        11.0,
        8.0,
        ((66, 8.0, 3.9, 7.2), (39, 7.2, 4.4, 5.4), (22.5, 6.2, 3.8, 4.7), (16, 4.9, 2.3, 3.5)),
    ),
    (
        "3",
        2.0,
        31.5,
        1.5,
        1.0,
        ((63, 7.4, 3.9, 7.2), (43, 7.4, 4.6, 5.6), (27, 6.5, 4.0, 5.0), (17, 5.2, 2.5, 3.7)),
    ),
    (
        "4",
        -7.5,
        30.0,
        -8.0,
        -6.0,
        ((56, 6.2, 3.3, 6.3), (40, 6.8, 4.2, 5.1), (25.5, 6.0, 3.7, 4.6), (17, 4.9, 2.4, 3.5)),
    ),
    (
        "5",
        -15.5,
        26.5,
        -18.0,
        -17.0,
        ((52, 6.4, 3.4, 6.0), (32, 6.4, 3.8, 4.6), (18, 5.2, 3.2, 4.0), (15, 4.2, 2.0, 3.0)),
    ),
)
# x, y, radius across, radius along, angle
_CARPALS = (
    (13.0, 8.5, 5.6, 9.6, 35.0),  # scaphoid
    (2.0, 6.2, 6.8, 5.6, -8.0),  # lunate
    (-9.5, 9.5, 5.2, 6.4, -30.0),  # triquetrum
    (-11.5, 11.5, 3.8, 4.4, 0.0),  # pisiform
    (18.0, 18.6, 5.6, 5.8, 20.0),  # trapezium
    (10.6, 23.2, 4.6, 5.6, 15.0),  # trapezoid
    (2.0, 19.6, 5.8, 9.8, 3.0),  # capitate
    (-8.0, 20.6, 6.0, 8.0, -20.0),  # hamate
)
_JOINT_MM = 1.9


def make_hand(rng: np.random.Generator, broken: tuple[int, int, Break] | None = None) -> Hand:
    """A hand with its own proportions and pose; broken: (ray, bone, how), the bones beyond it follow."""
    size = rng.uniform(0.94, 1.05)
    stout = rng.uniform(0.93, 1.08)
    spread = rng.uniform(0.75, 1.45)
    rays = []
    for ray, (name, x, y, metacarpal_angle, finger_angle, sizes) in enumerate(_RAYS):
        angle = metacarpal_angle + rng.normal(0, 1.0)
        finger = finger_angle * spread + rng.normal(0, 2.0)
        base, bones = (x * size, y * size), []
        for index, (length, base_width, shaft, head) in enumerate(sizes):
            bone = LongBone(
                name=f"{name}.{index}",
                base=base,
                angle=angle,
                length=length * size * rng.uniform(0.97, 1.03),
                base_width=base_width * stout,
                shaft_width=shaft * stout,
                head_width=head * stout,
            )
            tip = bone.place(bone.length + _JOINT_MM)
            if broken is not None and broken[:2] == (ray, index):
                bone = replace(bone, broken=broken[2])
                tip, turned = beyond(bone, bone.length + _JOINT_MM)
                # Skin and tendons hold the finger beside its neighbours.
                finger += 0.3 * turned
            bones.append(bone)
            base, angle = tip, finger + rng.normal(0, 1.2)
        rays.append(tuple(bones))
    forearm = (
        LongBone(
            name="radius",
            base=(8.6 * size, -0.5),
            angle=181.5 + rng.normal(0, 1),
            length=150,
            base_width=13.6 * stout,
            shaft_width=6.6 * stout,
            head_width=8,
        ),
        LongBone(
            name="ulna",
            base=(-12.5 * size, -2.5),
            angle=180 + rng.normal(0, 1),
            length=150,
            base_width=8.2 * stout,
            shaft_width=5.6 * stout,
            head_width=8,
        ),
    )
    short = [
        ShortBone(
            centre=(x * size, y * size),
            radii=(1.13 * across * size, 1.1 * along * size),
            angle=angle + rng.normal(0, 4),
            bumps=_bumps(rng),
        )
        for x, y, across, along, angle in _CARPALS
    ]
    short += [
        _styloid(forearm[0].place(1.5, -9.5 * stout), (4.6, 5.5)),
        _styloid(forearm[1].place(1.0, 5.5 * stout), (2.0, 4.0)),
    ]
    thumb = rays[0][0]
    short += [_styloid(thumb.place(thumb.length - 2, across), (2.1, 2.9)) for across in (-4.6, 4.4)]
    return Hand(
        rays=tuple(rays),
        forearm=forearm,
        short=tuple(short),
        palm=_palm(tuple(rays), size),
        arm=(
            (30 * size, 6),
            (27 * size, -8),
            (31 * size, -150),
            (-37 * size, -150),
            (-25 * size, -8),
            (-27 * size, 8),
        ),
    )


def beyond(bone: LongBone, along: float) -> tuple[Point, float]:
    """Where a point of the axis beyond the fracture went, and by how many degrees it was turned."""
    broken = bone.broken
    if broken is None:
        return bone.place(along), 0.0
    pivot = broken.at * bone.length
    turn = radians(broken.turn_degrees)
    rest = along - pivot
    return bone.place(pivot + rest * cos(turn), broken.shift_mm + rest * sin(turn)), broken.turn_degrees


def half_width(bone: LongBone, along: NDArray[np.float32]) -> NDArray[np.float32]:
    """Half width in mm at `along` mm from the base; zero or less outside the bone."""
    t = along / bone.length
    base = np.exp(-((np.clip(t, 0, 1) / 0.17) ** 1.5))
    head = np.exp(-((np.clip(1 - t, 0, 1) / 0.15) ** 1.6))
    width = (
        bone.shaft_width
        + (bone.base_width - bone.shaft_width) * base
        + (bone.head_width - bone.shaft_width) * head
    )
    # The base is nearly flat, the head is round.
    flat = np.clip(along / (0.35 * bone.base_width), 0, 1)
    round_ = np.clip((bone.length - along) / (0.75 * bone.head_width), 0, 1)
    caps = np.sqrt(np.clip(1 - (1 - flat) ** 2, 0, 1)) * np.sqrt(np.clip(1 - (1 - round_) ** 2, 0, 1))
    return np.asarray(width * caps, dtype=np.float32)


def _bumps(rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    amplitudes, phases = rng.uniform(0.02, 0.07, 3).tolist(), rng.uniform(0, 6.28, 3).tolist()
    return tuple(zip(amplitudes, phases, strict=True))


def _styloid(centre: Point, radii: Point) -> ShortBone:
    return ShortBone(centre=centre, radii=radii, angle=0.0, bumps=((0.03, 0.0), (0.02, 1.0), (0.02, 2.0)))


def _palm(rays: tuple[tuple[LongBone, ...], ...], size: float) -> tuple[Point, ...]:
    """Outline of the palm: wrist, thenar, the webs between the fingers, hypothenar."""
    thumb, little = rays[0], rays[4]
    webs = []
    for one, other in pairwise(rays[1:]):
        left, right = one[1].place(one[1].length * 0.36), other[1].place(other[1].length * 0.36)
        webs.append(((left[0] + right[0]) / 2, (left[1] + right[1]) / 2))
    index = rays[1]
    return (
        (28 * size, 2),
        thumb[0].place(thumb[0].length * 0.35, 12),
        thumb[0].place(thumb[0].length * 0.95, 8),
        thumb[0].place(thumb[0].length * 1.0, -8),
        index[0].place(index[0].length * 0.62, 11),
        index[1].place(2, 9),
        *webs,
        little[1].place(4, -9),
        little[0].place(little[0].length * 0.5, -13.5),
        (-28 * size, 16),
        (-26 * size, 0),
    )
