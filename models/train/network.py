"""The defect network: a small U-Net from a radiograph to a map of logits at a quarter of its resolution."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 4  # of the logit map
_CONTRAST_PX = 31


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Channels at strides 2, 4, 8, 16 and 32."""

    widths: tuple[int, int, int, int, int] = (16, 32, 64, 96, 128)


def local_contrast(root: Tensor, mask: Tensor) -> Tensor:
    """(n, 1, h, w) grey relative to mean and spread of its surroundings, counting only what the mask
    shows."""
    weight = _box_mean(mask).clamp(min=1e-3)
    mean = _box_mean(root * mask) / weight
    spread = (_box_mean(root * root * mask) / weight - mean * mean).clamp(min=0).sqrt()
    return ((root - mean) / (spread + 0.02) * mask).clamp(-5, 5)


def _box_mean(x: Tensor) -> Tensor:
    half = _CONTRAST_PX // 2
    down = F.avg_pool2d(x, (_CONTRAST_PX, 1), stride=1, padding=(half, 0))
    return F.avg_pool2d(down, (1, _CONTRAST_PX), stride=1, padding=(0, half))


class _Block(nn.Module):
    """Two convolutions; the first may halve the resolution."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result


class DefectNetwork(nn.Module):
    """(n, 1, h, w) root of grey and mask → (n, 1, h/4, w/4) logits; h and w divisible by 32."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        w2, w4, w8, w16, w32 = config.widths
        self.stem = _Block(3, w2, stride=2)
        self.down4 = _Block(w2, w4, stride=2)
        self.down8 = _Block(w4, w8, stride=2)
        self.down16 = _Block(w8, w16, stride=2)
        self.down32 = _Block(w16, w32, stride=2)
        self.up16 = _Block(w32 + w16, w16)
        self.up8 = _Block(w16 + w8, w8)
        self.up4 = _Block(w8 + w4, w4)
        self.head = nn.Conv2d(w4, 1, 1)
        nn.init.constant_(self.head.bias, -3.0)  # type: ignore[arg-type]  # defects are rare

    def forward(self, root: Tensor, mask: Tensor) -> Tensor:
        x4 = self.down4(self.stem(torch.cat([root, local_contrast(root, mask), mask], dim=1)))
        x8 = self.down8(x4)
        x16 = self.down16(x8)
        x = self.down32(x16)
        x = self.up16(torch.cat([_double(x), x16], dim=1))
        x = self.up8(torch.cat([_double(x), x8], dim=1))
        x = self.up4(torch.cat([_double(x), x4], dim=1))
        logits: Tensor = self.head(x)
        return logits


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def defect_loss(logits: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Focal cross entropy plus Dice over what the mask shows; all (n, 1, h, w)."""
    probability = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, label, reduction="none")
    missed = torch.where(label > 0.5, 1 - probability, probability)
    weight = torch.where(label > 0.5, 3.0, 1.0) * mask
    focal = (missed**1.5 * entropy * weight).sum() / mask.sum().clamp(min=1)
    overlap = (probability * label * mask).sum()
    dice = 1 - (2 * overlap + 1) / ((probability * mask).sum() + (label * mask).sum() + 1)
    return 10 * focal + dice
