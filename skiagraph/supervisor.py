"""`skiagraph up`: the HTTP service and the DICOM node as two child processes, watched and stopped in order.

The listener stops first, so that what it has promised can still be scored, then the service: its entry, which
finishes its requests, before its runners. If one ends by itself, both stop.
A killed supervisor leaves no orphan: the kernel then sends SIGTERM to each child.
"""

import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Final, Self

from skiagraph import log
from skiagraph.errors import FailedError, UsageError
from skiagraph.processes import die_with_parent, stop
from skiagraph.settings import CONFIG_VARIABLE, Settings
from skiagraph.settings.listener import ListenerSettings
from skiagraph.settings.tls import client_context

READY_DEADLINE_SECONDS: Final = 120.0
POLL_SECONDS: Final = 0.1

_log = log.get(__name__)


@dataclass(kw_only=True)
class Part:
    """One child process in its own process group. ready_url: answers 200 once it works."""

    name: str
    process: subprocess.Popen[bytes]
    ready_url: str
    stop_deadline_seconds: float
    tls: ssl.SSLContext | None

    @classmethod
    def start(
        cls,
        name: str,
        *,
        ready_url: str,
        stop_deadline_seconds: float,
        environment: dict[str, str],
        tls: ssl.SSLContext | None,
    ) -> Self:
        """Start `skiagraph NAME` as a child that does not outlive this process."""
        process = subprocess.Popen(
            [sys.executable, "-m", "skiagraph", name],
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
        _log.info("started", part=name, pid=process.pid)
        return cls(
            name=name,
            process=process,
            ready_url=ready_url,
            stop_deadline_seconds=stop_deadline_seconds,
            tls=tls,
        )

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.ready_url, timeout=6, context=self.tls) as answer:  # noqa: S310 - our own URL
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to the whole group after the deadline. Idempotent."""
        if not stop(self.process, deadline_seconds=self.stop_deadline_seconds):
            _log.warning("did not stop in time, killed", part=self.name, seconds=self.stop_deadline_seconds)


class _Stop(BaseException):
    """SIGTERM or SIGINT, raised where the supervisor waits."""


def supervise(settings: Settings, config: Path | None) -> int:
    """Run both parts until a signal (returns 0) or until one ends by itself (raises FailedError)."""
    environment = child_environment(settings, config)
    tls = service_context(settings.listener)
    listener = settings.listener
    api = environment["SKIAGRAPH_LISTENER__SERVICE_URL"]
    console = f"http://{_reachable(listener.console_host)}:{listener.console_port}"
    # name, base URL, how long a stop may take: in the order of starting, stopped in reverse.
    plan = (
        ("serve", api, settings.service.drain_seconds + 15.0),
        ("listen", console, listener.drain_seconds + 15.0),
    )
    parts: list[Part] = []
    try:
        with _signals():
            for name, url, seconds in plan:
                part = Part.start(
                    name,
                    ready_url=f"{url}/readyz",
                    stop_deadline_seconds=seconds,
                    environment=environment,
                    tls=tls,
                )
                parts.append(part)
            for part in parts:
                _wait_until_ready(parts, part)
            _log.info("ready", ae_title=listener.ae_title, dicom_port=listener.port, api=api, console=console)
            while True:
                _raise_if_one_ended(parts)
                time.sleep(POLL_SECONDS)
    except _Stop:
        _log.info("stopping")
    finally:
        for part in reversed(parts):
            part.stop()
            _log.info("stopped", part=part.name)
    return 0


def child_environment(settings: Settings, config: Path | None) -> dict[str, str]:
    """The environment of both children: one settings file, the listener pointed at the service beside it."""
    listener, service = settings.listener, settings.service
    for key, port in (
        ("service.port", service.port),
        ("listener.port", listener.port),
        ("listener.console_port", listener.console_port),
    ):
        if port == 0:
            raise UsageError(f"setting {key}: 0 was given; `skiagraph up` needs a fixed port")
    environment = dict(os.environ)
    if config is not None:
        environment[CONFIG_VARIABLE] = str(config.resolve())
    environment["SKIAGRAPH_LISTENER__SERVICE_URL"] = service_url(settings)
    environment["BENTOML_DO_NOT_TRACK"] = "True"
    return environment


def service_url(settings: Settings) -> str:
    """Where the service of these settings is reached from the node beside it; raises UsageError."""
    listener, service = settings.listener, settings.service
    if service.tls is None:
        return f"http://{_reachable(service.host)}:{service.port}"
    if not listener.service_url.startswith("https://"):
        raise UsageError(
            f"setting listener.service_url: {listener.service_url} was given, and service.tls is set; give"
            f" https://NAME:{service.port} with a name that the certificate has"
        )
    return listener.service_url


def service_context(listener: ListenerSettings) -> ssl.SSLContext | None:
    """Whom the node trusts to be the service; None: the public authorities. Raises UsageError."""
    if listener.service_tls is None:
        return None
    try:
        return client_context(listener.service_tls, "listener.service_tls")
    except OSError as error:
        raise UsageError(f"setting {error}") from error


def _reachable(host: str) -> str:
    """The address, for a URL, at which something bound to `host` answers on this machine."""
    address = ip_address(host)
    if address.is_unspecified:
        return "127.0.0.1"
    return f"[{address}]" if address.version == 6 else str(address)


def _wait_until_ready(parts: list[Part], part: Part) -> None:
    deadline = time.monotonic() + READY_DEADLINE_SECONDS
    while not part.ready():
        _raise_if_one_ended(parts)
        if time.monotonic() > deadline:
            raise FailedError(
                f"`skiagraph {part.name}` was not ready at {part.ready_url} within "
                f"{READY_DEADLINE_SECONDS:.0f} s; its own lines above say why"
            )
        time.sleep(POLL_SECONDS)


def _raise_if_one_ended(parts: list[Part]) -> None:
    for part in parts:
        code = part.process.poll()
        if code is not None:
            how = (
                f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            )
            raise FailedError(
                f"`skiagraph {part.name}` {how}, so everything is stopped; its own lines above say why"
            )


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGINT end the wait; a second one changes nothing while parts are being stopped."""

    def end(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        raise _Stop

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    yield
