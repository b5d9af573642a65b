"""VAE: a variational autoencoder; a code far from the prior is unusual.

Published (512 px, width 1, batch 32, 500 epochs): 4×4 convolutions at stride 2 without padding,
1-8-16-32-64-128-256-512, which leaves 2,048 features; code of 1024; the decoder mirrors, its last kernel is
6×6, then a sigmoid. At 128 px the same with the last five widths. Adam 5e-5.

The published loss averages the cross entropy over pixels but sums the divergence, so that the divergence
rules and the code collapses to the prior. Both are here: `vae-published`, and `vae`, where both are sums
over one radiograph.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.train.paper.cae import reconstruction_scores
from models.train.paper.system import Examined, Optimizers, PaperConfig, System, adam, channels, descend

_WIDTHS = (8, 16, 32, 64, 128, 256, 512)
_CODE = 1024


class Vae(System):
    def __init__(self, config: PaperConfig) -> None:
        super().__init__(config)
        sides = _sides(config.input_px)
        widths = [channels(width, config.width) for width in _WIDTHS[-len(sides) :]]
        code = channels(_CODE, config.width)
        encoder: list[nn.Module] = []
        for before, after in pairwise([1, *widths]):
            encoder += [nn.Conv2d(before, after, 4, 2), nn.ReLU()]
        self.encoder = nn.Sequential(*encoder)
        # Fully connected layers, written as convolutions over all that is left.
        self.mean = nn.Conv2d(widths[-1], code, sides[-1])
        self.log_variance = nn.Conv2d(widths[-1], code, sides[-1])
        decoder: list[nn.Module] = [nn.ConvTranspose2d(code, widths[-1], sides[-1]), nn.ReLU()]
        for before, after in pairwise(widths[::-1]):
            decoder += [nn.ConvTranspose2d(before, after, 4, 2), nn.ReLU()]
        decoder.append(nn.ConvTranspose2d(widths[0], 1, 6, 2))
        self.decoder = nn.Sequential(*decoder)

    def optimizers(self) -> Optimizers:
        return {"all": adam(self, 5e-5 * self.config.rate)}

    def learn(self, picture: Tensor, mask: Tensor, optimizers: Optimizers) -> dict[str, float]:
        mean, log_variance = self._encode(picture)
        drawn = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        logits = self.decoder(drawn).float()
        entropy = F.binary_cross_entropy_with_logits(logits, picture, reduction="none")
        divergence = kl_divergence(mean, log_variance)
        loss = self.combine(entropy, divergence)
        values = {"kl": float(divergence.mean().detach()), "bce": float(entropy.mean().detach())}
        return {"loss": descend(loss, optimizers["all"]), **values}

    def combine(self, entropy: Tensor, divergence: Tensor) -> Tensor:
        """The evidence bound: cross entropy (n, 1, h, w) and divergence (n,), both summed per radiograph."""
        return entropy.sum(dim=(1, 2, 3)).mean() + divergence.mean()

    def examine(self, picture: Tensor, mask: Tensor) -> Examined:
        mean, log_variance = self._encode(picture)
        error = (self.decoder(mean).sigmoid() - picture) ** 2 * mask
        return Examined(
            {"kl": kl_divergence(mean, log_variance), **reconstruction_scores(error, mask)}, error
        )

    def _encode(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(picture)
        return self.mean(features).float(), self.log_variance(features).float()


class PublishedVae(Vae):
    """With the loss as it was published."""

    def combine(self, entropy: Tensor, divergence: Tensor) -> Tensor:
        return entropy.mean() + divergence.sum()


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """(n,) of the code (n, c, 1, 1) from the standard normal.

    Small variances come from the series of exp(x) - 1 - x: a collapsed code is all cancellation otherwise.
    """
    x = log_variance
    series = x * x * (0.5 + x * (1 / 6 + x / 24))
    excess = torch.where(x.abs() < 0.1, series, x.exp() - 1 - x)
    return 0.5 * (mean * mean + excess).sum(dim=(1, 2, 3))


def _sides(input_px: int) -> list[int]:
    """Side of the feature map after each convolution, down to 2; ValueError when no stack ends there."""
    sides = []
    side = input_px
    while side > 2:
        side = (side - 4) // 2 + 1
        sides.append(side)
    if side != 2 or len(sides) > len(_WIDTHS):
        raise ValueError(f"input_px is {input_px}: the VAE takes 32, 64, 128, 256 or 512")
    return sides
