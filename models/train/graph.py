"""The whole of `model.onnx` as one module: photometric preprocessing, networks, atlas, map, score and
novelty."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.train.atlas import Atlas, AtlasScore, thumbnail
from models.train.network import STRIDE, DefectNetwork

_UNUSUAL = 32  # cells: the mean of so many changes less under a small shift or turn than the highest
_SMOOTHED = 5  # cells: a defect is no single cell
_ERODED = 5  # cells: nothing is scored this near to the skin, where the mask's own edge is seen


class Evidence(NamedTuple):
    """logit, shown, scored (n, h, w) at the stride of the map; thumb (n, 512)."""

    logit: Tensor
    shown: Tensor
    scored: Tensor
    thumb: Tensor


class Outputs(NamedTuple):
    """What `model.onnx` puts out."""

    score: Tensor
    novelty: Tensor
    anomaly_map: Tensor


class Perception(nn.Module):
    """What is seen before anything is compared with normals."""

    def __init__(self, members: Sequence[DefectNetwork]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, radiograph: Tensor) -> Evidence:
        root = radiograph[:, :1].clamp(0, 1).sqrt()
        mask = radiograph[:, 1:]
        logit = torch.stack([member(root, mask) for member in self.members]).mean(dim=0)
        shown = (F.avg_pool2d(mask, STRIDE) > 0.5).to(mask.dtype)
        scored = 1 - F.max_pool2d(1 - shown, _ERODED, stride=1, padding=_ERODED // 2)
        thumb = thumbnail(F.avg_pool2d(root, STRIDE).squeeze(1), shown.squeeze(1))
        return Evidence(logit.squeeze(1), shown.squeeze(1), scored.squeeze(1), thumb)


class Detector(nn.Module):
    """(n, 2, S, S) radiograph → score (n,), novelty (n,), anomaly_map (n, S/4, S/4); rows do not know each
    other."""

    def __init__(self, members: Sequence[DefectNetwork], atlas: Atlas) -> None:
        super().__init__()
        self.perception = Perception(members)
        self.atlas = AtlasScore(atlas)

    def forward(self, radiograph: Tensor) -> Outputs:
        seen = self.perception(radiograph)
        z, novelty = self.atlas(seen.logit, seen.thumb, seen.shown)
        score = score_of(z, seen)
        return Outputs(score, novelty, map_of(score, seen))


def score_of(z: Tensor, seen: Evidence) -> Tensor:
    """How far the most unusual cells away from the skin lie above look-alikes (n,); never negative."""
    unusual = (F.relu(z) * seen.scored).flatten(1)
    return torch.topk(unusual, _UNUSUAL, dim=1).values.mean(dim=1)


def map_of(score: Tensor, seen: Evidence) -> Tensor:
    """Where the networks see a defect (n, h, w), scaled so that the highest value is the score."""
    defect = F.avg_pool2d(torch.sigmoid(seen.logit).unsqueeze(1), _SMOOTHED, stride=1, padding=_SMOOTHED // 2)
    evidence = defect.squeeze(1) * seen.scored
    highest = evidence.amax(dim=(1, 2)).clamp(min=1e-6)
    return evidence * (score / highest).unsqueeze(1).unsqueeze(2)
