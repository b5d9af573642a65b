"""A training run: a folder with its configuration, one checkpoint per member network, curves and a log."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from models.geometry import GeometrySpec
from models.train.data import MULTI_VIEW, Sample, in_fold, load_inputs, read_other_regions
from models.train.errors import DataError, RunError
from models.train.network import DefectNetwork, NetworkConfig
from models.train.run_folder import claim, read_config, reporting
from models.train.sources import read_source
from models.train.trainer import TrainingConfig, TrainingData, load_member, train_member

_WATCH_FOLDS = 12  # one twelfth of the groups is never trained on: the curve is drawn on it
_SHARES = {"hand": 0.5, "arm": 0.25, "other": 0.25}  # what a crop is drawn from


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What a run was asked to do; members: networks whose logits are averaged."""

    name: str
    seed: int
    steps: int
    members: int = 2
    input_px: int = 384
    network: NetworkConfig = field(default_factory=NetworkConfig)
    batch: int = 16
    crop_px: int = 128
    checkpoint_every: int = 250

    def member(self, index: int) -> TrainingConfig:
        return TrainingConfig(
            network=self.network,
            seed=self.seed + index,
            steps=self.steps,
            batch=self.batch,
            crop_px=self.crop_px,
            checkpoint_every=self.checkpoint_every,
        )


def train_run(config: RunConfig, *, data: Path, folder: Path, resume: bool) -> None:
    """Train all members; RunError when `folder` holds a run and `resume` is off, or another run."""
    claim(folder, asdict(config), resume=resume)
    training = training_data(data, input_px=config.input_px)
    with reporting(folder) as begin:
        for index in range(config.members):
            report = begin(f"network {index + 1} of {config.members}", config.steps)
            train_member(config.member(index), training, folder / f"member{index}", report=report)


def training_data(data: Path, *, input_px: int) -> TrainingData:
    """Normal radiographs only, of the train split: arms of all views but sheets, and other regions."""
    arms = [s for s in read_source(data) if s.split == "train" and not s.abnormal and s.view != MULTI_VIEW]
    if not arms:
        raise DataError(f"{data} has no normal training radiographs: check split and label in labels.csv")
    watched = [s for s in arms if in_fold(s.group, fold=0, folds=_WATCH_FOLDS)]
    samples = [s for s in arms if s not in watched] + read_other_regions(data)
    kinds = np.array([_kind(sample) for sample in samples])
    weights = np.zeros(len(samples))
    for kind, share in _SHARES.items():
        weights[kinds == kind] = share / max(1, (kinds == kind).sum())
    spec = GeometrySpec()
    return TrainingData(
        tensors=load_inputs(samples, input_px=input_px, spec=spec).tensors,
        weights=weights / weights.sum(),
        unseen=load_inputs(watched, input_px=input_px, spec=spec).tensors,
    )


def read_run(folder: Path) -> RunConfig:
    """The configuration of a run; RunError when there is none."""
    values = read_config(folder)
    network = values.pop("network")
    return RunConfig(network=NetworkConfig(widths=tuple(network["widths"])), **values)


def load_members(folder: Path, config: RunConfig) -> list[DefectNetwork]:
    """The members that have a checkpoint; RunError when none has."""
    ready = [
        index for index in range(config.members) if (folder / f"member{index}" / "checkpoint.pt").is_file()
    ]
    if not ready:
        raise RunError(f"{folder} has no checkpoint yet: train it first")
    return [load_member(folder / f"member{index}", config.network) for index in ready]


def untrained_members(config: RunConfig, *, draw: int = 0) -> list[DefectNetwork]:
    """A control: the same networks with random weights, drawn differently for each `draw`."""
    members = []
    for index in range(config.members):
        torch.manual_seed(10_000 + 100 * draw + index)
        members.append(DefectNetwork(config.network).eval())
    return members


def _kind(sample: Sample) -> str:
    if sample.is_hand:
        return "hand"
    return "other" if sample.group.startswith("other-") else "arm"
