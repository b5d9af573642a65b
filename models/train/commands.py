"""What the command line offers of training: train, export, evaluate."""

from pathlib import Path
from typing import Any

from models.package import ModelPackage
from models.train.errors import TrainError
from models.train.evaluate import evaluate_package
from models.train.evaluation_report import evaluation_page
from models.train.export import export_run
from models.train.package_writer import write_manifest
from models.train.robustness import robustness
from models.train.run import RunConfig, train_run, untrained_members

SYNTHETIC_DEFECTS = "synthetic-defects"
_DEFAULT_STEPS = 5000
_CONTROL_DRAWS = 3  # one draw of random weights says little about the next


def train(name: str, *, data: Path, out: Path, steps: int | None, seed: int, resume: bool) -> Path:
    """Train a model by name; returns the folder of the run, `out`/`name`. TrainError says what to change."""
    _check_name(name)
    config = RunConfig(name=name, seed=seed, steps=_DEFAULT_STEPS if steps is None else steps)
    run = out / name
    train_run(config, data=data, folder=run, resume=resume)
    return run


def export(run: Path, *, data: Path, package: Path) -> Path:
    """Make a model package of a training run; returns its folder."""
    return export_run(run, data=data, package=package)


def evaluate(package: Path, *, data: Path, docs: Path | None) -> dict[str, Any]:
    """Evaluate a package on validation; writes its manifest's `evaluation` and, with `docs`,
    docs/evaluation.md."""
    opened = ModelPackage.open(package)
    _check_name(opened.manifest.name)
    training = opened.manifest.evaluation.get("training", {})
    config = RunConfig(
        name=opened.manifest.name,
        seed=int(training.get("seed", 0)),
        steps=int(training.get("steps", 0)),
        members=int(training.get("members", 1)),
        input_px=opened.manifest.input_px,
    )
    controls = [untrained_members(config, draw=draw) for draw in range(_CONTROL_DRAWS)]
    figures = evaluate_package(opened, data=data, controls=controls)
    figures["robustness"] = robustness(opened, data=data)
    figures["training"] = training
    manifest = opened.manifest.model_copy(update={"evaluation": figures})
    write_manifest(manifest, package)
    if docs is not None:
        docs.mkdir(parents=True, exist_ok=True)
        (docs / "evaluation.md").write_text(evaluation_page(manifest), encoding="utf-8")
    return figures


def _check_name(name: str) -> None:
    if name != SYNTHETIC_DEFECTS:
        raise TrainError(f"no model is called {name!r}: this version trains {SYNTHETIC_DEFECTS}")
