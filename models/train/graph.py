"""The whole of `model.onnx` as one module: photometric preprocessing, networks, atlas, map, score and
novelty."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.train.atlas import Atlas, AtlasScore, thumbnail
from models.train.network import STRIDE, DefectNetwork

_LOGIT_SHARE = 0.3  # of the bare logit in the map: what stands out anywhere counts a little everywhere
_LOGIT_PLAIN = -5.0  # the logit of plain bone, which adds nothing
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
        anomaly_map = map_of(z, seen)
        return Outputs(score_of(anomaly_map, seen), novelty, anomaly_map)


def map_of(z: Tensor, seen: Evidence) -> Tensor:
    """The map for people (n, h, w): never negative, zero outside the mask."""
    return F.relu(z + _LOGIT_SHARE * (seen.logit - _LOGIT_PLAIN)) * seen.shown


def score_of(anomaly_map: Tensor, seen: Evidence) -> Tensor:
    """The map's highest value away from the skin (n,)."""
    return (anomaly_map * seen.scored).amax(dim=(1, 2))
