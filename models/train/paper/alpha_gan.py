"""α-GAN: a variational encoder, a generator, and a discriminator each for pictures and for codes.

Published (128 px, width 1, batch 16, 500 epochs): encoder as BiGAN's with mean and log-variance heads; the
same generator; discriminator with self-attention and minibatch discrimination (16,384 features → 64); code
discriminator 100-50-25-1; 0.01·L1 (here a sum over pixels) + adversarial terms on x, its reconstruction, a
sample and the code; Adam 1e-3 for encoder and generator, 1e-4 and 1e-6 for the discriminators.

Score: minus the picture discriminator's logit, which orders as 1 - D(x) does. Map: squared error of G(mean).
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from models.train.paper.bigan import CODE, Encoder, Generator, encoder_widths
from models.train.paper.cae import reconstruction_scores
from models.train.paper.layers import (
    MinibatchDiscrimination,
    SelfAttention,
    adversarial,
    halvings,
    normed_convolution,
)
from models.train.paper.system import Examined, Optimizers, PaperConfig, System, adam, descend

_CLOSENESSES = 64
_L1 = 0.01


class PictureDiscriminator(nn.Module):
    """(n, 1, S, S) picture -1..1 → logit (n,) of being real."""

    def __init__(self, config: PaperConfig) -> None:
        super().__init__()
        widths = encoder_widths(config)
        self.features = nn.Sequential(
            *halvings([1, *widths[:-1]]),
            SelfAttention(widths[-2]),
            normed_convolution(widths[-2], widths[-1]),
            SelfAttention(widths[-1]),
        )
        self.company = MinibatchDiscrimination(widths[-1], 4, _CLOSENESSES, batch=config.batch, kernel=4)
        self.own = spectral_norm(nn.Conv2d(widths[-1], 1, 4))
        self.others = spectral_norm(nn.Conv2d(_CLOSENESSES, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        company = self.company(features)[:, :, None, None]
        logit: Tensor = self.own(features).float() + self.others(company).float()
        return logit.flatten()


class AlphaGan(System):
    def __init__(self, config: PaperConfig) -> None:
        super().__init__(config)
        self.makers = nn.ModuleDict({"encoder": Encoder(config, heads=2), "generator": Generator(config)})
        self.discriminator = PictureDiscriminator(config)
        self.code_discriminator = nn.Sequential(
            nn.Conv2d(CODE, 50, 1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(50, 25, 1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(25, 1, 1),
        )

    def optimizers(self) -> Optimizers:
        return {
            "makers": adam(self.makers, 1e-3),
            "discriminator": adam(self.discriminator, 1e-4 * self.config.rate),
            "code": adam(self.code_discriminator, 1e-6 * self.config.rate),
        }

    def learn(self, picture: Tensor, mask: Tensor, optimizers: Optimizers) -> dict[str, float]:
        x = 2 * picture - 1
        mean, log_variance = self.makers["encoder"](x).chunk(2, dim=1)
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        prior = torch.randn_like(code)
        rebuilt, sampled = self.makers["generator"](code), self.makers["generator"](prior)

        told = adversarial(self.discriminator(x), 1)
        told = told + adversarial(self.discriminator(rebuilt.detach()), 0)
        told = told + adversarial(self.discriminator(sampled.detach()), 0)
        told_of_codes = adversarial(self.code_discriminator(prior), 1)
        told_of_codes = told_of_codes + adversarial(self.code_discriminator(code.detach()), 0)
        values = {
            "discriminator": descend(told, optimizers["discriminator"]),
            "code": descend(told_of_codes, optimizers["code"]),
        }
        loss = _L1 * ((rebuilt - x).abs() * mask).sum(dim=(1, 2, 3)).mean()
        loss = (
            loss + adversarial(self.discriminator(rebuilt), 1) + adversarial(self.discriminator(sampled), 1)
        )
        loss = loss + adversarial(self.code_discriminator(code), 1)
        return {"loss": descend(loss, optimizers["makers"]), **values}

    def settle(self, picture: Tensor, mask: Tensor) -> None:
        self.discriminator.company.settle(self.discriminator.features(2 * picture - 1))

    def examine(self, picture: Tensor, mask: Tensor) -> Examined:
        x = 2 * picture - 1
        mean, _ = self.makers["encoder"](x).chunk(2, dim=1)
        error = (self.makers["generator"](mean) - x) ** 2 * mask
        scores = {
            "1 - D": -self.discriminator(x),
            "code discriminator": -self.code_discriminator(mean).float().flatten(),
            **reconstruction_scores(error, mask),
        }
        return Examined(scores, error)
