"""Trains one of the paper's systems on normal hands; stops and resumes to the same weights."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from models.geometry import GeometrySpec
from models.train.columns import equalized_inputs
from models.train.data import Inputs, Sample, in_fold, load_inputs
from models.train.device import device, mixed_precision
from models.train.errors import DataError, RunError
from models.train.paper.augment import augmented
from models.train.paper.graph import shown_picture
from models.train.paper.system import PaperConfig, System
from models.train.paper.systems import make_system
from models.train.run_folder import (
    Report,
    Stateful,
    append_curve,
    claim,
    read_config,
    reporting,
    restore_checkpoint,
    save_checkpoint,
)
from models.train.sources import read_source

_HELD_OUT_FOLDS = 4  # a quarter of the groups is never trained on: percentiles are read from it


@dataclass(frozen=True, kw_only=True, eq=False)
class NormalHands:
    """Normal hands of the train split: those that are learnt from and those held out to calibrate with."""

    learnt: Inputs
    held_out: Inputs


def normal_hands(data: Path, config: PaperConfig) -> NormalHands:
    """Both parts through the configuration's geometry; DataError when one is empty."""
    hands = [s for s in read_source(data) if s.split == "train" and s.is_hand and not s.abnormal]
    parts: dict[bool, list[Sample]] = {True: [], False: []}
    for sample in hands:
        parts[in_fold(sample.group, fold=0, folds=_HELD_OUT_FOLDS)].append(sample)
    if not parts[True] or not parts[False]:
        raise DataError(f"{data} has too few normal hands to train and calibrate with: {len(hands)}")
    return NormalHands(
        learnt=load_inputs(parts[False], input_px=config.input_px, spec=config.geometry),
        held_out=load_inputs(parts[True], input_px=config.input_px, spec=config.geometry),
    )


def train_paper(config: PaperConfig, *, data: Path, folder: Path, resume: bool) -> System:
    """Train to the end, from the checkpoint in `folder` if there is one; RunError when `folder` holds a run
    and `resume` is off, or another run."""
    claim(folder, asdict(config), resume=resume)
    hands = normal_hands(data, config)
    with reporting(folder) as begin:
        return train_system(config, hands.learnt, folder, report=begin(config.name, config.steps))


def train_system(config: PaperConfig, normals: Inputs, folder: Path, *, report: Report) -> System:
    """The same on radiographs that are loaded; returns the trained system in eval mode."""
    torch.manual_seed(config.seed)
    where = device()
    system = make_system(config).to(where)
    optimizers = system.optimizers()
    parts: dict[str, Stateful] = {"system": system, **optimizers}
    checkpoint = folder / "checkpoint.pt"
    step = restore_checkpoint(checkpoint, asdict(config), parts)
    system.train()
    if config.equalize:
        normals = equalized_inputs(normals)
    while step < config.steps:
        # One generator per step: a resumed run draws what an unbroken one would have drawn.
        rng = np.random.default_rng([config.seed, step])
        torch.manual_seed(int(rng.integers(2**62)))
        chosen = rng.permutation(len(normals))[: config.batch]
        radiographs = torch.from_numpy(normals.batch(chosen.tolist())).to(where)
        shown = torch.cat(shown_picture(radiographs, equalize=False), dim=1)
        picture, mask = augmented(shown, system.augmentation, rng)
        with mixed_precision(where):
            values = system.learn(picture, mask, optimizers)
        step += 1
        if step % config.checkpoint_every == 0 or step == config.steps:
            save_checkpoint(checkpoint, asdict(config), step, parts)
            append_curve(folder, step, values)
        report(step, values)
    return system.eval()


def read_run(folder: Path) -> PaperConfig:
    """The configuration of a run; RunError when there is none."""
    values = read_config(folder)
    return PaperConfig(geometry=GeometrySpec(**values.pop("geometry")), **values)


def load_system(folder: Path, config: PaperConfig) -> tuple[System, int]:
    """The system of the last checkpoint on the processor, in eval mode, and its step; or RunError."""
    system = make_system(config)
    step = restore_checkpoint(folder / "checkpoint.pt", asdict(config), {"system": system})
    if not step:
        raise RunError(f"{folder} has no checkpoint yet: train it first")
    return system.eval(), step
