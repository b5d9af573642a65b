"""Thickness maps of a drawn hand: soft tissue, cortex and medulla, in mm along the ray."""

import cv2
import numpy as np
from numpy.typing import NDArray

from skiagraph.phantom_anatomy import Hand, LongBone, Point, ShortBone, beyond, half_width
from skiagraph.phantom_film import Film, Map, smooth_noise


def soft_tissue(hand: Hand, film: Film, rng: np.random.Generator) -> Map:
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
    uneven = 1 + 0.05 * smooth_noise(rng, film, 9.0) + 0.03 * smooth_noise(rng, film, 2.5)
    thickness *= (1 + 0.35 * thenar + 0.2 * hypothenar + 0.35 * wrist) * uneven
    return np.asarray(cv2.GaussianBlur(thickness, (0, 0), 0.35 * film.px_per_mm), dtype=np.float32)


def add_long_bone(bone: LongBone, film: Film, cortex: Map, medulla: Map) -> None:
    """Add a bone, in two parts where it is broken, to the maps in place."""
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


def add_short_bone(bone: ShortBone, film: Film, cortex: Map, medulla: Map) -> None:
    """Add a carpal or sesamoid bone to the maps in place."""
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


def trabeculae(rng: np.random.Generator, film: Film) -> Map:
    """The mottled density of the medulla, about 1."""
    fine, coarse = smooth_noise(rng, film, 0.35), smooth_noise(rng, film, 1.2)
    return np.asarray(np.clip(1 + 0.24 * fine + 0.18 * coarse, 0.3, 2), dtype=np.float32)


def _draw_finger(mask: NDArray[np.uint8], ray: tuple[LongBone, ...], film: Film, thick: float) -> None:
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


def _jag(across: Map) -> Map:
    """How far the fracture line strays from straight, in mm along the bone."""
    return np.asarray(0.4 * np.sin(across * 1.3) + 0.2 * np.sin(across * 3.1 + 1), dtype=np.float32)


def _add_tube(
    bone: LongBone, along: Map, across: Map, visible: Map, film: Film, cortex: Map, medulla: Map
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


def _along_across(bone: LongBone, x: Map, y: Map) -> tuple[Map, Map]:
    angle = np.deg2rad(bone.angle)
    ux, uy = np.float32(np.sin(angle)), np.float32(np.cos(angle))
    dx, dy = x - np.float32(bone.base[0]), y - np.float32(bone.base[1])
    return dx * ux + dy * uy, dx * uy - dy * ux


def _chord(radius: Map, across: Map) -> Map:
    return np.asarray(2 * np.sqrt(np.clip(radius**2 - across**2, 0, None)), dtype=np.float32)


def _soft_step(distance_mm: Map, film: Film) -> Map:
    return np.asarray(np.clip(distance_mm * film.px_per_mm + 0.5, 0, 1), dtype=np.float32)


def _bump(film: Film, centre: Point, radius_mm: float) -> Map:
    (cx, cy) = film.to_px([centre])[0]
    ys, xs = np.ogrid[0 : film.height, 0 : film.width]
    squared = ((xs - cx) ** 2 + (ys - cy) ** 2) / (radius_mm * film.px_per_mm) ** 2
    return np.asarray(np.exp(-squared), dtype=np.float32)
