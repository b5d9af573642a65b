"""The paper's training augmentation, on a whole batch at once and on the device of the batch."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Flips always; the rest is the half-width of a uniform draw."""

    brightness: float = 0.0
    scale: float = 0.0  # per axis
    rotation_degrees: float = 0.0


FLIPS = Augmentation()


def augmented(radiographs: Tensor, how: Augmentation, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Pictures and masks (n, 1, S, S) of (n, 2, S, S), each changed on its own."""
    count = len(radiographs)
    angle = rng.uniform(-1, 1, count) * math.radians(how.rotation_degrees)
    flip = rng.choice([-1.0, 1.0], (count, 2))
    zoom = flip / (1 + how.scale * rng.uniform(-1, 1, (count, 2)))
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 0, 1] = np.cos(angle) * zoom[:, 0], -np.sin(angle) * zoom[:, 1]
    theta[:, 1, 0], theta[:, 1, 1] = np.sin(angle) * zoom[:, 0], np.cos(angle) * zoom[:, 1]
    where = torch.from_numpy(theta).to(radiographs.device)
    grid = F.affine_grid(where, list(radiographs.shape), align_corners=False)
    moved = F.grid_sample(radiographs, grid, align_corners=False)
    mask = (moved[:, 1:] > 0.5).to(moved.dtype)
    gain = torch.from_numpy(1 + how.brightness * rng.uniform(-1, 1, (count, 1, 1, 1))).to(moved)
    return (moved[:, :1] * gain).clamp(0, 1) * mask, mask
