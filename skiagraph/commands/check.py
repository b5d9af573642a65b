"""`skiagraph check`: the settings, the model, the folder and every peer, before the first patient."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skiagraph.commands.services import Config

if TYPE_CHECKING:
    from dicom_listener.explain import Explanation
    from skiagraph.settings import Settings


def check(
    config: Config = None,
    study: Annotated[
        list[Path] | None,
        typer.Option("--study", metavar="PATH", help="Only say which rule takes these files, and why."),
    ] = None,
    calling_ae: Annotated[
        str, typer.Option("--calling-ae", help="With --study: as if it had sent them.")
    ] = "",
) -> int:
    """Check the configuration and whether the peers answer; exit code 1 when something would not work."""
    from skiagraph import log
    from skiagraph.checks import Outcome, run_checks
    from skiagraph.settings import load

    log.configure(level="ERROR")  # the findings say it all
    settings = load(config)
    if study:
        return _explain(settings, study, calling_ae)
    failed = False
    for finding in run_checks(settings):
        failed |= finding.outcome is Outcome.FAILED
        typer.echo(f"{finding.outcome.value:8} {finding.what:28} {finding.detail}")
    return 1 if failed else 0


def _explain(settings: "Settings", paths: list[Path], calling_ae: str) -> int:
    from dicom_listener.explain import explain
    from skiagraph import inputs

    found = inputs.find(paths)
    for problem in found.problems:
        typer.echo(f"skiagraph: {problem}", err=True)
    studies, unreadable = explain(settings.listener, found.files, calling_ae=calling_ae)
    for one in studies:
        typer.echo("\n".join(_sentences(one)))
    for broken in unreadable:
        typer.echo(f"skiagraph: {broken.path}: {broken.reason}", err=True)
    return 1 if unreadable or found.problems else 0


def _sentences(study: "Explanation") -> list[str]:
    route = study.route
    lines = [
        f"study {study.study_instance_uid}, {study.instances} instances: {route.state.value}, "
        + (f"by rule {study.rule}" if study.rule else "no rule takes it")
    ]
    lines.append(f"  model {route.model or 'default'}, gate {'on' if route.gate else 'off'}")
    lines.append(f"  to {', '.join(route.destinations) or 'nowhere'}, priority {route.priority}")
    for verdict in study.verdicts:
        why = ", ".join(
            f"no instance has {key} {' or '.join(patterns)}" for key, patterns in verdict.unmatched.items()
        )
        lines.append(f"  rule {verdict.rule}: {'takes it' if verdict.taken else why or 'comes too late'}")
    lines += [f"  {uid} is kept and not scored: {why}" for uid, why in study.ignored.items()]
    return lines
