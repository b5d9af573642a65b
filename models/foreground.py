"""Which part of a radiograph is the patient: an automatic foreground mask."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
MaskArray = NDArray[np.uint8]

_FLOODED = 0.75  # a larger share of the radiograph than this is background taken for patient
_LOST = 0.02  # and less than this is hardly a limb
# A component this large relative to the largest belongs to the patient too (a second hand, a finger)
_KEPT = 0.12
_RIM = 0.012  # of the longer side: cleared along the edges while components are told apart
_EDGE = 0.10  # a component nearer to an edge than this is a film border
# A component this much darker than the one that gives most light is air.
_DIM = 0.5
# The darkest soft tissue is at least this much brighter than air, of the range from air to bone.
_CLEAR = 0.1

# A hand ends somewhere: a mask that reaches across the radiograph in more of its rows or columns is flooded.
_ACROSS = 0.95
_ACROSS_SHARE = 0.08
# A component across the radiograph that is thinner than this, and not the largest, is a band of scatter.
_BAND = 0.15

# Soft tissue is much darker than bone: the logarithm tells it from air, the gentler curves are for grey
# backgrounds.
_CURVES: tuple[Callable[[FloatArray], FloatArray], ...] = (
    lambda grey: np.log1p(30 * grey),
    np.sqrt,
    lambda grey: grey,
)


def foreground_mask(work: FloatArray) -> MaskArray:
    """(h, w) mask 0/1 of the limb.

    All ones when no threshold separates one: a limb that fills the radiograph.
    """
    low, high = np.percentile(work, (1, 99.5))
    grey = np.clip((cv2.GaussianBlur(work, (0, 0), 1.5) - low) / max(high - low, 1e-6), 0, 1)
    best, best_rank = np.ones(work.shape, np.uint8), (False, 0.0)
    for curve in _CURVES:
        mask = _largest_parts(_otsu(curve(grey.astype(np.float32))), grey)
        gap = _gap(mask, grey)
        if not _LOST <= mask.mean() <= _FLOODED or gap <= 0:
            continue
        rank = (not _reaches_across(mask), gap)
        if rank > best_rank:
            best, best_rank = mask, rank
        if rank >= (True, _CLEAR):
            break
    return best


def _reaches_across(mask: MaskArray) -> bool:
    """True when the mask fills too many whole rows or whole columns to be a hand."""
    return any(float((mask.mean(axis=axis) > _ACROSS).mean()) > _ACROSS_SHARE for axis in (0, 1))


def _gap(mask: MaskArray, grey: FloatArray) -> float:
    """How much brighter the darker parts of the limb are than air: small when the mask floods into air."""
    square = np.ones((5, 5), np.uint8)
    inner, outer = cv2.erode(mask, square) > 0, cv2.dilate(mask, square) == 0
    if not inner.any() or not outer.any():
        return 0.0
    return float(np.percentile(grey[inner], 15) - np.median(grey[outer]))


def _otsu(grey: FloatArray) -> MaskArray:
    levels = cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)  # type: ignore[call-overload]
    _, mask = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return np.asarray(mask, np.uint8)


def _largest_parts(mask: MaskArray, grey: FloatArray) -> MaskArray:
    """Opened, without small, dim or edge components, closed, holes filled, grown to keep the skin."""
    unit = max(mask.shape) / 320
    depth = _distance_to_edge(mask.shape)
    rim = depth < _RIM * max(mask.shape)
    # Without its rim a film border hangs on to no limb; the limb gets its rim back below.
    opened = cv2.morphologyEx(np.where(rim, 0, mask).astype(np.uint8), cv2.MORPH_OPEN, _disc(3 * unit))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    if count < 2:
        return np.zeros(mask.shape, np.uint8)
    areas = stats[1:, cv2.CC_STAT_AREA].astype(float)
    inner = np.bincount(labels.ravel(), (depth > _EDGE * max(mask.shape)).ravel(), minlength=count)[1:]
    areas[inner < 0.1 * areas] = 0  # lies along the edges: what is left of a film border
    light = np.bincount(labels.ravel(), grey.ravel(), minlength=count)[1:]
    brightness = light / stats[1:, cv2.CC_STAT_AREA]
    areas[brightness < _DIM * brightness[np.argmax(light * (areas > 0))]] = 0  # a strip of grey air
    areas[_bands(stats[1:], mask.shape) & (areas < areas.max())] = 0
    kept = np.isin(labels, 1 + np.flatnonzero(areas >= max(1, _KEPT * areas.max()))).astype(np.uint8)
    reach = 2 * int(np.ceil(_RIM * max(mask.shape))) + 3
    beside = np.asarray(cv2.dilate(kept, np.ones((reach, reach), np.uint8)), np.uint8)
    rim_of_limb = beside & mask & rim.astype(np.uint8)
    closed = np.asarray(cv2.morphologyEx(kept | rim_of_limb, cv2.MORPH_CLOSE, _disc(7 * unit)), np.uint8)
    return np.asarray(cv2.dilate(_without_small_holes(closed), _disc(3 * unit)), np.uint8)


def _bands(stats: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(n,) which components reach across the radiograph and are thin."""
    high = stats[:, cv2.CC_STAT_HEIGHT] / shape[0]
    wide = stats[:, cv2.CC_STAT_WIDTH] / shape[1]
    return np.asarray(
        ((wide > _ACROSS - 0.05) & (high < _BAND)) | ((high > _ACROSS - 0.05) & (wide < _BAND)), bool
    )


def _without_small_holes(mask: MaskArray) -> MaskArray:
    """A hole as large as the gap between two limbs is air, a small one is a dark spot of the limb."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < 0.01 * mask.size
    small[0] = False
    return np.asarray(mask | small[labels], np.uint8)


def _distance_to_edge(shape: tuple[int, ...]) -> FloatArray:
    """(h, w) pixels to the nearest edge."""
    down, across = (np.minimum(np.arange(size), size - 1 - np.arange(size)) for size in shape)
    distance: FloatArray = np.minimum(down[:, None], across[None, :]).astype(np.float32)
    return distance


def _disc(diameter: float) -> MaskArray:
    size = max(1, round(diameter)) | 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)
