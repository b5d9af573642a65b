"""DCGAN: a generator and a discriminator; what the discriminator takes for generated is unusual.

Published (512 px, width 1, batch 80, 500 epochs): generator from 2,048 draws by transposed convolutions
1024-512-256-128-64-32-16-1, spectral norm, LeakyReLU 0.01, tanh; discriminator 1-4-8-16-32-64-128-256-512 by
convolutions with spectral norm, then minibatch discrimination; cross entropy with softened labels; Adam 1e-3
and 1e-5, betas 0.5 and 0.999. At 128 px the generator ends, and the discriminator begins, two levels later.
How far labels were softened and how wide the minibatch discrimination was is not known: both are ours.

Score: minus the discriminator's logit, which orders as 1 - D(x) does and does not saturate. Nothing is
reconstructed, so the map shows where the discriminator's features at an eighth of the resolution deviate
from those of training normals at the same place, in standard deviations, squared.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from models.train.paper.layers import (
    MinibatchDiscrimination,
    adversarial,
    doublings,
    halvings,
    levels,
    picture_from,
)
from models.train.paper.system import Examined, Optimizers, PaperConfig, System, adam, channels, descend

_DRAWS = 2048
_GENERATOR = (1024, 512, 256, 128, 64, 32, 16)
_DISCRIMINATOR = (4, 8, 16, 32, 64, 128, 256, 512)
_CLOSENESSES = 32
_SOFTENED = 0.2  # labels are drawn from 0..0.2 and 0.8..1
_BETAS = (0.5, 0.999)


class Discriminator(nn.Module):
    """(n, 1, S, S) picture -1..1 → logit (n,) of being real, and features (n, c, S/8, S/8)."""

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        depth = levels(config.input_px) + 1  # down to 2 px
        widths = [1, *(channels(width, config.width) for width in _DISCRIMINATOR[-depth:])]
        self.fine = nn.Sequential(*halvings(widths[:4]))
        self.coarse = nn.Sequential(*halvings(widths[3:]))
        self.company = MinibatchDiscrimination(widths[-1], 2, _CLOSENESSES, batch=config.batch)
        self.own = spectral_norm(nn.Conv2d(widths[-1], 1, 2))
        self.others = spectral_norm(nn.Conv2d(_CLOSENESSES, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(x)
        coarse = self.coarse(fine)
        company = self.company(coarse)[:, :, None, None]
        logit = self.own(coarse).float() + self.others(company).float()
        return logit.flatten(), fine


class Dcgan(System):
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: PaperConfig) -> None:
        super().__init__(config)
        widths = [channels(width, config.width) for width in _GENERATOR[: levels(config.input_px)]]
        self.draws = channels(_DRAWS, config.width)
        first = spectral_norm(nn.ConvTranspose2d(self.draws, widths[0], 4))
        self.generator = nn.Sequential(
            first, nn.BatchNorm2d(widths[0]), nn.LeakyReLU(0.01), *doublings(widths), picture_from(widths[-1])
        )
        self.discriminator = Discriminator(config)
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("deviation", torch.ones(1))

    def optimizers(self) -> Optimizers:
        return {
            "generator": adam(self.generator, 1e-3, _BETAS),
            "discriminator": adam(self.discriminator, 1e-5 * self.config.rate, _BETAS),
        }

    def learn(self, picture: Tensor, mask: Tensor, optimizers: Optimizers) -> dict[str, float]:
        generated = self.generator(torch.randn(len(picture), self.draws, 1, 1, device=picture.device))
        real, _ = self.discriminator(2 * picture - 1)
        fake, _ = self.discriminator(generated.detach())
        loss = _softened(real, 1 - _SOFTENED) + _softened(fake, 0)
        told = descend(loss, optimizers["discriminator"])
        deceived, _ = self.discriminator(generated)
        return {
            "loss": descend(adversarial(deceived, 1), optimizers["generator"]),
            "discriminator": told,
        }

    def settle(self, picture: Tensor, mask: Tensor) -> None:
        fine = self.discriminator.fine(2 * picture - 1)
        self.discriminator.company.settle(self.discriminator.coarse(fine))
        self.mean, self.deviation = fine.mean(dim=0), fine.std(dim=0)

    def examine(self, picture: Tensor, mask: Tensor) -> Examined:
        logit, fine = self.discriminator(2 * picture - 1)
        unusual = ((fine - self.mean) / (self.deviation + 0.1 * self.deviation.mean() + 1e-6)) ** 2
        evidence = F.interpolate(unusual.mean(dim=1, keepdim=True), scale_factor=8.0, mode="nearest")
        return Examined({"1 - D": -logit}, evidence * mask)


def _softened(logits: Tensor, low: float) -> Tensor:
    """Cross entropy with labels drawn from `low`..`low` + 0.2."""
    labels = low + _SOFTENED * torch.rand_like(logits)
    return F.binary_cross_entropy_with_logits(logits, labels)
