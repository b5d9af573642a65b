"""Radiographs per second of the shipped model: bare engine, one process, over HTTP.

    python -m bench.inference FOLDER [--count 64] [--seconds 10] [--clients 8 32]

FOLDER holds hand radiographs (DICOM, PNG, JPEG). Exit code 1 when a request failed. The load
average is printed too: on a busy machine the figures mean little.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from runners.analysis import Analysis, Prepared
from runners.loaded import LoadedModel
from service.serve import free_port
from skiagraph.scoring import Scorer
from skiagraph.settings import Settings

REPOSITORY = Path(__file__).resolve().parent.parent
Figures = dict[str, float]


def main() -> int:
    options = _options()
    settings = Settings()
    files = [path for path in sorted(options.folder.rglob("*")) if path.is_file()][: options.count]
    figures: Figures = {"load_average_before": os.getloadavg()[0]}
    accepted: list[Path] = []
    with Analysis(settings) as analysis:
        prepared = []
        for path in files:
            outcome = analysis.prepare(path.read_bytes())
            if isinstance(outcome, Prepared):
                prepared.append(outcome)
                accepted.append(path)
        figures |= _bare_engine(analysis, settings, prepared, options.seconds)
    figures |= _one_process(settings, accepted, options.seconds)
    with _service() as url:
        bodies = [path.read_bytes() for path in accepted]
        for clients in options.clients:
            figures |= _over_http(url, bodies, clients, options.seconds)
    figures["load_average_after"] = os.getloadavg()[0]
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}, indent=2))
    return 1 if any(value for name, value in figures.items() if name.endswith("_failed")) else 0


def _bare_engine(analysis: Analysis, settings: Settings, prepared: list[Prepared], seconds: float) -> Figures:
    """(a) ready tensors through the graph on all cores, by batch size."""
    figures: Figures = {}
    with LoadedModel(analysis.package, settings.service) as model:
        for size in (1, 2, 4, 8):
            chosen = (prepared * size)[:size]
            batch = np.stack([each.model_input.tensor for each in chosen])
            figures[f"a_engine_batch_{size}_per_second"] = _rate(partial(_infer, model, batch), seconds)
    return figures


def _infer(model: LoadedModel, batch: NDArray[np.float32]) -> int:
    return len(model.infer(batch))


def _one_process(settings: Settings, files: list[Path], seconds: float) -> Figures:
    """(b) what `skiagraph score` does; prepare alone on one core beside it."""
    with Scorer(settings) as scorer:
        names = [path.stem for path in files]
        rate = _rate(lambda: len(list(scorer.score(files, names, keep=False))), seconds)
        bodies = [path.read_bytes() for path in files]
        one_core = _rate(lambda: len([scorer.analysis.prepare(body) for body in bodies]), seconds)
    return {"b_one_process_per_second": rate, "prepare_on_one_core_per_second": one_core}


def _over_http(url: str, bodies: list[bytes], clients: int, seconds: float) -> Figures:
    """(c) so many clients, each asking again as soon as it was answered."""
    until = time.perf_counter() + seconds
    number = count()

    def ask(_: int) -> list[tuple[int, float]]:
        answers = []
        with httpx.Client(base_url=url, timeout=60) as http:
            while (started := time.perf_counter()) < until:
                answer = http.post("/v1/score", content=bodies[next(number) % len(bodies)])
                answers.append((answer.status_code, time.perf_counter() - started))
        return answers

    with ThreadPoolExecutor(clients) as pool:
        answers = [answer for each in pool.map(ask, range(clients)) for answer in each]
    taken = [seconds for _, seconds in answers]
    name = f"c_http_{clients}_clients"
    return {
        f"{name}_per_second": len(answers) / seconds,
        f"{name}_p50_seconds": float(np.percentile(taken, 50)),
        f"{name}_p99_seconds": float(np.percentile(taken, 99)),
        f"{name}_failed": float(sum(status != 200 for status, _ in answers)),
    }


def _rate(work: Callable[[], int], seconds: float) -> float:
    """Radiographs per second of something that says how many it did."""
    work()
    done, started = 0, time.perf_counter()
    while (taken := time.perf_counter() - started) < seconds:
        done += work()
    return done / taken


@contextmanager
def _service() -> Iterator[str]:
    port = free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "skiagraph", "serve"],
            cwd=REPOSITORY,
            env={**os.environ, "SKIAGRAPH_SERVICE__PORT": str(port)},
            stdout=log,
            stderr=log,
        )
        try:
            while process.poll() is None and not _ready(url):
                time.sleep(0.2)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=40)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10).is_success
    except httpx.TransportError:
        return False


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, nargs="+", default=[8, 32])
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
