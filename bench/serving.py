"""A service of its own for a benchmark, and load upon it from another process."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from runners.analysis import Analysis, Prepared
from service.serve import free_port

REPOSITORY = Path(__file__).resolve().parent.parent
_READY_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the clients saw. outcomes: answers by HTTP status or error; taken: seconds of each, in any order.

    cpu_seconds: of all processes of the service; client_cpu_seconds: of the clients.
    """

    seconds: float
    cpu_seconds: float
    client_cpu_seconds: float
    outcomes: dict[str, int]
    taken: list[float]

    @property
    def done(self) -> int:
        return self.outcomes.get("200", 0)

    @property
    def failed(self) -> int:
        return sum(self.outcomes.values()) - self.done


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A running `skiagraph serve` with default settings."""

    url: str
    process: subprocess.Popen[bytes]

    def load(self, files: Sequence[Path], *, clients: int, seconds: float) -> Load:
        """So many clients for so long."""
        before = self._cpu_seconds()
        command = [sys.executable, "-m", "bench.load", self.url]
        command += ["--clients", str(clients), "--seconds", str(seconds)]
        paths = "\n".join(str(path.resolve()) for path in files)
        ran = subprocess.run(command, cwd=REPOSITORY, input=paths, capture_output=True, text=True, check=True)
        seen = json.loads(ran.stdout)
        return Load(
            seconds=seen["seconds"],
            cpu_seconds=self._cpu_seconds() - before,
            client_cpu_seconds=seen["cpu_seconds"],
            outcomes=seen["outcomes"],
            taken=seen["taken"],
        )

    def _cpu_seconds(self) -> float:
        return sum(
            sum(process.cpu_times()[:2])
            for process in psutil.Process(self.process.pid).children(recursive=True)
        )


def accepted(analysis: Analysis, folder: Path, count: int) -> dict[Path, Prepared]:
    """The first radiographs of a folder that the gate lets in; SystemExit when there is none."""
    found: dict[Path, Prepared] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        outcome = analysis.prepare(path.read_bytes(), drawn=False)
        if isinstance(outcome, Prepared):
            found[path] = outcome
        if len(found) == count:
            break
    if not found:
        raise SystemExit(f"{folder} holds no radiograph that the gate lets in")
    return found


@contextmanager
def serving(**settings: str) -> Iterator[Serving]:
    """Start, wait until ready, stop; RuntimeError with the end of its log when it does not start.

    settings: as environment variables, such as SKIAGRAPH_SERVICE__TOKENS.
    """
    port = free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SKIAGRAPH_")}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "skiagraph", "serve"],
            cwd=REPOSITORY,
            env={**environment, **settings, "SKIAGRAPH_SERVICE__PORT": str(port)},
            stdout=log,
            stderr=log,
        )
        try:
            deadline = time.monotonic() + _READY_SECONDS
            while not _ready(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"the service did not start:\n{log.read().decode()[-3000:]}")
                time.sleep(0.2)
            yield Serving(url=url, process=process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=40)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10).is_success
    except httpx.TransportError:
        return False
