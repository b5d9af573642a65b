"""Drawn pictures of what else a node may be sent, none of them a limb: (h, w) float32 0..1 each."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from models.train.gate_data import Kind

FloatArray = NDArray[np.float32]
Draw = Callable[[np.random.Generator, int, int], FloatArray]


def draw_negative(rng: np.random.Generator) -> tuple[FloatArray, Kind]:
    """One picture of a random kind and shape, with the class it belongs to."""
    longest = 288
    ratio = rng.uniform(0.6, 1.0)
    width, height = (
        (longest, round(longest * ratio)) if rng.random() < 0.5 else (round(longest * ratio), longest)
    )
    drawings = (*NOT_RADIOGRAPHS, *BODY_PARTS)
    weights = np.array([1.0] * len(NOT_RADIOGRAPHS) + [1.6] * len(BODY_PARTS))
    chosen = int(rng.choice(len(drawings), p=weights / weights.sum()))
    kind = Kind.NOT_A_RADIOGRAPH if chosen < len(NOT_RADIOGRAPHS) else Kind.OTHER_BONE
    return np.clip(drawings[chosen](rng, width, height), 0, 1).astype(np.float32), kind


def blank(rng: np.random.Generator, width: int, height: int) -> FloatArray:
    """An unexposed film: flat, a little noise, sometimes a border."""
    picture = np.full((height, width), rng.uniform(0.05, 0.95), np.float32)
    picture += rng.uniform(0.0005, 0.03) * rng.standard_normal(picture.shape, dtype=np.float32)
    if rng.random() < 0.5:
        edge = int(rng.integers(2, 24))
        picture[:edge] = rng.random()
        picture[:, -edge:] = rng.random()
    return picture


def gradient(rng: np.random.Generator, width: int, height: int) -> FloatArray:
    angle = rng.uniform(0, 2 * np.pi)
    ys, xs = _grid(width, height, max(width, height))
    ramp = np.cos(angle) * xs + np.sin(angle) * ys
    if rng.random() < 0.4:
        ramp = np.hypot(xs - rng.random(), ys - rng.random())
    ramp = (ramp - ramp.min()) / (np.ptp(ramp) + 1e-6)
    grain = rng.uniform(0, 0.03) * rng.standard_normal(ramp.shape, dtype=np.float32)
    return np.asarray(ramp ** np.float32(rng.uniform(0.5, 2)) + grain, np.float32)


def noise(rng: np.random.Generator, width: int, height: int) -> FloatArray:
    """Noise of one scale, from grains to clouds."""
    picture = rng.standard_normal((height, width), dtype=np.float32)
    if rng.random() < 0.7:
        picture = cv2.GaussianBlur(picture, (0, 0), float(np.exp(rng.uniform(-0.7, 3.4)))).astype(np.float32)
    return np.asarray(0.5 + picture / (picture.std() * rng.uniform(2.5, 6)), dtype=np.float32)


def clouds(rng: np.random.Generator, width: int, height: int) -> FloatArray:
    """Noise with the spectrum of a photograph (amplitude falling with frequency)."""
    power = rng.uniform(0.8, 2.2)
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]) + 1 / max(
        width, height
    )
    phases = np.exp(2j * np.pi * rng.random(frequencies.shape))
    picture = np.fft.irfft2(phases / frequencies**power, s=(height, width))
    return np.asarray(0.5 + picture / (picture.std() * rng.uniform(2.5, 5)), dtype=np.float32)


def scene(rng: np.random.Generator, width: int, height: int) -> FloatArray:
    """Like a photograph: sky and ground, overlapping objects with shading and texture."""
    # Half the size is enough for shapes: a thumbnail is made of it.
    width, height = width // 2, height // 2
    texture = clouds(rng, width, height) - 0.5
    picture = (0.6 * gradient(rng, width, height) + rng.uniform(0, 0.6) * texture).astype(np.float32)
    for _ in range(int(rng.integers(3, 22))):
        mask = np.zeros((height, width), np.uint8)
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        size = float(np.exp(rng.uniform(np.log(8), np.log(0.5 * width))))
        if rng.random() < 0.5:
            axes = (max(2, int(size)), max(2, int(size * rng.uniform(0.3, 1))))
            cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 255, -1)
        else:
            corners = np.array(centre) + rng.normal(0, size, (int(rng.integers(3, 7)), 2))
            cv2.fillPoly(mask, [cv2.convexHull(corners.astype(np.int32))], 255)
        soft = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.4, 3))).astype(np.float32) / 255
        ys, xs = _grid(width, height, max(width, height))
        slope = rng.normal(0, 0.25, 2).astype(np.float32)
        fill = rng.random() + slope[0] * ys + slope[1] * xs
        if rng.random() < 0.4:
            fill = fill + rng.uniform(0.05, 0.25) * texture
        picture = (picture * (1 - soft) + fill * soft).astype(np.float32)
    return picture


def text_page(rng: np.random.Generator, width: int, height: int) -> FloatArray:
    """A document: lines of text, perhaps headings, a box, columns; dark on light."""
    page = np.full((height, width), 255, np.uint8)
    size, left = rng.uniform(0.22, 0.7), int(rng.integers(4, 40))
    y = int(rng.integers(14, 40))
    while y < height - 8:
        here = size * (1.7 if rng.random() < 0.1 else 1)
        letters = "".join(
            chr(int(c)) for c in rng.choice(list(range(97, 123)) + [32] * 6, int(rng.integers(5, 70)))
        )
        cv2.putText(
            page, letters, (left, y), cv2.FONT_HERSHEY_SIMPLEX, here, int(rng.integers(0, 90)), 1, cv2.LINE_AA
        )
        y += int(here * rng.uniform(28, 46)) + 2
    if rng.random() < 0.4:
        one, other = rng.integers(0, height, 2)
        cv2.rectangle(page, (left, int(one)), (width - left, int(other)), 60, 1)
    return np.asarray(page / 255, dtype=np.float32)


def shapes(rng: np.random.Generator, width: int, height: int) -> FloatArray:
    """Screens, charts and test patterns: boxes, lines, rings, bars, grids."""
    page = np.full((height, width), int(rng.integers(0, 256)), np.uint8)
    if rng.random() < 0.3:
        step = int(rng.integers(5, 40))
        ys, xs = np.mgrid[0:height, 0:width] // step
        page = np.where((xs + ys * int(rng.integers(0, 2))) % 2 == 0, page, 255 - page).astype(np.uint8)
    for _ in range(int(rng.integers(1, 18))):
        a, b = (tuple(int(v) for v in rng.integers(0, (width, height))) for _ in range(2))
        grey, thick = int(rng.integers(0, 256)), int(rng.choice([-1, 1, 2, 4]))
        form = rng.integers(0, 3)
        if form == 0:
            cv2.rectangle(page, a, b, grey, thick)
        elif form == 1:
            cv2.circle(page, a, int(rng.integers(3, width // 3)), grey, thick)
        else:
            cv2.line(page, a, b, grey, abs(thick))
    return np.asarray(page / 255, dtype=np.float32)


def chest(rng: np.random.Generator, width: int, height: int) -> FloatArray:
    """A thorax: bright trunk, two dark lungs, ribs, spine, heart, diaphragm; filling the film or not."""
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    x = (xs / width - 0.5 + rng.uniform(-0.05, 0.05)) * rng.uniform(0.85, 1.5)
    y = (ys / height - 0.5 + rng.uniform(-0.06, 0.06)) * rng.uniform(0.85, 1.3)
    trunk = _smooth(1 - (np.abs(x) / rng.uniform(0.42, 0.7)) ** 4 - (np.clip(-y, 0, 1) / 0.7) ** 4, 0.4)
    lungs = np.zeros_like(x)
    for side in (-1, 1):
        wide, tall = rng.uniform(0.12, 0.19), rng.uniform(0.24, 0.38)
        r = ((x - side * rng.uniform(0.17, 0.23)) / wide) ** 2 + ((y + rng.uniform(-0.02, 0.1)) / tall) ** 2
        lungs = np.maximum(lungs, _smooth(1 - r, 0.35) * rng.uniform(0.5, 1))
    ribs = np.clip(np.sin((y + rng.uniform(0.3, 0.9) * x**2 + 0.3 * np.abs(x)) * rng.uniform(60, 105)), 0, 1)
    spine = np.exp(-((x / rng.uniform(0.03, 0.06)) ** 2)) * (1 + 0.15 * np.sin(y * rng.uniform(50, 90)))
    heart = _smooth(1 - ((x - 0.06) / 0.15) ** 2 - ((y - 0.12) / 0.18) ** 2, 0.5)
    belly = _smooth((y - rng.uniform(0.2, 0.4)) * 12 + 1.5 * x**2, 1)
    picture = trunk * (0.55 - 0.38 * lungs + 0.09 * ribs + 0.18 * spine + 0.15 * heart * lungs + 0.18 * belly)
    picture += 0.07 * (clouds(rng, width, height) - 0.5)
    return np.asarray(picture + rng.uniform(0, 0.1), dtype=np.float32)


def teeth(rng: np.random.Generator, width: int, height: int) -> FloatArray:
    """A dental panorama or a few teeth: two curved rows of bright blocks on a grey band."""
    panorama = rng.random() < 0.7
    height = round(width * rng.uniform(0.42, 0.62)) if panorama else height
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = xs / width - 0.5, ys / height - 0.5
    bend = y + rng.uniform(-0.9, 0.9) * x**2
    count = rng.uniform(14, 22) if panorama else rng.uniform(3, 6)
    row = np.clip(np.cos(x * count * 2 * np.pi) + 0.9, 0, 1)
    teeth_ = row * (
        _smooth(1 - np.abs(bend - 0.12) / 0.11, 0.3) + _smooth(1 - np.abs(bend + 0.12) / 0.11, 0.3)
    )
    jaw = _smooth(1 - np.abs(bend) / rng.uniform(0.3, 0.5), 0.5)
    spine = (
        np.exp(-((x / 0.05) ** 2)) * rng.uniform(0, 0.3) + np.exp(-(((np.abs(x) - 0.44) / 0.05) ** 2)) * 0.2
    )
    picture = (
        0.18
        + 0.3 * jaw
        + 0.35 * teeth_ * (np.abs(x) < 0.34)
        + spine
        + 0.12 * (clouds(rng, width, height) - 0.5)
    )
    if rng.random() < 0.6:
        pad = int(rng.integers(6, 50))
        picture = np.pad(picture, ((pad, pad), (pad // 2, pad // 2)), constant_values=0.0)
    return np.asarray(picture, dtype=np.float32)


def skull(rng: np.random.Generator, width: int, height: int) -> FloatArray:
    """A head or a spine segment: a bright oval shell with darker hollows, or a column of blocks."""
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = (xs / width - 0.5) * rng.uniform(1, 1.5), (ys / height - 0.5) * rng.uniform(1, 1.5)
    if rng.random() < 0.5:
        r = np.hypot(x / rng.uniform(0.3, 0.42), y / rng.uniform(0.36, 0.46))
        picture = 0.35 * _smooth(1 - r, 0.2) + 0.4 * np.exp(-(((r - 0.95) / 0.05) ** 2))
        for _ in range(int(rng.integers(3, 7))):
            cx, cy, size = rng.uniform(-0.2, 0.2), rng.uniform(-0.1, 0.35), rng.uniform(0.03, 0.1)
            picture -= rng.uniform(-0.2, 0.25) * np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / size**2))
    else:
        x = x + rng.uniform(-0.5, 0.5) * y**2
        block = 0.5 + 0.5 * np.tanh(4 * np.sin(y * rng.uniform(28, 60)) + 2)
        picture = 0.35 * _smooth(1 - np.abs(x) / rng.uniform(0.25, 0.6), 0.5)
        picture += 0.45 * block * _smooth(1 - np.abs(x) / rng.uniform(0.07, 0.14), 0.2)
    picture += 0.08 * (clouds(rng, width, height) - 0.5)
    return np.asarray(picture + 0.05, dtype=np.float32)


NOT_RADIOGRAPHS: tuple[Draw, ...] = (blank, gradient, noise, clouds, scene, scene, text_page, shapes)
BODY_PARTS: tuple[Draw, ...] = (chest, teeth, skull)


def _grid(width: int, height: int, unit: float) -> tuple[FloatArray, FloatArray]:
    """Rows (h, 1) and columns (1, w) in `unit` px, to be broadcast."""
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    return (rows / unit)[:, np.newaxis], (columns / unit)[np.newaxis]


def _smooth(value: NDArray[np.floating], width: float) -> FloatArray:
    """0 below zero, 1 above `width`, smooth between."""
    t = np.clip(value / width, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)
