"""`skiagraph studies`: the DICOM node's ledger from the command line, whether the node runs or not."""

import json
import time
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from skiagraph.commands.services import Config

if TYPE_CHECKING:
    from dicom_listener.ledger.overview import StudyHistory, StudySummary
    from skiagraph.settings.listener import ListenerSettings

app = typer.Typer(
    help="The studies the DICOM node has received.", no_args_is_help=True, rich_markup_mode=None
)

_ANSWER_SECONDS: Final = 5.0

Uid = Annotated[str, typer.Argument(metavar="STUDY_INSTANCE_UID")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, one line a study.")]
Model = Annotated[str | None, typer.Option("--model", help="Score with this model package.")]


class State(StrEnum):
    """What `--state` takes: `receiving`, or the state of the latest revision."""

    RECEIVING = "receiving"
    READY = "ready"
    HELD = "held"
    SCORED = "scored"
    DELIVERED = "delivered"
    DROPPED = "dropped"
    REJECTED = "rejected"
    DEAD_LETTER = "dead_letter"
    DISCARDED = "discarded"


@app.command("list")
def list_(
    state: Annotated[State | None, typer.Option("--state", help="Only studies in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the latest first.")] = 100,
    as_json: AsJson = False,
    config: Config = None,
) -> int:
    """List studies, the latest first."""
    from dicom_listener.studies import list_studies

    for study in list_studies(_settings(config), state=state.value if state else None, limit=limit):
        typer.echo(_json(asdict(study)) if as_json else _line(study))
    return 0


@app.command()
def show(study: Uid, as_json: AsJson = False, config: Config = None) -> int:
    """Show everything that happened to one study."""
    from dicom_listener.studies import show_study

    history = show_study(_settings(config), study)
    typer.echo(_json(asdict(history)) if as_json else _page(history))
    return 0


@app.command()
def force(study: Uid, as_json: AsJson = False, config: Config = None) -> int:
    """Wait no longer for further instances: score what is there."""
    from dicom_listener.studies import force as ask

    settings = _settings(config)
    return _tell(settings, study, ask(settings, study), as_json)


@app.command()
def proceed(study: Uid, as_json: AsJson = False, config: Config = None) -> int:
    """Go on with a study that a rule holds."""
    from dicom_listener.studies import proceed as ask

    settings = _settings(config)
    return _tell(settings, study, ask(settings, study), as_json)


@app.command()
def retry(study: Uid, as_json: AsJson = False, config: Config = None) -> int:
    """Try again what was given up, rejected or held."""
    from dicom_listener.studies import retry as ask

    settings = _settings(config)
    return _tell(settings, study, ask(settings, study), as_json)


@app.command()
def replay(study: Uid, model: Model = None, as_json: AsJson = False, config: Config = None) -> int:
    """Score a study again as a new revision."""
    from dicom_listener.studies import replay as ask

    settings = _settings(config)
    return _tell(settings, study, ask(settings, study, model=model), as_json)


@app.command()
def discard(study: Uid, as_json: AsJson = False, config: Config = None) -> int:
    """Give up the latest revision of a study for good."""
    from dicom_listener.studies import discard as ask

    settings = _settings(config)
    return _tell(settings, study, ask(settings, study), as_json)


def _settings(config: Config) -> "ListenerSettings":
    from skiagraph.settings import load

    return load(config).listener


def _tell(settings: "ListenerSettings", study: str, request: int, as_json: bool) -> int:
    """Wait a moment for the node to say what it did; a node that is not running does it when it starts."""
    from dicom_listener.studies import outcome

    deadline = time.monotonic() + _ANSWER_SECONDS
    while (said := outcome(settings, request)) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if as_json:
        typer.echo(_json({"study_instance_uid": study, "request": request, "outcome": said}))
    else:
        typer.echo(said or f"asked (request {request}); the DICOM node does it when it runs")
    return 0


def _line(study: "StudySummary") -> str:
    when = study.last_received_at.strftime("%Y-%m-%d %H:%M:%S")
    text = f"{when}  {study.state:11}  r{study.revision}  {study.instances:3} instances"
    text += f"  {study.study_instance_uid}"
    return f"{text}  {study.error}" if study.error else text


def _page(history: "StudyHistory") -> str:
    lines = [_line(history.summary)]
    for one in history.revisions:
        revision = one.revision
        lines.append(f"revision {revision.revision}: {revision.state.value}, {revision.trigger}")
        lines += [f"  result  {_result(result)}" for result in (one.result or {}).get("results", [])]
        lines += [f"  object  {made.kind} {made.sop_instance_uid}" for made in one.objects]
        for delivery in one.deliveries:
            said = f": {delivery.error}" if delivery.error else ""
            state = f"{delivery.state.value} after {delivery.attempts} attempts"
            lines.append(f"  to {delivery.destination}: {state}{said}")
    lines.append("events")
    for event in history.events:
        detail = " ".join(f"{key}={value}" for key, value in event.detail.items())
        lines.append(f"  {event.at.isoformat(timespec='milliseconds')}  {event.kind}  {detail}".rstrip())
    return "\n".join(lines)


def _result(result: dict[str, Any]) -> str:
    uid, status = result["sop_instance_uid"], result["status"]
    if status != "scored":
        return f"{uid} {status}: {result['reason']}"
    verdict = "abnormal" if result["abnormal"] else "not abnormal"
    # Cut, not rounded: 99.6 is not "higher than all".
    return f"{uid} score {result['score']:.3f}, percentile {int(result['percentile'])}, {verdict}"


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, default=_plain, separators=(",", ":"))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
