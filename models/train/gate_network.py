"""The gate's network: six convolutions, then what is somewhere (maximum) and what is everywhere (mean)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

THUMBNAIL_PX = 112
_CHANNELS = ((1, 16, 2), (16, 32, 2), (32, 48, 1), (48, 64, 2), (64, 64, 1), (64, 96, 2))


class GateNetwork(nn.Module):
    """(n, 1, G, G) in 0..1 to logits (n, classes)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride in _CHANNELS:
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        self.features = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.25)
        self.classify = nn.Linear(2 * _CHANNELS[-1][1], classes)

    def forward(self, thumbnail: Tensor) -> Tensor:
        found = self.features(2 * thumbnail - 1)  # (n, 96, G/16, G/16)
        pooled = self.dropout(torch.cat([found.mean(dim=(2, 3)), found.amax(dim=(2, 3))], dim=1))
        # As a 1x1 convolution: TensorRT-RTX builds no float32 matrix product for capability 7.5.
        weight = self.classify.weight[:, :, None, None]
        return F.conv2d(pooled[:, :, None, None], weight, self.classify.bias).flatten(1)


class GateGraph(nn.Module):
    """What is exported: probabilities of the mean of several networks, each seeing both polarities.

    prior: added to the logits where the first class is weighed against the others: training does not
    know what a mistake costs. The others keep their shares, so that the reason for a refusal is not shifted.
    """

    prior: Tensor

    def __init__(self, networks: list[GateNetwork], prior: Tensor) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.register_buffer("prior", prior)

    def forward(self, thumbnail: Tensor) -> Tensor:
        votes = [network(view) for network in self.networks for view in (thumbnail, 1 - thumbnail)]
        logits = torch.stack(votes).mean(dim=0)
        hand = torch.softmax(logits + self.prior, dim=1)[:, :1]
        return torch.cat([hand, (1 - hand) * torch.softmax(logits[:, 1:], dim=1)], dim=1)
