"""The command line. Exit codes: 0 fine, 1 something failed, 2 wrong usage or settings; errors are one line.

Commands import what they need when they run, so that `skiagraph --help` answers at once.
"""

import io
import signal
import sys
import traceback
from types import FrameType
from typing import Annotated

import typer

from skiagraph.commands import check, demo, models, score, services, studies
from skiagraph.errors import CommandError

_ROOMS = ("models", "runners", "service", "dicom_listener", "skiagraph")

app = typer.Typer(
    name="skiagraph",
    help="Score hand radiographs for anomalies and return report and heatmap to the PACS. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(services.up)
app.command()(services.listen)
app.command()(services.serve)
app.command()(score.score)
app.add_typer(studies.app, name="studies")
app.add_typer(models.app, name="models")
app.command()(check.check)
app.command()(demo.demo)


@app.callback()
def options(
    context: typer.Context,
    show_traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where an unexpected error came from.")
    ] = False,
) -> None:
    context.obj = show_traceback


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit with its code; SIGTERM unwinds it, so that what it started is stopped."""
    signal.signal(signal.SIGTERM, _terminated)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the locale lacks is no reason to stop
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command; returns the exit code, whatever happens."""
    try:
        outcome = typer.main.get_command(app)(args=arguments, prog_name="skiagraph", standalone_mode=False)
    except typer.TyperException as error:
        return _say(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _say("stopped", 130)
    except BrokenPipeError:
        return 1
    except Exception as error:
        if "--traceback" in arguments:
            traceback.print_exc()
        return _say(*_explain(error))
    return outcome if isinstance(outcome, int) else 0


def _terminated(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _explain(error: Exception) -> tuple[str, int]:
    """One line and the exit code for an error that reached the top."""
    from skiagraph.settings import SettingsError

    if isinstance(error, CommandError):
        return str(error), error.exit_code
    if isinstance(error, SettingsError):
        return str(error), 2
    if type(error).__module__.partition(".")[0] in _ROOMS:
        return str(error), 1  # every error of ours is written for people
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}", 1
    what = str(error) or "no message"
    return f"unexpected {type(error).__name__}: {what} (`skiagraph --traceback …` shows where)", 1


def _say(message: str, code: int) -> int:
    shown = message if "\n" in message else f"skiagraph: {message}"
    typer.echo(shown, err=True)
    return code
