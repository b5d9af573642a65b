"""The models that can be trained here, by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, Self

from torch import nn

from models.package import Manifest
from models.train import run
from models.train.errors import UnknownModelError
from models.train.export import export_run
from models.train.memory_bank_run import (
    BANK_STEPS,
    BANK_TITLE,
    beside_memory_bank,
    export_memory_bank,
    train_memory_bank,
)
from models.train.network import DefectNetwork
from models.train.paper.packaging import export_paper
from models.train.paper.system import PaperConfig
from models.train.paper.systems import SYSTEMS
from models.train.paper.training import train_paper

Controls = Callable[[Manifest], Sequence[Sequence[DefectNetwork]]]
Beside = Callable[[Manifest, Path], Mapping[str, nn.Module]]
_CONTROL_DRAWS = 3  # one draw of random weights says little about the next


class Train(Protocol):
    """Train the model called `name` into `folder`, from its last checkpoint when `resume`."""

    def __call__(
        self, name: str, *, data: Path, folder: Path, steps: int, seed: int, resume: bool
    ) -> None: ...


class Export(Protocol):
    """Write `package` from the checkpoints in `run` and return its folder."""

    def __call__(self, run: Path, *, data: Path, package: Path) -> Path: ...


@dataclass(frozen=True, kw_only=True)
class Family:
    """One model that can be trained.

    controls: the same pipeline with random weights, one list per draw. beside: further modules to evaluate
    beside the package. published: the same model at the
    width, resolution, batch and number of steps of its publication, where two cores would not do.
    """

    name: str
    title: str
    steps: int
    train: Train
    export: Export
    controls: Controls = lambda _: ()
    beside: Beside = lambda _manifest, _data: {}
    published: Self | None = None


def family(name: str) -> Family:
    """The family called `name`; UnknownModelError lists those there are."""
    try:
        return FAMILIES[name]
    except KeyError:
        raise UnknownModelError(
            f"no model is called {name!r}: this version trains {', '.join(FAMILIES)}"
        ) from None


def _train_synthetic_defects(
    name: str, *, data: Path, folder: Path, steps: int, seed: int, resume: bool
) -> None:
    run.train_run(run.RunConfig(name=name, seed=seed, steps=steps), data=data, folder=folder, resume=resume)


def _paper(name: str) -> Family:
    entry = SYSTEMS[name]

    def sized(size: PaperConfig, published: Family | None = None) -> Family:
        def train(name: str, *, data: Path, folder: Path, steps: int, seed: int, resume: bool) -> None:
            train_paper(replace(size, seed=seed, steps=steps), data=data, folder=folder, resume=resume)

        return Family(
            name=name,
            title=entry.title,
            steps=size.steps,
            train=train,
            export=export_paper,
            published=published,
        )

    return sized(entry.here, sized(entry.published))


def _untrained_synthetic_defects(manifest: Manifest) -> Sequence[Sequence[DefectNetwork]]:
    training = manifest.evaluation.get("training", {})
    config = run.RunConfig(
        name=manifest.name,
        seed=int(training.get("seed", 0)),
        steps=int(training.get("steps", 0)),
        members=int(training.get("members", 1)),
        input_px=manifest.input_px,
    )
    return [run.untrained_members(config, draw=draw) for draw in range(_CONTROL_DRAWS)]


FAMILIES: Mapping[str, Family] = {
    known.name: known
    for known in (
        Family(
            name="synthetic-defects",
            title="Local defects in hand radiographs",
            steps=5000,
            train=_train_synthetic_defects,
            export=export_run,
            controls=_untrained_synthetic_defects,
        ),
        Family(
            name="memory-bank",
            title=BANK_TITLE,
            steps=BANK_STEPS,
            train=train_memory_bank,
            export=export_memory_bank,
            beside=beside_memory_bank,
        ),
        *map(_paper, SYSTEMS),
    )
}
