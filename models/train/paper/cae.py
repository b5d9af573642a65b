"""CAE: a convolutional autoencoder; what it cannot reproduce is unusual.

Published (512 px, width 1, batch 32, 1,000 epochs): encoder 1-16-32-32-64-64-128-128-256-256-512, alternating
3×3 at stride 1 and 4×4 at stride 2, so that a code of 512×16×16 remains; decoder 512-256-128-64-32-16 by
transposed 4×4, then 3×3 to 1 and Tanh. Masked squared error, Adam 1e-4.
"""

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.train.paper.augment import Augmentation
from models.train.paper.system import (
    Examined,
    Optimizers,
    PaperConfig,
    System,
    adam,
    channels,
    descend,
    masked_mean,
)

_WIDTHS = (16, 32, 64, 128, 256, 512)


class Cae(System):
    augmentation: ClassVar[Augmentation] = Augmentation(brightness=0.2, scale=0.2, rotation_degrees=20)

    def __init__(self, config: PaperConfig) -> None:
        super().__init__(config)
        widths = [channels(width, config.width) for width in _WIDTHS]
        encoder: list[nn.Module] = [_convolution(1, widths[0], kernel=3, stride=1)]
        for before, after in pairwise(widths):
            encoder.append(_convolution(before, after, kernel=4, stride=2))
            if after != widths[-1]:
                encoder.append(_convolution(after, after, kernel=3, stride=1))
        decoder: list[nn.Module] = [
            _convolution(before, after, kernel=4, stride=2, transposed=True)
            for before, after in pairwise(widths[::-1])
        ]
        decoder += [nn.ConvTranspose2d(widths[0], 1, 3, 1, 1), nn.Tanh()]
        self.layers = nn.Sequential(*encoder, *decoder)

    def optimizers(self) -> Optimizers:
        return {"all": adam(self, 1e-4 * self.config.rate)}

    def learn(self, picture: Tensor, mask: Tensor, optimizers: Optimizers) -> dict[str, float]:
        error = (self.layers(picture).float() - picture) ** 2
        loss = (error * mask).sum() / mask.sum().clamp(min=1)
        return {"loss": descend(loss, optimizers["all"])}

    def examine(self, picture: Tensor, mask: Tensor) -> Examined:
        error = (self.layers(picture) - picture) ** 2 * mask
        return Examined(reconstruction_scores(error, mask), error)


def reconstruction_scores(error: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The mean squared error, and the mean of the 200 and of the 8,001 largest errors of a 512-px picture."""
    scores = {"mse": masked_mean(error, mask)}
    share = error[0].numel() / 512**2
    for published in (200, 8001):
        largest = torch.topk(error.flatten(1), max(1, round(published * share)), dim=1).values
        scores[f"mean of top {published}"] = largest.mean(dim=1)
    return scores


def _convolution(
    inputs: int, outputs: int, *, kernel: int, stride: int, transposed: bool = False
) -> nn.Sequential:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    return nn.Sequential(kind(inputs, outputs, kernel, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU())
