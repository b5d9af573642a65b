"""`skiagraph score`: radiographs on this machine, without a server."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skiagraph.errors import UsageError

if TYPE_CHECKING:
    from service.contract import RadiographResult
    from skiagraph.scoring import FileScore
    from skiagraph.settings import Settings


def score(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="DICOM, PNG, JPEG files or folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line a file on standard output.")] = False,
    heatmaps: Annotated[
        Path | None,
        typer.Option("--heatmaps", metavar="DIR", help="Write <stem>.png: the anomaly map in grey."),
    ] = None,
    dicom_out: Annotated[
        Path | None, typer.Option("--dicom-out", metavar="DIR", help="Write Structured Reports and heatmaps.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME", help="Model package.")] = None,
) -> int:
    """Score radiographs on this machine, without a server."""
    from skiagraph import inputs

    found = inputs.find(paths)
    for problem in found.problems:
        typer.echo(f"skiagraph: {problem}", err=True)
    if not found.files:
        raise UsageError(
            "there is nothing to score: name DICOM, PNG or JPEG files, or folders that hold some"
        )
    for folder in (heatmaps, dicom_out):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file: name a folder")
    failed = _score_all(found.files, _settings(model), as_json, heatmaps, dicom_out)
    return 1 if failed or found.problems else 0


def _score_all(
    files: tuple[Path, ...],
    settings: "Settings",
    as_json: bool,
    heatmaps: Path | None,
    dicom_out: Path | None,
) -> int:
    """Score, show and write; returns how many files could not be read and reports not be written."""
    from skiagraph.commands.progress import progress_bar
    from skiagraph.scoring import Scorer, heatmap_path, output_names
    from skiagraph.study_output import StudyOutput, object_paths

    failed = 0
    names = output_names(files)
    if heatmaps is not None:
        _spare(files, (heatmap_path(heatmaps, name) for name in names), "--heatmaps")
    if dicom_out is not None:
        _spare(files, object_paths(dicom_out, names), "--dicom-out")
    with Scorer(settings, heatmaps=heatmaps) as scorer, progress_bar("scoring", len(files)) as advance:
        output = StudyOutput(dicom_out, files, names, scorer) if dicom_out else None
        for answer in scorer.score(files, names, keep=output is not None):
            _show(answer, as_json)
            failed += answer.result.status == "error"
            if output is not None:
                problems = output.add(answer)
                failed += len(problems)
                for problem in problems:
                    typer.echo(f"skiagraph: {problem}", err=True)
            advance()
    return failed


def _spare(files: tuple[Path, ...], targets: Iterable[Path], option: str) -> None:
    """Raise UsageError where a radiograph would be written over by what is made of it or of another."""
    from skiagraph.inputs import written_over

    target = written_over(files, targets)
    if target is not None:
        raise UsageError(
            f"{target} is to be scored and would be written over: name another folder with {option}"
        )


def _settings(model: str | None) -> "Settings":
    from models.package import PackageError, find
    from skiagraph import log
    from skiagraph.settings import load

    log.configure(level="ERROR")
    settings = load()
    if model is None:
        return settings
    try:
        find(model)
    except PackageError as error:
        raise UsageError(str(error)) from error
    return settings.model_copy(update={"service": settings.service.model_copy(update={"model": model})})


def _show(answer: "FileScore", as_json: bool) -> None:
    from skiagraph.inputs import shown

    if as_json:
        record = answer.result.model_dump(mode="json")
        record["heatmap"] = shown(answer.heatmap) if answer.heatmap else None
        sys.stdout.write(json.dumps(record) + "\n")
    else:
        sys.stdout.write(f"{shown(answer.path)}  {_sentence(answer.result)}\n")
    sys.stdout.flush()


def _sentence(result: "RadiographResult") -> str:
    if result.score is None or result.percentile is None:
        return f"{result.status.replace('_', ' ')}: {result.reason}"
    verdict = "local finding" if result.abnormal else "no local finding"
    rank = f"score {result.score:.3f}, percentile {int(result.percentile)}"
    return f"{rank}: {verdict}, {len(result.regions)} regions"
