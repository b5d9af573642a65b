"""The whole of `model.onnx` for one of the paper's systems, with the default's novelty beside it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.train.atlas import NEAR, squared_distances, thumbnail
from models.train.columns import equalized
from models.train.graph import Outputs
from models.train.paper.system import Examined, System

_SIGMA = 5 / 512  # of the heatmap's Gaussian, as a share of the picture's side
_COARSE_PX = 96  # thumbnails are drawn from a picture of about this side


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Makes a typical normal's score 0 ± 1 and the peak of its map 1: orders stay as they are."""

    centre: float = 0.0
    spread: float = 1.0
    peak: float = 1.0


class PaperGraph(nn.Module):
    """(n, 2, S, S) radiograph → score (n,), novelty (n,), anomaly_map (n, S, S); rows do not know each
    other.

    thumbnails (m, 512): of normals, for the novelty.
    """

    thumbnails: Tensor

    def __init__(self, system: System, *, thumbnails: Tensor, scale: Scale) -> None:
        super().__init__()
        self.system = system
        self.scale = scale
        self.register_buffer("thumbnails", thumbnails.half())

    def forward(self, radiograph: Tensor) -> Outputs:
        examined, mask = self.examine(radiograph)
        score = (next(iter(examined.scores.values())) - self.scale.centre) / self.scale.spread
        distances = squared_distances(small_picture(radiograph), self.thumbnails.float())
        nearest = torch.topk(distances, NEAR, dim=1, largest=False, sorted=True).values
        anomaly_map = blurred(examined.evidence) * mask / self.scale.peak
        return Outputs(score, nearest.sqrt().mean(dim=1), anomaly_map.squeeze(1))

    def examine(self, radiograph: Tensor) -> tuple[Examined, Tensor]:
        """What the system says of its picture, and the mask."""
        picture, mask = shown_picture(radiograph, equalize=self.system.config.equalize)
        return self.system.examine(picture, mask), mask


def shown_picture(radiograph: Tensor, *, equalize: bool) -> tuple[Tensor, Tensor]:
    """Picture 0..1 from its least to its greatest grey, zero outside the mask; and the mask."""
    mask = radiograph[:, 1:]
    grey = radiograph[:, :1].clamp(0, 1) * mask
    if equalize:
        grey = equalized(grey, mask)
    return grey / grey.amax(dim=(2, 3), keepdim=True).clamp(min=1e-6), mask


def small_picture(radiograph: Tensor) -> Tensor:
    """(n, 512) thumbnail that the novelty compares, as the default model draws it."""
    stride = max(1, radiograph.shape[-1] // _COARSE_PX)
    root = radiograph[:, :1].clamp(0, 1).sqrt()
    mask = (F.avg_pool2d(radiograph[:, 1:], stride) > 0.5).to(radiograph.dtype)
    return thumbnail(F.avg_pool2d(root, stride).squeeze(1), mask.squeeze(1))


def blurred(evidence: Tensor) -> Tensor:
    """The paper's Gaussian of 5 px at 512 px, one axis at a time; (n, 1, h, w)."""
    sigma = _SIGMA * evidence.shape[-1]
    reach = max(1, round(3 * sigma))
    offset = torch.arange(-reach, reach + 1, dtype=evidence.dtype)
    weight = torch.exp(-((offset / sigma) ** 2) / 2)
    weight = (weight / weight.sum()).reshape(1, 1, -1, 1)
    down = F.conv2d(evidence, weight, padding=(reach, 0))
    return F.conv2d(down, weight.transpose(2, 3), padding=(0, reach))
