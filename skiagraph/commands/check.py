"""`skiagraph check`: the settings, the model, the folder and every peer, before the first patient."""

import typer

from skiagraph.commands.services import Config


def check(config: Config = None) -> int:
    """Check the configuration and whether the peers answer; exit code 1 when something would not work."""
    from skiagraph.checks import Outcome, run_checks
    from skiagraph.settings import load

    settings = load(config)
    width = 0
    failed = False
    for finding in run_checks(settings):
        width = max(width, len(finding.what))
        failed |= finding.outcome is Outcome.FAILED
        typer.echo(f"{finding.outcome.value:8} {finding.what:{max(width, 24)}} {finding.detail}")
    return 1 if failed else 0
