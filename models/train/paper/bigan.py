"""BiGAN: generator and encoder learn together what a discriminator of pairs (x, z) cannot tell apart.

Published (128 px, width 1, batch 16, 500 epochs): encoder 1-64-128-256-512-1024 by convolutions with spectral
norm and self-attention at 8×8 and 4×4, code of 100; the generator mirrors it with self-attention at 32×32
and 64×64; the discriminator joins 1,024 features of x and 512 of z, 1536-1024-1024-1; log loss on pairs;
Adam 1e-3 for encoder and generator, 5e-6 for the discriminator.

Score: minus the discriminator's logit of (x, E(x)), which orders as 1 - D does.
Map: squared error of G(E(x)).
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from models.train.paper.cae import reconstruction_scores
from models.train.paper.layers import (
    SelfAttention,
    adversarial,
    doublings,
    halvings,
    levels,
    normed_convolution,
    picture_from,
)
from models.train.paper.system import Examined, Optimizers, PaperConfig, System, adam, channels, descend

CODE = 100
_WIDTHS = (64, 128, 256, 512, 1024)  # of the encoder, at half the resolution down to 4 px
_CODE_FEATURES = 512


class Encoder(nn.Module):
    """(n, 1, S, S) picture -1..1 → (n, heads · 100, 1, 1)."""

    def __init__(self, config: PaperConfig, *, heads: int = 1) -> None:
        super().__init__()
        widths = encoder_widths(config)
        self.layers = nn.Sequential(
            *halvings([1, *widths[:-1]]),
            SelfAttention(widths[-2]),
            normed_convolution(widths[-2], widths[-1]),
            SelfAttention(widths[-1]),
            spectral_norm(nn.Conv2d(widths[-1], heads * CODE, 4)),
        )

    def forward(self, x: Tensor) -> Tensor:
        code: Tensor = self.layers(x)
        return code.float()


class Generator(nn.Module):
    """(n, 100, 1, 1) → (n, 1, S, S) picture -1..1."""

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        widths = encoder_widths(config)[::-1]  # at 4 px, 8 px, …
        layers: list[nn.Module] = [
            spectral_norm(nn.ConvTranspose2d(CODE, widths[0], 4)),
            nn.BatchNorm2d(widths[0]),
            nn.LeakyReLU(0.01),
        ]
        for doubling, width, side in zip(doublings(widths), widths[1:], (8, 16, 32, 64), strict=False):
            layers.append(doubling)
            if side >= 32:
                layers.append(SelfAttention(width))
        self.layers = nn.Sequential(*layers, picture_from(widths[-1]))

    def forward(self, z: Tensor) -> Tensor:
        picture: Tensor = self.layers(z)
        return picture.float()


class PairDiscriminator(nn.Module):
    """Picture and code → logit (n,) of being (x, E(x)) rather than (G(z), z)."""

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        widths = encoder_widths(config)
        features = channels(_CODE_FEATURES, config.width)
        joint = widths[-1] + features
        hidden = channels(1024, config.width)
        self.picture = nn.Sequential(*halvings([1, *widths]), nn.Conv2d(widths[-1], widths[-1], 4))
        self.code = nn.Sequential(nn.Conv2d(CODE, features, 1), nn.LeakyReLU(0.01))
        self.joint = nn.Sequential(
            nn.Conv2d(joint, hidden, 1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(hidden, hidden, 1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(hidden, 1, 1),
        )

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        logit: Tensor = self.joint(torch.cat([self.picture(x), self.code(z)], dim=1))
        return logit.float().flatten()


class Bigan(System):
    def __init__(self, config: PaperConfig) -> None:
        super().__init__(config)
        self.makers = nn.ModuleDict({"encoder": Encoder(config), "generator": Generator(config)})
        self.discriminator = PairDiscriminator(config)

    def optimizers(self) -> Optimizers:
        return {
            "makers": adam(self.makers, 1e-3),
            "discriminator": adam(self.discriminator, 5e-6 * self.config.rate),
        }

    def learn(self, picture: Tensor, mask: Tensor, optimizers: Optimizers) -> dict[str, float]:
        x = 2 * picture - 1
        z = torch.randn(len(picture), CODE, 1, 1, device=picture.device)
        code, generated = self.makers["encoder"](x), self.makers["generator"](z)
        real = self.discriminator(x, code.detach())
        fake = self.discriminator(generated.detach(), z)
        told = descend(adversarial(real, 1) + adversarial(fake, 0), optimizers["discriminator"])
        deceived = adversarial(self.discriminator(x, code), 0) + adversarial(
            self.discriminator(generated, z), 1
        )
        return {"loss": descend(deceived, optimizers["makers"]), "discriminator": told}

    def examine(self, picture: Tensor, mask: Tensor) -> Examined:
        x = 2 * picture - 1
        code = self.makers["encoder"](x)
        error = (self.makers["generator"](code) - x) ** 2 * mask
        scores = {"1 - D": -self.discriminator(x, code), **reconstruction_scores(error, mask)}
        return Examined(scores, error)


def encoder_widths(config: PaperConfig) -> list[int]:
    """Channels at half the resolution, …, 8 px and 4 px; ValueError for a side with no such encoder."""
    depth = levels(config.input_px)
    if not 2 <= depth <= len(_WIDTHS):
        raise ValueError(f"input_px is {config.input_px}: BiGAN and α-GAN take 16, 32, 64 or 128")
    return [channels(width, config.width) for width in _WIDTHS[-depth:]]
