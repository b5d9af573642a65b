"""Layers that several of the paper's adversarial systems share."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

_KEYS = 8  # keys and values lie on a grid of at most this many cells a side


class SelfAttention(nn.Module):
    """(n, c, h, w) → the same, each place mixed with those it resembles; opens from zero while learning.

    Keys and values are averaged to 8×8: full attention at 64×64 is a table of 4,096² a radiograph.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = spectral_norm(nn.Conv2d(width, max(1, width // 8), 1))
        self.key = spectral_norm(nn.Conv2d(width, max(1, width // 8), 1))
        self.value = spectral_norm(nn.Conv2d(width, width, 1))
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        coarse = F.avg_pool2d(x, x.shape[-1] // _KEYS) if x.shape[-1] > _KEYS else x
        query, key = self.query(x).flatten(2), self.key(coarse).flatten(2)
        value = self.value(coarse).flatten(2)
        weight = _product(query.transpose(1, 2), key, exact=self.training).softmax(dim=2)  # (n, places, keys)
        mixed = _product(value, weight.transpose(1, 2), exact=self.training)
        return x + self.gain * mixed.reshape(x.shape)


def _product(a: Tensor, b: Tensor, *, exact: bool) -> Tensor:
    """(n, i, k) times (n, k, j); as a sum when it is exported: see `models.train.atlas.product`."""
    return a @ b if exact else (a.unsqueeze(2) * b.transpose(1, 2).unsqueeze(1)).sum(dim=3)


class MinibatchDiscrimination(nn.Module):
    """(n, c, s, s) features → (n, closenesses) 0..1: how close each picture is to its batch (Salimans 2016,
    averaged instead of summed).

    In training a batch is compared with itself. Then a radiograph's answer would depend on its company: a
    trained discriminator compares each with one fixed `reference` instead, as many training normals as it
    had batch mates.
    """

    reference: Tensor

    def __init__(self, inputs: int, side: int, closenesses: int, *, batch: int, kernel: int = 16) -> None:
        super().__init__()
        self.project = nn.Conv2d(inputs, closenesses * kernel, side, bias=False)
        self.register_buffer("reference", torch.zeros(batch - 1, closenesses, kernel))

    def forward(self, features: Tensor) -> Tensor:
        own = self._projected(features)
        if self.training:  # without itself
            return (self._closeness(own, own) - 1) / max(1, len(own) - 1)
        return self._closeness(own, self.reference) / len(self.reference)

    def settle(self, features: Tensor) -> None:
        """Make the first of these training normals the reference; as many as there are."""
        self.reference = self._projected(features)[: len(self.reference)]

    def _projected(self, features: Tensor) -> Tensor:
        _, closenesses, kernel = self.reference.shape
        return cast(Tensor, self.project(features)).float().reshape(-1, closenesses, kernel)

    @staticmethod
    def _closeness(own: Tensor, others: Tensor) -> Tensor:
        distance = (own.unsqueeze(1) - others.unsqueeze(0)).abs().sum(dim=3)
        return torch.exp(-distance).sum(dim=1)


def normed_convolution(inputs: int, outputs: int) -> nn.Sequential:
    """4×4 at stride 2 with spectral norm: halves the side."""
    return nn.Sequential(spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1)), nn.LeakyReLU(0.01))


def normed_deconvolution(inputs: int, outputs: int) -> nn.Sequential:
    """Transposed 4×4 at stride 2 with spectral norm and batch norm: doubles the side."""
    convolution = spectral_norm(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1))
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.01))


def halvings(widths: Sequence[int]) -> list[nn.Module]:
    """A `normed_convolution` from each width to the next."""
    return [normed_convolution(before, after) for before, after in pairwise(widths)]


def doublings(widths: Sequence[int]) -> list[nn.Module]:
    """A `normed_deconvolution` from each width to the next."""
    return [normed_deconvolution(before, after) for before, after in pairwise(widths)]


def picture_from(width: int) -> nn.Sequential:
    """The last doubling of a generator, to one channel -1..1."""
    return nn.Sequential(spectral_norm(nn.ConvTranspose2d(width, 1, 4, 2, 1)), nn.Tanh())


def levels(input_px: int) -> int:
    """How often 4 px double to `input_px`; ValueError when they do not."""
    count = input_px.bit_length() - 3
    if count < 1 or input_px != 4 << count:
        raise ValueError(f"input_px is {input_px}: the adversarial systems take a power of two from 8")
    return count


def bare_weights(network: nn.Module) -> None:
    """Replace each spectrally normed weight by its value, in place: what a trained network computes with."""
    for module in network.modules():
        if nn.utils.parametrize.is_parametrized(module):
            nn.utils.parametrize.remove_parametrizations(module, "weight")


def adversarial(logits: Tensor, target: float) -> Tensor:
    """Cross entropy of a discriminator's logits with one label for all."""
    return F.binary_cross_entropy_with_logits(logits.float(), torch.full_like(logits.float(), target))
