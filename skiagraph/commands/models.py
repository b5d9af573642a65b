"""`skiagraph models`: the packages there are, and how they come to be."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from skiagraph.commands.build_plan import build_plan
from skiagraph.errors import UsageError

app = typer.Typer(
    help="Model packages: list, verify, train, evaluate, export.", no_args_is_help=True, rich_markup_mode=None
)

app.command("build-plan")(build_plan)

Data = Annotated[Path, typer.Option("--data", help="Radiographs: FracAtlas, MURA, or normal hands.")]
Package = Annotated[str, typer.Argument(metavar="PACKAGE", help="Name of a package, or its folder.")]
FRACATLAS = Path("../shared/data/fracatlas")


@app.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="One JSON line a package.")] = False) -> int:
    """List the packages that come with this version, with their figures on validation radiographs."""
    from models.package import ModelPackage, available
    from skiagraph.model_list import HEADER, key_figures, line
    from skiagraph.settings.service import ServiceSettings

    default = str(ServiceSettings.model_fields["model"].default)
    if not as_json:
        typer.echo(HEADER)
    for folder in available():
        manifest = ModelPackage.open(folder).manifest
        figures = key_figures(manifest)
        if as_json:
            record = {"name": manifest.name, "version": manifest.version, "title": manifest.title}
            is_default = manifest.name == default
            typer.echo(
                json.dumps({**record, "default": is_default, "folder": str(folder), "evaluation": figures})
            )
        else:
            typer.echo(line(manifest, figures, default=default))
    return 0


@app.command()
def verify(package: Package) -> int:
    """Check every file of a package, and that each engine of this machine reproduces its golden outputs."""
    from skiagraph import log
    from skiagraph.verify import verify_package

    log.configure(level="WARNING")  # a line for each check says enough
    failed = False
    for line in verify_package(_folder(package)):
        failed |= not line.holds
        typer.echo(f"{'ok' if line.holds else 'FAILED':8} {line.what:32} {line.detail}")
    return 1 if failed else 0


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="Which model to train.")] = "synthetic-defects",
    data: Data = FRACATLAS,
    out: Annotated[Path, typer.Option("--out", help="Where runs are kept.")] = Path("runs"),
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Training steps a member.")] = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    published: Annotated[
        bool, typer.Option("--published", help="At the published width and resolution, for a GPU.")
    ] = False,
) -> int:
    """Train a model on normal radiographs; needs the `train` extra."""
    _needs_training()
    from models.train.commands import train as train_model

    with _explained():
        run = train_model(
            name,
            data=_existing(data),
            out=out,
            steps=steps,
            seed=seed,
            resume=resume,
            published=published,
        )
    typer.echo(run)
    return 0


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    package: Annotated[Path, typer.Option("--package", help="Folder to write the package to.")],
    data: Data = FRACATLAS,
) -> int:
    """Make a model package of a training run; needs the `train` extra."""
    _needs_training()
    from models.train.commands import export as export_model

    with _explained():
        typer.echo(export_model(_existing(run), data=_existing(data), package=package))
    return 0


@app.command()
def evaluate(
    package: Annotated[
        str | None, typer.Argument(metavar="[PACKAGE]", help="Name or folder; all packages without it.")
    ] = None,
    data: Data = FRACATLAS,
    docs: Annotated[Path, typer.Option("--docs", help="Where evaluation.md and its files are.")] = Path(
        "docs"
    ),
    runs: Annotated[
        list[Path] | None, typer.Option("--run", help="Instead of packages: a run of another seed.")
    ] = None,
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Only write the page again from what was evaluated.")
    ] = False,
) -> int:
    """Evaluate packages on validation radiographs: manifests, model cards and docs/evaluation.md."""
    _needs_training()
    from models.package import available
    from models.train import commands
    from skiagraph.evaluation_maps import draw_maps
    from skiagraph.settings.service import ServiceSettings

    source = _existing(data)
    docs.mkdir(parents=True, exist_ok=True)
    folders = [_folder(package)] if package else []
    if not (package or page_only or runs):
        folders = commands.in_order(available())
    with _explained():
        for run in runs or ():
            typer.echo(commands.evaluate_run(_existing(run), data=source, docs=docs))
        for folder in folders:
            commands.evaluate(folder, data=source, docs=docs)
            typer.echo(f"evaluated {folder.name}")
        present = str(ServiceSettings.model_fields["model"].default)
        choice = commands.write_page(data=source, docs=docs, present=present)
    draw_maps(docs / "images" / "evaluation-maps.jpg")
    typer.echo(f"wrote {docs / 'evaluation.md'}; the rule of ADR 0020 makes {choice.name} the default")
    return 0


def _folder(package: str) -> Path:
    from models.package import PackageError, find

    try:
        return find(package)
    except PackageError as error:
        raise UsageError(str(error)) from error


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise UsageError(f"folder {folder} does not exist: name it with --data or as the argument")
    return folder


@contextmanager
def _explained() -> Iterator[None]:
    """What training says of its data and runs is for the user, without a traceback."""
    from models.train.errors import TrainError

    try:
        yield
    except TrainError as error:
        raise UsageError(str(error)) from error


def _needs_training() -> None:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        raise UsageError(
            "training needs torch: make setup-dev, or pip install --requirement requirements-dev.lock"
        )
