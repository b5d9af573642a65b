"""The input gate: is this a hand radiograph the model knows? `gate.onnx` looks at a thumbnail first."""

import cv2
import numpy as np
from numpy.typing import NDArray

from models.package import Gate, GateClass
from models.radiograph import Radiograph
from models.rejection import Rejection, RejectionCode

FloatArray = NDArray[np.float32]

_WORK_PX = 288  # longest side of the copy on which the limb is found
_MARGIN = 0.05  # of the limb's box, on each side
_TAIL = 0.008  # share of the contours left out on each side: dust and markers


def thumbnail(radiograph: Radiograph, thumbnail_px: int) -> FloatArray:
    """What the gate sees, (1, G, G) float32 in 0..1: the limb's box, equalized, on its own background.

    The same for any brightness and contrast; an inverted film gives the inverse, and the gate learned both.
    """
    return picture_thumbnail(work_copy(radiograph.pixels), thumbnail_px)


def work_copy(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> FloatArray:
    """A reduced copy, longest side at most 288 px, (h, w) float32 in the units of `pixels`."""
    scale = _WORK_PX / max(pixels.shape)
    if scale >= 1:
        return pixels.astype(np.float32)
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def picture_thumbnail(picture: FloatArray, thumbnail_px: int) -> FloatArray:
    """The thumbnail of a work copy, (h, w) in any units to (1, G, G)."""
    low, high = np.percentile(picture[::2, ::2], (0.5, 99.5))
    if not high > low:
        return np.full((1, thumbnail_px, thumbnail_px), 0.5, np.float32)
    top, bottom, left, right = content_box(picture, float(high - low))
    cropped = _equalized(picture[top:bottom, left:right])
    height, width = cropped.shape
    scale = thumbnail_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(cropped, size, interpolation=method)
    ring = np.concatenate([cropped[0], cropped[-1], cropped[:, 0], cropped[:, -1]])
    square = np.full((thumbnail_px, thumbnail_px), np.median(ring), np.float32)
    x, y = (thumbnail_px - size[0]) // 2, (thumbnail_px - size[1]) // 2
    square[y : y + size[1], x : x + size[0]] = small
    return np.clip(square, 0, 1)[np.newaxis]


def content_box(picture: FloatArray, span: float) -> tuple[int, int, int, int]:
    """Rows and columns (top, bottom, left, right) that hold the contours; span: range of grey values."""
    smooth = cv2.GaussianBlur(picture, (0, 0), 1.8)
    edges = np.abs(cv2.Sobel(smooth, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    # Capped, so that a collimator's edge does not outweigh a finger; background noise counts nothing.
    edges = np.clip(edges, 0, 0.5 * span)
    edges[edges < 0.14 * span] = 0
    rim = max(2, round(0.035 * max(picture.shape)))
    edges[:rim], edges[-rim:], edges[:, :rim], edges[:, -rim:] = 0, 0, 0, 0
    if not edges.any():
        return 0, picture.shape[0], 0, picture.shape[1]
    top, bottom = _extent(edges.sum(axis=1), picture.shape[0])
    left, right = _extent(edges.sum(axis=0), picture.shape[1])
    return top, bottom, left, right


def decide(probabilities: NDArray[np.floating], gate: Gate) -> Rejection | None:
    """None when the accepting classes reach the threshold together, else why not: the likeliest other class.

    probabilities: (classes,) in the order of `gate.classes`; ValueError when their number differs.
    """
    if probabilities.shape != (len(gate.classes),):
        raise ValueError(f"the gate gave {probabilities.shape} probabilities for {len(gate.classes)} classes")
    pairs = list(zip(probabilities.tolist(), gate.classes, strict=True))
    # Also refuses NaN, which no comparison reaches.
    if sum(value for value, kind in pairs if kind.accept) >= gate.threshold:
        return None
    _, refused = max(((value, kind) for value, kind in pairs if not kind.accept), key=lambda pair: pair[0])
    return Rejection(code=_code(refused), reason=refused.says)


def _code(kind: GateClass) -> RejectionCode:
    return RejectionCode(kind.reject_code) if kind.reject_code else RejectionCode.NOT_A_HAND


def _extent(profile: FloatArray, length: int) -> tuple[int, int]:
    cumulated = np.cumsum(profile) / profile.sum()
    first, last = np.searchsorted(cumulated, (_TAIL, 1 - _TAIL))
    margin = round(_MARGIN * (last - first)) + 2
    return max(0, int(first) - margin), min(length, int(last) + margin + 1)


def _equalized(picture: FloatArray) -> FloatArray:
    """Part linear, part equalized: neither a bright forearm nor an empty film takes all the range."""
    low, high = np.percentile(picture[::2, ::2], (1, 99))
    linear = np.clip((picture - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)
    levels = (linear * 255).astype(np.uint8)
    counts = np.bincount(levels.ravel(), minlength=256).astype(np.float32)
    # The middle of each level's ranks, so that inverting the film inverts the result.
    ranks = (np.cumsum(counts) - counts / 2) / counts.sum()
    return np.asarray(0.7 * linear + 0.3 * ranks[levels], dtype=np.float32)
