"""Training batches: augmented crops of normal radiographs with defects planted in them."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.train.data import ByteArray
from models.train.defects import plant

FloatArray = NDArray[np.float32]
_SHOWN = 0.3  # a crop shows at least this share of patient


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """(n, 1, c, c) root of grey, mask and label, float32."""

    root: FloatArray
    mask: FloatArray
    label: FloatArray


def make_batch(
    tensors: ByteArray, weights: NDArray[np.float64], *, size: int, crop_px: int, rng: np.random.Generator
) -> Batch:
    """`size` crops drawn from (n, 2, S, S) bytes with probabilities `weights`; 70 % carry one or two
    defects."""
    batch = np.zeros((3, size, 1, crop_px, crop_px), np.float32)
    for index in range(size):
        first, second = rng.choice(len(tensors), size=2, p=weights)
        root, mask = _augmented_crop(tensors[first], crop_px, rng)
        count = int(rng.choice([0, 1, 2], p=[0.3, 0.5, 0.2]))
        label = np.zeros_like(root)
        if count:
            donor, _ = _augmented_crop(tensors[second], crop_px, rng)
            planted = plant(root, mask, donor, count=count, rng=rng)
            root, label = planted.crop, planted.label
        batch[:, index, 0] = _exposed(root, mask, rng), mask, label
    return Batch(root=batch[0], mask=batch[1], label=batch[2])


def _augmented_crop(
    tensor: ByteArray, crop_px: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """A crop turned, scaled and mirrored, centred on the patient; (c, c) root of grey and mask 0/1."""
    size = tensor.shape[-1]
    zoom = float(np.exp(rng.uniform(np.log(0.75), np.log(1.35))))
    angle = float(rng.normal(0, 15)) + 90 * int(rng.choice([0, 1, 2, 3], p=[0.7, 0.1, 0.1, 0.1]))
    mirror = rng.random() < 0.5
    crop = np.zeros((2, crop_px, crop_px), np.float32)
    for _attempt in range(6):
        centre = rng.uniform(0.12 * size, 0.88 * size, 2)
        matrix = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), angle, zoom)
        matrix = matrix + np.array([[0, 0, crop_px / 2 - centre[0]], [0, 0, crop_px / 2 - centre[1]]])
        for channel, flag in ((0, cv2.INTER_LINEAR), (1, cv2.INTER_NEAREST)):
            crop[channel] = cv2.warpAffine(tensor[channel], matrix, (crop_px, crop_px), flags=flag)
        if crop[1].mean() > 255 * _SHOWN:
            break
    if mirror:
        crop = np.ascontiguousarray(crop[:, :, ::-1])
    mask = (crop[1] > 127).astype(np.float32)
    return crop[0] / 255 * mask, mask


def _exposed(root: FloatArray, mask: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Another exposure: brightness curve, contrast, a little noise and blur."""
    curved = np.clip(root, 0, 1) ** float(np.exp(rng.normal(0, 0.15))) * float(rng.uniform(0.85, 1.1))
    if rng.random() < 0.3:
        curved = np.asarray(cv2.GaussianBlur(curved, (0, 0), float(rng.uniform(0.4, 0.9))), np.float32)
    noisy = curved + rng.normal(0, rng.uniform(0, 0.012), root.shape)
    return np.clip(noisy, 0, 1).astype(np.float32) * mask
