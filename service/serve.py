"""Runs the HTTP service in the foreground until SIGINT or SIGTERM: supervisor, entry and runner processes."""

import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import yaml

from models.package import find
from service.access import known_tokens
from service.errors import ServingEnded
from service.stopping import drain
from skiagraph import log
from skiagraph.settings import CONFIG_VARIABLE, Settings, SettingsError
from skiagraph.settings.tls import TlsFiles, server_context

_START_SECONDS = 30.0  # until there are worker processes, not until they are ready
_STOP_SECONDS = 8.0  # beyond service.drain_seconds, for what does not wait for requests
# Else glibc hands large buffers back to the kernel as soon as they are free, and takes new pages for the next
# chunk: docs/adr/0040-large-buffers.md.
_MALLOC: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(128 * 1024 * 1024),
}
_log = log.get(__name__)


def serve(settings: Settings) -> None:
    """Serve until stopped. Raises PackageError, SettingsError or ServingEnded."""
    # Told here, once, and not by every worker.
    find(settings.service.model)
    asked = {"tokens": known_tokens(settings.service), "tokens_file": None}
    settings = settings.model_copy(update={"service": settings.service.model_copy(update=asked)})
    secured = _secured(settings.service.tls)
    port = _claim(settings.service.host, settings.service.port)
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
        _wait_until(lambda: server.running)  # it starts in a thread
        while server.running and not stopped.wait(1.0):
            pass
        _log.info("HTTP service stops")
        # Workers die with us, whatever keeps them: a deadline is enough.
        seconds = settings.service.drain_seconds
        deadline = threading.Timer(seconds + _STOP_SECONDS, _give_up, [seconds + _STOP_SECONDS])
        deadline.daemon = True
        deadline.start()
        if server.running:
            drain(server.arbiter, seconds=seconds)
        server.stop()
        deadline.cancel()
    if not stopped.is_set():
        raise ServingEnded("the workers of the HTTP service ended by themselves; their lines above say why")


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
    for variable, value in _MALLOC.items():
        os.environ.setdefault(variable, value)


def _stop_signal() -> threading.Event:
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopped


def _give_up(seconds: float) -> None:
    _log.error("workers did not stop in time", seconds=seconds)
    sys.stderr.flush()
    os._exit(1)


def _wait_until(started: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not started():
        if time.monotonic() > deadline:
            raise ServingEnded("the HTTP service did not start its workers; the lines above say why")
        time.sleep(0.05)


def _claim(host: str, port: int) -> int:
    """The port, or any where it is 0; told here where it is taken, since BentoML would only wait."""
    try:
        return free_port(host, port)
    except OSError as error:
        raise SettingsError(
            f"settings service.host and service.port: {host}:{port} cannot be listened on: {error.strerror};"
            " choose another port, or stop what listens there"
        ) from error


def free_port(host: str, port: int = 0) -> int:
    """A port that was free a moment ago."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])
