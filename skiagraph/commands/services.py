"""`skiagraph up`, `listen`, `serve`: the parts that stay in the foreground until they are stopped."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from skiagraph.settings import Settings

Config = Annotated[
    Path | None, typer.Option("--config", help="Settings file (YAML); SKIAGRAPH_CONFIG names one too.")
]


def up(config: Config = None) -> int:
    """Run the whole product on this machine: HTTP service and DICOM node."""
    from skiagraph.supervisor import supervise

    return supervise(_settings(config), config)


def listen(config: Config = None) -> int:
    """Run the DICOM node alone."""
    settings = _settings(config)
    from dicom_listener.node import run

    return run(settings.listener)


def serve(config: Config = None) -> int:
    """Run the HTTP service alone."""
    settings = _settings(config)
    from service.serve import serve as serve_http

    serve_http(settings)
    return 0


def _settings(config: Path | None) -> "Settings":
    from skiagraph import log
    from skiagraph.settings import load

    settings = load(config)
    log.configure(json=settings.log_json, level=settings.log_level)
    return settings
