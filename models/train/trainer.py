"""Trains one member network on planted defects; stops and resumes to the same weights as not stopping."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from models.train.crops import Batch, make_batch
from models.train.data import ByteArray
from models.train.device import device, mixed_precision
from models.train.errors import RunError
from models.train.metrics import roc_auc
from models.train.network import STRIDE, DefectNetwork, NetworkConfig, defect_loss
from models.train.run_folder import Report, Stateful, append_curve, restore_checkpoint, save_checkpoint


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything that, with the data, determines the weights."""

    network: NetworkConfig
    seed: int
    steps: int
    batch: int = 16
    crop_px: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warm_up: int = 100
    averaging: float = 0.998  # of the weights, for what is kept
    checkpoint_every: int = 250


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingData:
    """(n, 2, S, S) bytes with drawing probabilities, and unseen radiographs (m, 2, S, S) to watch."""

    tensors: ByteArray
    weights: NDArray[np.float64]
    unseen: ByteArray


def train_member(
    config: TrainingConfig, data: TrainingData, folder: Path, *, report: Report
) -> DefectNetwork:
    """Train to the end on `device()`, from the checkpoint in `folder` if there is one; returns the averaged
    network, in eval mode."""
    torch.manual_seed(config.seed)
    where = device()
    network = DefectNetwork(config.network).to(where)
    averaged = DefectNetwork(config.network).to(where)
    averaged.load_state_dict(network.state_dict())
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    parts: dict[str, Stateful] = {"network": network, "averaged": averaged, "optimizer": optimizer}
    step = restore_checkpoint(checkpoint, asdict(config), parts)
    started, first = time.monotonic(), step
    while step < config.steps:
        loss = _one_step(step, config, data, network, optimizer)
        _average(averaged, network, config.averaging * min(1.0, (1 + step) / (10 + step)))
        step += 1
        values = {"loss": loss, "seconds_per_step": (time.monotonic() - started) / (step - first)}
        if step % config.checkpoint_every == 0 or step == config.steps:
            if len(data.unseen):
                values["unseen_auc"] = synthetic_auc(averaged, data.unseen, config)
            save_checkpoint(checkpoint, asdict(config), step, parts)
            append_curve(folder, step, values)
        report(step, values)
    return averaged.eval()


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Linear warm-up, then a half cosine to a hundredth."""
    if step < config.warm_up:
        return config.learning_rate * (step + 1) / config.warm_up
    done = (step - config.warm_up) / max(1, config.steps - config.warm_up)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * done))))


def _one_step(
    step: int,
    config: TrainingConfig,
    data: TrainingData,
    network: DefectNetwork,
    optimizer: torch.optim.Optimizer,
) -> float:
    # One generator per step: a resumed run draws what an unbroken one would have drawn.
    rng = np.random.default_rng([config.seed, step])
    batch = make_batch(data.tensors, data.weights, size=config.batch, crop_px=config.crop_px, rng=rng)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config)
    network.train()
    where = network.head.weight.device
    root, mask, label, shown = _as_tensors(batch, where)
    with mixed_precision(where):
        logits = network(root, mask)
    loss = defect_loss(logits.float(), label, shown)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimizer.step()
    return float(loss.detach())


def _as_tensors(batch: Batch, where: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Root, mask, and at the resolution of the logits: label and mask."""
    root, mask, label = (torch.from_numpy(part).to(where) for part in (batch.root, batch.mask, batch.label))
    coarse = (F.avg_pool2d(label, STRIDE) > 0.25).float()
    return root, mask, coarse, (F.avg_pool2d(mask, STRIDE) > 0.5).float()


@torch.no_grad()
def _average(averaged: DefectNetwork, network: DefectNetwork, keep: float) -> None:
    for mean, now in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.mul_(keep).add_(now, alpha=1 - keep)
        else:
            mean.copy_(now)


@torch.no_grad()
def synthetic_auc(
    network: DefectNetwork, unseen: ByteArray, config: TrainingConfig, crops: int = 192
) -> float:
    """AUC of the maximal logit between crops of unseen radiographs with and without a defect, always the
    same crops."""
    network.eval()
    rng = np.random.default_rng(20260101)
    peaks: list[float] = []
    planted: list[bool] = []
    weights = np.full(len(unseen), 1 / len(unseen))
    for _ in range(crops // 16):
        root, mask, label, shown = _as_tensors(
            make_batch(unseen, weights, size=16, crop_px=config.crop_px, rng=rng), network.head.weight.device
        )
        logits = torch.where(shown > 0, network(root, mask), -20.0)
        peaks += logits.amax(dim=(1, 2, 3)).tolist()
        planted += (label.amax(dim=(1, 2, 3)) > 0).tolist()
    return roc_auc(np.array(planted), np.array(peaks))


def load_member(folder: Path, config: NetworkConfig) -> DefectNetwork:
    """The averaged network of a finished or running training; RunError when there is none yet."""
    path = folder / "checkpoint.pt"
    if not path.is_file():
        raise RunError(f"{path} does not exist: train longer, the first checkpoint is not written yet")
    network = DefectNetwork(config)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["averaged"])
    return network.eval()
