"""What the command line offers of training: train, export, evaluate."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from models.geometry import GeometrySpec
from models.package import PACKAGES, ModelPackage, available
from models.train.ablation import ablation_section
from models.train.curves import draw_curves
from models.train.data import load_inputs
from models.train.errors import TrainError
from models.train.evaluate import NOVELTY, Evaluated, evaluate_package, open_graph, run_graph, validation
from models.train.evaluation_answers import (
    Answers,
    Choice,
    as_answers,
    choose_default,
    read_answers,
    scored,
    write_answers,
)
from models.train.evaluation_figures import CONTROL, Figure, Scored, hits
from models.train.evaluation_gate import gate_section
from models.train.evaluation_pictures import draw_roc
from models.train.evaluation_report import evaluation_page
from models.train.families import family
from models.train.model_card import write_card
from models.train.package_writer import write_manifest
from models.train.robustness import robustness
from models.train.run_folder import read_config
from models.train.sources import read_source


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
    try:
        model.train(name, data=data, folder=run, steps=steps, seed=seed, resume=resume)
    finally:  # a training that is stopped leaves its curves too
        draw_curves(run)
    return run


def export(run: Path, *, data: Path, package: Path) -> Path:
    """Make a model package of a training run; returns its folder."""
    folder = family(read_config(run)["name"]).export(run, data=data, package=package)
    draw_curves(run)
    write_card(folder)
    return folder


def evaluate(package: Path, *, data: Path, docs: Path | None) -> Figure:
    """Evaluate a package on validation: its manifest's `evaluation`, its card, its answers in `docs`."""
    opened = ModelPackage.open(package)
    model = family(opened.manifest.name)
    answers = read_answers(docs) if docs else {}
    found = evaluate_package(
        opened,
        data=data,
        controls=model.controls(opened.manifest),
        beside=model.beside(opened.manifest, data),
        known_control=scored(validation(read_source(data)), answers, CONTROL),
    )
    training = opened.manifest.evaluation.get("training", {})
    figures = {**found.figures, "robustness": robustness(opened, data=data), "training": training}
    write_manifest(opened.manifest.model_copy(update={"evaluation": figures}), package)
    write_card(package)
    if docs:
        answers = read_answers(docs)  # again: another package may have been evaluated meanwhile
        _keep(found, opened.manifest.name, answers, own_control=bool(found.figures["control_draws"]))
        write_answers(docs, answers)
    return figures


def evaluate_run(run: Path, *, data: Path, docs: Path) -> str:
    """Score a training run without shipping it: another seed of a package; returns what it is called."""
    config = read_config(run)
    with tempfile.TemporaryDirectory() as folder:
        package = ModelPackage.open(
            family(config["name"]).export(run, data=data, package=Path(folder) / config["name"])
        )
        spec = GeometrySpec.from_manifest(package.manifest.geometry)
        chosen = validation(read_source(data))
        inputs = load_inputs(chosen, input_px=package.manifest.input_px, spec=spec)
        found = run_graph(open_graph(package), inputs)
    name = f"{config['name']} seed {config['seed']} ({config['steps']} steps)"
    answers = read_answers(docs)
    system = Scored(values=found["score"], pointed=hits(inputs, found["anomaly_map"]))
    answers[name] = as_answers(chosen, system)
    write_answers(docs, answers)
    return name


def write_page(*, data: Path, docs: Path, present: str) -> Choice:
    """Render docs/evaluation.md with its ROC curves from what has been evaluated; returns whom the rule
    makes the default. present: the default now."""
    packages = {folder.name: ModelPackage.open(folder).manifest for folder in available(PACKAGES)}
    evaluated = {name: manifest for name, manifest in packages.items() if "subsets" in manifest.evaluation}
    if present not in evaluated:
        raise TrainError(f"{present}, the default, is not evaluated: skiagraph models evaluate {present}")
    samples = validation(read_source(data))
    answers = read_answers(docs)
    systems = {name: one for name in evaluated if (one := scored(samples, answers, name)) is not None}
    speed = {name: evaluated[name].evaluation["milliseconds"]["graph"] for name in systems}
    choice = choose_default(samples, systems, speed, present=present)
    ordered = {choice.name: evaluated[choice.name], **evaluated}
    draw_roc(samples, answers, list(ordered), docs / "images" / "evaluation-roc.png")
    sections = (ablation_section(samples, docs), gate_section(data))
    page = evaluation_page(ordered, samples, answers, choice, *sections)
    (docs / "evaluation.md").write_text(page, encoding="utf-8")
    return choice


def in_order(packages: Sequence[Path]) -> list[Path]:
    """Packages with a control of their own first: the others are measured against it."""
    return sorted(
        packages, key=lambda folder: not family(folder.name).controls(ModelPackage.open(folder).manifest)
    )


def _keep(found: Evaluated, package: str, answers: Answers, *, own_control: bool) -> None:
    for system, one in found.systems.items():
        if system == "score":
            answers[package] = as_answers(found.samples, one)
        elif system.startswith("teacher") or (own_control and system in (CONTROL, NOVELTY)):
            answers[system] = as_answers(found.samples, one)
