"""The atlas: what the network says of normal radiographs, laid over each other by the box of their masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ATLAS_HEIGHT, ATLAS_WIDTH = 96, 48
THUMB_HEIGHT, THUMB_WIDTH = 32, 16
_LIKE = 60  # look-alikes whose logits are the background of a radiograph: the nearest most, the last not …
_VOICES = 12.0  # … as much together as so many of one voice
_PRIOR = 1.0  # voices of all normal tissue
NEAR = 5  # nearest normals whose distance is the novelty


@dataclass(frozen=True, kw_only=True, eq=False)
class Atlas:
    """thumbnails (n, 512), logits and shown (n, 4608) of n normal radiographs.

    shown: share of a cell that lies inside the mask. mean, variance: of the logits of all normal tissue.
    """

    thumbnails: Tensor
    logits: Tensor
    shown: Tensor
    mean: float
    variance: float


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxWeights:
    """down (n, rows, h) and across (n, columns, w): interpolation of the mask's box, one axis each."""

    down: Tensor
    across: Tensor

    def into_box(self, x: Tensor) -> Tensor:
        """(n, h, w) → (n, rows, columns)."""
        return product(product(self.down, x), self.across.transpose(1, 2))


def box_weights(mask: Tensor, *, rows: int, columns: int) -> BoxWeights:
    """Linear interpolation, wide enough to average when the box shrinks; mask (n, h, w) 0..1."""
    return BoxWeights(
        down=_axis_weights(mask.amax(dim=2), rows), across=_axis_weights(mask.amax(dim=1), columns)
    )


def out_of_box(boxed: Tensor, mask: Tensor) -> Tensor:
    """(n, rows, columns) of the box back to the (n, h, w) of the mask; the edge goes on outside the box."""
    down = _inverse_weights(mask.amax(dim=2), boxed.shape[1])
    across = _inverse_weights(mask.amax(dim=1), boxed.shape[2])
    return product(product(down, boxed), across.transpose(1, 2))


def product(a: Tensor, b: Tensor) -> Tensor:
    """(n, i, k) times (n, k, j) without MatMul: TensorRT-RTX builds none in float32 for capability 7.5."""
    return (a.unsqueeze(3) * b.unsqueeze(1)).sum(dim=2)


def _extent(profile: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last filled position of (n, size) profiles; the whole when nothing is filled."""
    size = profile.shape[1]
    position = torch.arange(size, dtype=profile.dtype)
    filled = (profile > 0.5).to(profile.dtype)
    first = (position + (1 - filled) * size).amin(dim=1, keepdim=True)
    last = (filled * (position + 1)).amax(dim=1, keepdim=True)
    empty = (last < 0.5).to(profile.dtype)
    return first * (1 - empty), last * (1 - empty) + size * empty


def _axis_weights(profile: Tensor, cells: int) -> Tensor:
    first, last = _extent(profile)
    step = (last - first) / cells
    centre = first + (torch.arange(cells, dtype=profile.dtype) + 0.5) * step
    position = torch.arange(profile.shape[1], dtype=profile.dtype) + 0.5
    width = step.clamp(min=1.0).unsqueeze(2)
    weight = F.relu(1 - (position - centre.unsqueeze(2)).abs() / width)
    return weight / weight.sum(dim=2, keepdim=True).clamp(min=1e-6)


def _inverse_weights(profile: Tensor, cells: int) -> Tensor:
    first, last = _extent(profile)
    position = torch.arange(profile.shape[1], dtype=profile.dtype) + 0.5
    place = (position - first) / (last - first) * cells - 0.5
    weight = F.relu(
        1 - (place.clamp(0, cells - 1).unsqueeze(2) - torch.arange(cells, dtype=profile.dtype)).abs()
    )
    return weight / weight.sum(dim=2, keepdim=True).clamp(min=1e-6)


def thumbnail(root: Tensor, mask: Tensor) -> Tensor:
    """(n, 512) tiny picture of the mask's box; root of grey and mask (n, h, w)."""
    boxed = box_weights(mask, rows=THUMB_HEIGHT, columns=THUMB_WIDTH).into_box(root)
    return boxed.flatten(1)


def squared_distances(queries: Tensor, rows: Tensor) -> Tensor:
    """(n, m) squared distances between the rows of two matrices; see `product`."""
    products = (queries.unsqueeze(1) * rows.unsqueeze(0)).sum(dim=2)
    return (
        (queries * queries).sum(1, keepdim=True) - 2 * products + (rows * rows).sum(1).unsqueeze(0)
    ).clamp(min=0)


class AtlasScore(nn.Module):
    """Logits against those of look-alike normals.

    Kept in half precision: 270 radiographs take 5.2 MB, and the rounding is far below the spread between
    normals.
    """

    thumbnails: Tensor
    logits: Tensor
    shown: Tensor

    def __init__(self, atlas: Atlas) -> None:
        super().__init__()
        self.register_buffer("thumbnails", atlas.thumbnails.half())
        self.register_buffer("logits", atlas.logits.half())
        self.register_buffer("shown", atlas.shown.half())
        self._mean, self._variance = atlas.mean, atlas.variance

    def forward(self, logit: Tensor, thumb: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """logit, mask (n, h, w) and thumb (n, 512) → z (n, h, w) and novelty (n,)."""
        distances = squared_distances(thumb, self.thumbnails.float())
        count = min(_LIKE, len(self.thumbnails))
        nearest, chosen = torch.topk(distances, count, dim=1, largest=False, sorted=True)
        novelty = nearest[:, :NEAR].sqrt().mean(dim=1)
        alike = Atlas(
            thumbnails=self.thumbnails[chosen],
            logits=self.logits[chosen].float(),
            shown=self.shown[chosen].float() * voices(nearest),
            mean=self._mean,
            variance=self._variance,
        )
        return z_map(logit, alike, mask), novelty


def voices(nearest: Tensor) -> Tensor:
    """(n, k, 1) how much each look-alike says, by its squared distance (n, k), rising.

    The one that a small change of the radiograph drops or brings in says nothing, so that none jumps.
    """
    nearer = nearest[:, -1:] - nearest
    return (_VOICES * nearer / nearer.sum(dim=1, keepdim=True).clamp(min=1e-6)).unsqueeze(2)


def z_map(logit: Tensor, alike: Atlas, mask: Tensor) -> Tensor:
    """How far (n, h, w) logits lie above those of look-alikes (n, k, rows · columns), in their spread.

    A look-alike speaks only where it shows tissue; a further one speaks for all normal tissue, so that a
    place where few normals have a finger is not unusual for that alone: that is novelty's business.
    """
    speaking = alike.shown.sum(dim=1) + _PRIOR
    mean = ((alike.shown * alike.logits).sum(dim=1) + _PRIOR * alike.mean) / speaking
    squares = alike.shown * (alike.logits - mean.unsqueeze(1)) ** 2
    spread = ((squares.sum(dim=1) + _PRIOR * alike.variance) / speaking).sqrt()
    background = out_of_box(mean.reshape(-1, ATLAS_HEIGHT, ATLAS_WIDTH), mask)
    variation = out_of_box(spread.reshape(-1, ATLAS_HEIGHT, ATLAS_WIDTH), mask)
    return (logit - background) / (variation + 0.5)


def neighbours(thumbnails: Tensor, groups: Sequence[str], count: int = _LIKE) -> tuple[Tensor, Tensor]:
    """Squared distances and indices of each normal's nearest normals of other groups: both (n, count), fewer
    where there are not so many others."""
    distances = squared_distances(thumbnails, thumbnails)
    same = torch.tensor([[a == b for b in groups] for a in groups])
    distances[same] = torch.inf
    count = min(count, int((~same).sum(dim=1).min()))
    found = torch.topk(distances, count, dim=1, largest=False, sorted=True)
    return found.values, found.indices
