"""Golden inputs: limb-like pictures drawn from a seed, so that no radiograph travels with a package."""

import cv2
import numpy as np
from numpy.typing import NDArray


def golden_inputs(input_px: int, count: int = 4) -> NDArray[np.float32]:
    """(count, 2, S, S) float32 as `model.onnx` takes them; grey in steps of 1/255 to compress well."""
    return np.stack([_limb(input_px, seed) for seed in range(count)])


def _limb(size: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    skin = np.zeros((size, size), np.float32)
    bone = np.zeros((size, size), np.float32)
    palm = (int(size * rng.uniform(0.4, 0.6)), int(size * 0.55))
    cv2.line(skin, (palm[0], 0), palm, 1.0, size // 5)
    cv2.line(bone, (palm[0] - size // 30, 0), (palm[0] - size // 30, palm[1]), 1.0, size // 20)
    cv2.circle(skin, palm, size // 6, 1.0, cv2.FILLED)
    for angle in np.linspace(-0.7, 0.7, 5) + rng.normal(0, 0.05, 5):
        reach = size * rng.uniform(0.32, 0.4)
        tip = (int(palm[0] + reach * np.sin(angle)), int(palm[1] + reach * np.cos(angle)))
        cv2.line(skin, palm, tip, 1.0, size // 14)
        cv2.line(bone, palm, tip, 1.0, size // 36)
        cv2.circle(bone, ((palm[0] + tip[0]) // 2, (palm[1] + tip[1]) // 2), size // 60, 0.4, cv2.FILLED)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), 1.5)
    grey = 0.25 * cv2.GaussianBlur(skin, (0, 0), 3) + 0.45 * cv2.GaussianBlur(bone, (0, 0), 2) + 0.03 * grain
    mask = (skin > 0.5).astype(np.float32)
    return np.stack([np.rint(255 * np.clip(grey, 0, 1)) / 255 * mask, mask]).astype(np.float32)
