"""What the paper's systems have in common: a configuration, a training step, scores and evidence."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from models.geometry import GeometrySpec
from models.train.paper.augment import FLIPS, Augmentation

Optimizers = Mapping[str, torch.optim.Optimizer]


@dataclass(frozen=True, kw_only=True)
class PaperConfig:
    """Everything that, with the data, determines the weights of one of the paper's systems.

    width: channels as a share of the published ones. rate: times the published learning rate; in adversarial
    systems that of the discriminators, which are published so slow that a short training leaves them blind.
    """

    name: str
    seed: int
    steps: int
    input_px: int
    width: float
    batch: int
    rate: float = 1.0
    geometry: GeometrySpec = field(default_factory=GeometrySpec)
    equalize: bool = False
    checkpoint_every: int = 200


class Examined(NamedTuple):
    """scores: each (n,), higher is more unusual, the first one is served; evidence (n, 1, h, w) ≥ 0."""

    scores: dict[str, Tensor]
    evidence: Tensor


class System(nn.Module, ABC):
    """One system; pictures are (n, 1, S, S) grey 0..1, zero outside `mask` (n, 1, S, S) 0/1."""

    augmentation: ClassVar[Augmentation] = FLIPS

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def optimizers(self) -> Optimizers:
        """One a player, with the published settings."""

    @abstractmethod
    def learn(self, picture: Tensor, mask: Tensor, optimizers: Optimizers) -> dict[str, float]:
        """One training step on a batch; the losses, `loss` first. Draws from torch's global generator."""

    @abstractmethod
    def examine(self, picture: Tensor, mask: Tensor) -> Examined:
        """Scores and evidence; in eval mode rows do not know each other."""

    def settle(self, picture: Tensor, mask: Tensor) -> None:
        """After training: keep what `examine` needs of these training normals."""


def channels(published: int, width: float) -> int:
    """A published number of channels at another width."""
    return max(2, round(published * width))


def adam(parameters: nn.Module, rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.Adam:
    return torch.optim.Adam(parameters.parameters(), lr=rate, betas=betas)


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> float:
    """One step down; returns the loss."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())


def masked_mean(error: Tensor, mask: Tensor) -> Tensor:
    """(n,) mean of (n, 1, h, w) over what each mask shows."""
    return (error * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3)).clamp(min=1)
