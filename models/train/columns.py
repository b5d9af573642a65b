"""The paper's preprocessing columns, and histogram equalization as a graph can express it.

raw: the whole radiograph, least to greatest grey, as it comes. crop: turned bright-on-dark, film borders cut,
the hand's box. full: the same, and black outside the hand. +HE: equalized.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.geometry import GeometrySpec
from models.train.data import Inputs

THRESHOLDS = 64


@dataclass(frozen=True, kw_only=True)
class Column:
    """One way to prepare radiographs; equalize: after the geometry, within the mask."""

    geometry: GeometrySpec
    equalize: bool


_RAW = GeometrySpec(
    invert=False, crop_borders=False, locate=False, segment=False, low_percent=0.0, high_percent=100.0
)
_CROP = GeometrySpec(segment=False)
_FULL = GeometrySpec()

COLUMNS: Mapping[str, Column] = {
    name + suffix: Column(geometry=geometry, equalize=equalize)
    for name, geometry in (("raw", _RAW), ("crop", _CROP), ("full", _FULL))
    for suffix, equalize in (("", False), ("+HE", True))
}


def equalized(grey: Tensor, mask: Tensor) -> Tensor:
    """(n, 1, h, w) grey 0..1, equalized over what the mask shows and zero elsewhere.

    The cumulative histogram is known at 64 thresholds and linear between them, so that TensorRT builds it
    without a sort. It differs from exact equalization by at most the share of the fullest of the 64 bins.
    """
    shown = mask.sum(dim=(1, 2, 3)).clamp(min=1)
    result = torch.zeros_like(grey)
    darkest = below = ((grey <= 0).to(grey.dtype) * mask).sum(dim=(1, 2, 3)) / shown
    for index in range(THRESHOLDS):
        low, high = index / THRESHOLDS, (index + 1) / THRESHOLDS
        reached = ((grey <= high).to(grey.dtype) * mask).sum(dim=(1, 2, 3)) / shown
        ramp = ((grey - low) * THRESHOLDS).clamp(0, 1)
        result = result + ramp * (reached - below).reshape(-1, 1, 1, 1)
        below = reached
    # The darkest level becomes 0, as in OpenCV.
    return result / (1 - darkest).clamp(min=1e-6).reshape(-1, 1, 1, 1) * mask


def equalized_exactly(grey: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """(h, w) grey 0..1 at 256 levels through OpenCV: what `equalized` is measured against."""
    levels = np.rint(255 * grey).astype(np.uint8)
    result = np.zeros_like(grey)
    inside = mask > 0.5
    if inside.any():
        result[inside] = cv2.equalizeHist(levels[inside].reshape(1, -1)).ravel() / np.float32(255)
    return result


@torch.no_grad()
def equalized_inputs(inputs: Inputs) -> Inputs:
    """The same radiographs equalized, for a network that does not do it itself."""
    tensors = inputs.tensors.copy()
    for index in range(len(inputs)):
        radiograph = torch.from_numpy(inputs.batch(slice(index, index + 1)))
        grey = equalized(radiograph[:, :1], radiograph[:, 1:])
        tensors[index, 0] = np.rint(255 * np.sqrt(grey.numpy()[0, 0]))
    return replace(inputs, tensors=tensors)
