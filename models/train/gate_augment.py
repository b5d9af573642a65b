"""What may happen to a radiograph before it is sent, so that the gate has seen it: turns, polarity, crops."""

import cv2
import numpy as np
from numpy.typing import NDArray

from models.train.gate_data import GateSample, Kind
from models.train.gate_draw import draw_negative

FloatArray = NDArray[np.float32]

# How often each class is shown.
SHARES = {
    Kind.HAND: 0.36,
    Kind.FOREARM: 0.12,
    Kind.MULTIPLE_VIEWS: 0.10,
    Kind.OTHER_BONE: 0.28,
    Kind.NOT_A_RADIOGRAPH: 0.14,
}


def training_picture(
    rng: np.random.Generator, by_kind: dict[Kind, list[GateSample]]
) -> tuple[FloatArray, Kind]:
    """One randomly chosen, randomly altered picture, (h, w) float32, with its class."""
    kind = Kind(int(rng.choice(len(SHARES), p=[SHARES[kind] for kind in Kind])))
    if kind is Kind.NOT_A_RADIOGRAPH:
        picture, kind = draw_negative(rng)
    elif kind is Kind.MULTIPLE_VIEWS and rng.random() < 0.6:
        picture = _side_by_side(_pick(rng, by_kind[Kind.HAND]), _pick(rng, by_kind[Kind.HAND]), rng)
    else:
        picture = _pick(rng, by_kind[kind])
        if kind is Kind.HAND:
            picture = _cut_forearm(picture, rng)
        elif kind is Kind.OTHER_BONE and rng.random() < 0.45:
            picture = _zoom(picture, rng)
    return alter(picture, rng), kind


def alter(picture: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Turn, mirror, distort, blur, put borders, letters and noise on it, change its curve and polarity."""
    picture = np.asarray(np.rot90(picture, int(rng.integers(0, 4))), dtype=np.float32)
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    picture = _turn(np.ascontiguousarray(picture), rng)
    if rng.random() < 0.25:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 1.6))).astype(np.float32)
    picture = np.asarray(np.clip(picture, 0, 1) ** float(np.exp(rng.uniform(-0.6, 0.6))), dtype=np.float32)
    if rng.random() < 0.3:
        picture = _letters(picture, rng)
    if rng.random() < 0.35:
        picture = _borders(picture, rng)
    picture = picture + rng.uniform(0, 0.010) * rng.standard_normal(picture.shape, dtype=np.float32)
    picture = np.clip(picture, 0, 1)
    return np.asarray(1 - picture if rng.random() < 0.4 else picture, dtype=np.float32)


def _pick(rng: np.random.Generator, samples: list[GateSample]) -> FloatArray:
    return samples[int(rng.integers(len(samples)))].picture


def _turn(picture: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A small rotation, shear, scale and shift; what comes in at the edges continues the film."""
    height, width = picture.shape
    angle = rng.normal(0, 9) if rng.random() < 0.8 else rng.uniform(-45, 45)
    scale = float(np.exp(rng.normal(0, 0.09)))
    matrix = np.array(cv2.getRotationMatrix2D((width / 2, height / 2), float(angle), scale), dtype=np.float64)
    matrix[0, 1] += rng.normal(0, 0.05)
    matrix[:, 2] += rng.normal(0, 0.03, 2) * np.array([width, height])
    return np.asarray(
        cv2.warpAffine(picture, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.float32
    )


def _cut_forearm(picture: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Crop a hand: much from where the forearm enters the film, little elsewhere."""
    height, width = picture.shape
    rim = max(2, round(0.06 * min(picture.shape)))
    inner = slice(rim // 2, rim)
    # The film's own bright rim is left out of the comparison.
    sides = [
        np.percentile(picture[inner], 90),
        np.percentile(picture[::-1][inner], 90),
        np.percentile(picture[:, inner], 90),
        np.percentile(picture[:, ::-1][:, inner], 90),
    ]
    cuts = rng.uniform(0, 0.10, 4) * (rng.random(4) < 0.6)
    if rng.random() < 0.6:
        cuts[int(np.argmax(sides))] = rng.uniform(0.05, 0.34)
    top, bottom, left, right = (cuts * (height, height, width, width)).astype(int)
    return picture[top : height - bottom, left : width - right]


def _zoom(picture: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Any part of another region is still not a hand: knees, hips, ribs, ankles filling the film."""
    height, width = picture.shape
    part = rng.uniform(0.35, 0.95, 2)
    rows, columns = max(24, int(height * part[0])), max(24, int(width * part[1]))
    top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
    return picture[top : top + rows, left : left + columns]


def _side_by_side(one: FloatArray, other: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Two hands on one film."""
    height = min(one.shape[0], other.shape[0])
    halves = []
    for picture in (one, other):
        scale = height / picture.shape[0]
        resized = cv2.resize(
            picture, (max(8, round(picture.shape[1] * scale)), height), interpolation=cv2.INTER_AREA
        )
        columns = np.abs(cv2.Sobel(cv2.GaussianBlur(resized, (0, 0), 2), cv2.CV_32F, 1, 0)).sum(axis=0)
        columns[:4], columns[-4:] = 0, 0
        share = np.cumsum(columns) / columns.sum()
        first, last = np.searchsorted(share, (0.02, 0.98))
        margin = int(rng.integers(4, 20))
        halves.append(resized[:, max(0, first - margin) : last + margin])
    if rng.random() < 0.5:
        halves[1] = halves[1][:, ::-1]
    if rng.random() < 0.3:
        halves[1] = halves[1][::-1]
    return np.ascontiguousarray(np.hstack(halves))


def _letters(picture: FloatArray, rng: np.random.Generator) -> FloatArray:
    height, width = picture.shape
    drawn = np.zeros((height, width), np.uint8)
    text = str(rng.choice(["R", "L", "HAND PA", "R 1", "L AP", "12.5 kV", "PORTABLE"]))
    where = (int(rng.uniform(0.02, 0.85) * width), int(rng.uniform(0.08, 0.97) * height))
    cv2.putText(
        drawn,
        text,
        where,
        cv2.FONT_HERSHEY_SIMPLEX,
        float(rng.uniform(0.3, 1.0)),
        255,
        int(rng.integers(1, 3)),
    )
    ink = drawn.astype(np.float32) / 255
    return np.asarray(picture * (1 - ink) + ink * rng.uniform(0.7, 1), dtype=np.float32)


def _borders(picture: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Collimator strips or a film edge, dark or bright, on some sides; sometimes on a larger sheet."""
    picture = picture.copy()
    height, width = picture.shape
    grey = float(rng.choice([0.0, 1.0, rng.random()]))
    if rng.random() < 0.4:
        top, bottom, left, right = (int(v) for v in rng.uniform(0, 0.2, 4) * (height, height, width, width))
        return np.pad(picture, ((top, bottom), (left, right)), constant_values=grey)
    for axis, size in ((0, height), (1, width)):
        for end in (0, 1):
            thick = int(rng.uniform(0.0, 0.09) * size)
            if rng.random() < 0.5 and thick:
                strip = slice(0, thick) if end == 0 else slice(size - thick, size)
                picture[(strip, slice(None)) if axis == 0 else (slice(None), strip)] = grey
    return picture
