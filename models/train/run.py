"""A training run: a folder with its configuration, one checkpoint per member network, curves and a log."""

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from models.geometry import GeometrySpec
from models.train.data import MULTI_VIEW, Sample, in_fold, load_inputs, read_fracatlas, read_other_regions
from models.train.errors import DataError, RunError
from models.train.network import DefectNetwork, NetworkConfig
from models.train.trainer import TrainingConfig, TrainingData, load_member, train_member

RUN = "run.json"
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
    _claim(config, folder, resume=resume)
    log = _log_to(folder)
    training = training_data(data, input_px=config.input_px)
    log.info("%d radiographs to train on, %d to watch", len(training.tensors), len(training.unseen))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        for index in range(config.members):
            task = progress.add_task(f"network {index + 1} of {config.members}", total=config.steps)

            def report(step: int, values: dict[str, float], task: Any = task, index: int = index) -> None:
                progress.update(
                    task, completed=step, description=f"network {index + 1} loss {values['loss']:.3f}"
                )
                if "unseen_auc" in values or step % 100 == 0:
                    figures = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
                    log.info("network %d step %d: %s", index + 1, step, figures)

            train_member(config.member(index), training, folder / f"member{index}", report=report)
    log.info("finished")


def training_data(data: Path, *, input_px: int) -> TrainingData:
    """Normal radiographs only, of the train split: arms of all views but sheets, and other regions."""
    arms = [s for s in read_fracatlas(data) if s.split == "train" and not s.abnormal and s.view != MULTI_VIEW]
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
    try:
        values = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"{folder} holds no training run: name the folder that training wrote {RUN} to"
        ) from None
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


def _claim(config: RunConfig, folder: Path, *, resume: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RUN
    if not path.exists():
        path.write_text(json.dumps(asdict(config), indent=2) + "\n", encoding="utf-8")
        return
    if not resume:
        raise RunError(
            f"{folder} already holds a training run: give --resume to continue it, or another --out"
        )
    if read_run(folder) != config:
        raise RunError(
            f"{path} was made with other settings: give the same --steps and --seed, or another --out"
        )


def _log_to(folder: Path) -> logging.Logger:
    log = logging.getLogger(f"models.train.{folder.name}")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [logging.FileHandler(folder / "train.log")]
    log.handlers[0].setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    return log
