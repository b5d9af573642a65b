"""The memory bank: how far each place is from anything seen on normal hands (PatchCore-like)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.train.atlas import NEAR, box_weights, neighbours, out_of_box, squared_distances, thumbnail
from models.train.calibrate import HeldOut
from models.train.data import Inputs
from models.train.distil import STRIDE
from models.train.graph import Outputs

ROWS = 1500  # vectors in the bank
_CANDIDATES = 20_000
_PLACES = (24, 12)  # the grid over the mask's box on which distances of normals are known
_CHUNK = 8
# The median fracture box covers 0.4 % of a radiograph: nine of 48 × 48 cells. One cell alone is noise.
_MOST_UNUSUAL = 10
_ERODED = 3  # cells: nothing is scored this near to the skin

Features = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """Of n normals: features (n, c, h, w), shown (n, h, w) 0/1, thumbnails (n, 512), groups."""

    features: Tensor
    shown: Tensor
    thumbnails: Tensor
    groups: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """vectors (m, c), the group of each, mean and deviation (rows, columns) of distances among normals."""

    vectors: Tensor
    groups: tuple[str, ...]
    mean: Tensor
    deviation: Tensor
    thumbnails: Tensor


def look(radiograph: Tensor, features: Features) -> tuple[Tensor, Tensor, Tensor]:
    """Features, shown and thumbnail of (n, 2, S, S) as `model.onnx` takes it."""
    root, mask = radiograph[:, :1].clamp(0, 1).sqrt(), radiograph[:, 1:]
    shown = (F.avg_pool2d(mask, STRIDE) > 0.5).to(mask.dtype).squeeze(1)
    thumb = thumbnail(F.avg_pool2d(root, STRIDE).squeeze(1), shown)
    return features(root, mask), shown, thumb


@torch.no_grad()
def see(features: Features, inputs: Inputs) -> Seen:
    """What is seen of many radiographs, a few at a time."""
    parts = [
        look(torch.from_numpy(inputs.batch(slice(start, start + _CHUNK))), features)
        for start in range(0, len(inputs), _CHUNK)
    ]
    found, shown, thumbnails = (torch.cat(column) for column in zip(*parts, strict=True))
    groups = tuple(sample.group for sample in inputs.samples)
    return Seen(features=found.float(), shown=shown, thumbnails=thumbnails, groups=groups)


def build_bank(seen: Seen, *, seed: int = 0, rows: int = ROWS) -> tuple[Bank, HeldOut]:
    """The bank of these normals, and each of them scored as if its group were not in it."""
    vectors, owners = _k_centre(seen, rows, np.random.default_rng(seed))
    groups = tuple(seen.groups[owner] for owner in owners)
    distances = _held_out_distances(seen, vectors, groups)
    boxes = box_weights(seen.shown, rows=_PLACES[0], columns=_PLACES[1])
    weight = boxes.into_box(seen.shown).clamp(0, 1)
    known = boxes.into_box(distances * seen.shown) / weight.clamp(min=1e-3)
    tissue = distances[seen.shown > 0]
    # One normal of average tissue speaks where few normals have any.
    total = weight.sum(dim=0) + 1
    mean = ((weight * known).sum(dim=0) + tissue.mean()) / total
    variance = ((weight * (known - mean) ** 2).sum(dim=0) + tissue.var()) / total
    bank = Bank(
        vectors=vectors,
        groups=groups,
        mean=mean,
        deviation=variance.sqrt(),
        thumbnails=seen.thumbnails,
    )
    return bank, _held_out(seen, bank, distances)


class Reader(nn.Module):
    """distances, shown (n, h, w) → score and map, against the distances of normals at the same places."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, bank: Bank) -> None:
        super().__init__()
        self.register_buffer("mean", bank.mean)
        self.register_buffer("deviation", bank.deviation + 0.1 * bank.deviation.mean())

    def forward(self, distances: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        everyone = shown[:, :1, :1] * 0
        mean, deviation = (out_of_box(grid + everyone, shown) for grid in (self.mean, self.deviation))
        inside = 1 - F.max_pool2d(1 - shown.unsqueeze(1), _ERODED, stride=1, padding=_ERODED // 2).squeeze(1)
        z = F.relu((distances - mean) / deviation) * inside
        score = torch.topk(z.flatten(1), _MOST_UNUSUAL, dim=1).values.mean(dim=1)
        smooth = F.avg_pool2d(z.unsqueeze(1), 3, stride=1, padding=1).squeeze(1) * inside
        highest = smooth.amax(dim=(1, 2)).clamp(min=1e-6)
        return score, smooth * (score / highest).reshape(-1, 1, 1)


class MemoryBank(nn.Module):
    """(n, 2, S, S) radiograph → score (n,), novelty (n,), anomaly_map (n, S/8, S/8); rows do not know each
    other. features: (root, mask) → (n, c, S/8, S/8)."""

    centre: Tensor
    weight: Tensor
    bias: Tensor
    thumbnails: Tensor

    def __init__(self, features: Features, bank: Bank) -> None:
        super().__init__()
        self.features = features
        self.reader = Reader(bank)
        # Around their centre, so that what all vectors share is not what is subtracted below.
        centre = bank.vectors.mean(dim=0)
        self.register_buffer("centre", centre[:, None, None])
        self.register_buffer("weight", (bank.vectors - centre)[:, :, None, None])
        self.register_buffer("bias", -0.5 * ((bank.vectors - centre) ** 2).sum(dim=1))
        self.register_buffer("thumbnails", bank.thumbnails.half())

    def forward(self, radiograph: Tensor) -> Outputs:
        found, shown, thumb = look(radiograph, self.features)
        found = found - self.centre
        # |f - b|² = |f|² - 2 (f·b - |b|²/2): the nearest vector has the largest bracket, a 1×1 convolution.
        nearest = F.conv2d(found, self.weight, self.bias).amax(dim=1)
        distances = ((found * found).sum(dim=1) - 2 * nearest).clamp(min=0).sqrt()
        score, anomaly_map = self.reader(distances, shown)
        near = torch.topk(squared_distances(thumb, self.thumbnails.float()), NEAR, dim=1, largest=False)
        return Outputs(score, near.values.sqrt().mean(dim=1), anomaly_map)


def _k_centre(seen: Seen, rows: int, rng: np.random.Generator) -> tuple[Tensor, NDArray[np.intp]]:
    """Vectors such that none of the candidates is far from all of them, and which normal each is from."""
    owner, row, column = (axis.numpy() for axis in torch.nonzero(seen.shown, as_tuple=True))
    picked = rng.permutation(len(owner))[:_CANDIDATES]
    owner, row, column = owner[picked], row[picked], column[picked]
    candidates = seen.features[owner, :, row, column]
    distances = torch.full((len(candidates),), torch.inf)
    chosen = [0]
    while len(chosen) < min(rows, len(candidates)):
        distances = torch.minimum(distances, ((candidates - candidates[chosen[-1]]) ** 2).sum(dim=1))
        chosen.append(int(distances.argmax()))
    return candidates[chosen].contiguous(), owner[chosen]


def _held_out_distances(seen: Seen, vectors: Tensor, groups: Sequence[str]) -> Tensor:
    """(n, h, w) distance of each cell to the nearest vector of another group."""
    names = np.array(groups)
    found = []
    for features, group in zip(seen.features, seen.groups, strict=True):
        others = vectors[torch.from_numpy(names != group)]
        cells = features.flatten(1).T
        found.append(torch.cdist(cells, others).amin(dim=1).reshape(features.shape[1:]))
    return torch.stack(found)


@torch.no_grad()
def _held_out(seen: Seen, bank: Bank, distances: Tensor) -> HeldOut:
    score, anomaly_map = Reader(bank)(distances, seen.shown)
    nearest, _ = neighbours(seen.thumbnails, seen.groups, NEAR)
    return HeldOut(
        score=score.numpy(),
        novelty=nearest.sqrt().mean(dim=1).numpy(),
        anomaly_map=anomaly_map.numpy(),
        shown=seen.shown.numpy() > 0,
    )
