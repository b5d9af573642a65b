"""Runs the HTTP service in the foreground until SIGINT or SIGTERM: supervisor, entry and runner processes."""

import os
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from models.package import find
from service.access import known_tokens
from skiagraph import log
from skiagraph.settings import CONFIG_VARIABLE, Settings, SettingsError
from skiagraph.settings.tls import TlsFiles, server_context

_STOP_SECONDS = 30.0  # longer than a running request should need, shorter than Kubernetes waits
_log = log.get(__name__)


def serve(settings: Settings) -> None:
    """Serve until stopped. Raises PackageError or SettingsError for what no worker could start with."""
    # Told here, once, and not by every worker.
    find(settings.service.model)
    asked = {"tokens": known_tokens(settings.service), "tokens_file": None}
    settings = settings.model_copy(update={"service": settings.service.model_copy(update=asked)})
    secured = _secured(settings.service.tls)
    port = settings.service.port or free_port(settings.service.host)
    with tempfile.TemporaryDirectory(prefix="skiagraph-service-") as folder:
        _prepare_environment(settings, Path(folder))
        # Only now: BentoML and our own services read the environment when they are imported.
        import bentoml

        server = bentoml.serve(
            "service.app:Skiagraph",
            working_dir=str(Path(__file__).resolve().parent.parent),
            host=settings.service.host,
            port=port,
            **secured,
        )
        stopped = _stop_signal()  # after BentoML's own handlers, which would stop only its thread
        scheme = "https" if settings.service.tls else "http"
        _log.info("HTTP service starts", url=f"{scheme}://{settings.service.host}:{port}")
        if settings.service.allow_anonymous:
            _log.warning("allow_anonymous: whoever reaches the port may ask", host=settings.service.host)
        started = False
        try:
            while not stopped.wait(1.0) and (server.running or not started):
                started |= server.running
        finally:
            _log.info("HTTP service stops")
            # BentoML waits a day for a worker that does not stop. Workers die with us: a deadline is enough.
            deadline = threading.Timer(_STOP_SECONDS, _give_up)
            deadline.daemon = True
            deadline.start()
            server.stop()
            deadline.cancel()


def _secured(files: TlsFiles | None) -> dict[str, Any]:
    """What BentoML's server is told of TLS; SettingsError where a file cannot be used."""
    if files is None:
        return {}
    try:
        context = server_context(files, "service.tls")
    except OSError as error:
        raise SettingsError(f"setting {error}") from error
    return {
        "ssl_certfile": str(files.certificate.resolve()),
        "ssl_keyfile": str(files.key.resolve()),
        "ssl_ca_certs": str(files.client_ca.resolve()) if files.client_ca else None,
        "ssl_cert_reqs": int(context.verify_mode),
    }


def _prepare_environment(settings: Settings, folder: Path) -> None:
    """What the worker processes inherit: these settings, no telemetry, files of their own."""
    config = folder / "settings.yaml"
    config.touch(mode=0o600)
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
    os.environ[CONFIG_VARIABLE] = str(config)
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    # Counters live below it: two services on one machine must not wipe each other's.
    os.environ["BENTOML_HOME"] = str(folder / "bentoml")


def _stop_signal() -> threading.Event:
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopped


def _give_up() -> None:
    _log.error("workers did not stop in time", seconds=_STOP_SECONDS)
    sys.stderr.flush()
    os._exit(1)


def free_port(host: str) -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
