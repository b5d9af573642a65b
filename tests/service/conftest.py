"""A real service in processes of its own, started once for all tests of this room."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from service import serve
from tests.conftest import REPOSITORY

START_SECONDS = 90


@dataclass(frozen=True)
class Running:
    """A service, where it listens and what it logs."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


def spawn(folder: Path, port: int, **service: object) -> Running:
    """`skiagraph serve` in a process of its own, not yet ready."""
    config = folder / "settings.yaml"
    config.write_text(yaml.safe_dump({"service": {"port": port, **service}, "log_json": True}))
    log = folder / "service.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "skiagraph", "serve", "--config", str(config)],
            cwd=REPOSITORY,
            env={name: value for name, value in os.environ.items() if not name.startswith("SKIAGRAPH_")},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Running(url=f"http://127.0.0.1:{port}", process=process, log=log)


def start(folder: Path, port: int, **service: object) -> Running:
    """A service that is ready."""
    running = spawn(folder, port, **service)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and running.process.poll() is None:
        try:
            if httpx.get(f"{running.url}/readyz").status_code == 200:
                return running
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    stop(running)
    pytest.fail(f"the service was not ready in time:\n{running.log.read_text()[-4000:]}")


def stop(running: Running) -> None:
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(timeout=40)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = start(tmp_path_factory.mktemp("service"), serve.free_port("127.0.0.1"), max_pixels=20_000_000)
    yield running
    stop(running)


@pytest.fixture(scope="session")
def http(service: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client
