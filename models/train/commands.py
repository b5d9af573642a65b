"""What the command line offers of training: train, export, evaluate."""

from pathlib import Path
from typing import Any

from models.package import ModelPackage
from models.train.errors import TrainError
from models.train.evaluate import evaluate_package
from models.train.evaluation_report import evaluation_page
from models.train.families import family
from models.train.package_writer import write_manifest
from models.train.robustness import robustness
from models.train.run_folder import read_config


def train(
    name: str,
    *,
    data: Path,
    out: Path,
    steps: int | None,
    seed: int,
    resume: bool,
    published: bool = False,
) -> Path:
    """Train a model by name; returns the folder of the run, `out`/`name`. TrainError says what to change.

    published: at the size of its publication, which wants a GPU.
    """
    model = family(name)
    if published:
        if model.published is None:
            raise TrainError(f"{name} has no published size: leave out --published")
        model = model.published
    run = out / name
    steps = model.steps if steps is None else steps
    model.train(name, data=data, folder=run, steps=steps, seed=seed, resume=resume)
    return run


def export(run: Path, *, data: Path, package: Path) -> Path:
    """Make a model package of a training run; returns its folder."""
    return family(read_config(run)["name"]).export(run, data=data, package=package)


def evaluate(package: Path, *, data: Path, docs: Path | None) -> dict[str, Any]:
    """Evaluate a package on validation; writes its manifest's `evaluation` and, with `docs`,
    docs/evaluation.md."""
    opened = ModelPackage.open(package)
    controls = family(opened.manifest.name).controls(opened.manifest)
    figures = evaluate_package(opened, data=data, controls=controls)
    figures["robustness"] = robustness(opened, data=data)
    figures["training"] = opened.manifest.evaluation.get("training", {})
    manifest = opened.manifest.model_copy(update={"evaluation": figures})
    write_manifest(manifest, package)
    if docs is not None:
        docs.mkdir(parents=True, exist_ok=True)
        (docs / "evaluation.md").write_text(evaluation_page(manifest), encoding="utf-8")
    return figures
