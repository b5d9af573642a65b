"""Radiographs per second of the shipped model: bare engine, one process, over HTTP, PyTorch: in one run.

    python -m bench.inference FOLDER [--count 48] [--seconds 10] [--rounds 3]

FOLDER holds hand radiographs (DICOM, PNG, JPEG); those that the gate refuses are left out. Every stage is
timed once in each round, and a ratio is the median over the rounds of the ratio within one round, so that a
machine that is busy for a while harms all alike. Exit code 1 when a request failed or a ratio is missed.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from bench.eager import EagerGraph
from bench.serving import Serving, accepted, serving
from runners.analysis import Analysis, Prepared
from runners.loaded import LoadedModel
from skiagraph.scoring import Scorer
from skiagraph.settings import Settings

CLIENTS: Final = (8, 32)
BATCHES: Final = (1, 2, 4, 8)
ONE_PROCESS: Final = "b one process"
PREPARE: Final = "decode and geometry, all cores"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """cpu_seconds: of all processes that did the work; failed: of the requests."""

    done: int
    seconds: float
    cpu_seconds: float
    failed: int = 0

    @property
    def rate(self) -> float:
        return self.done / self.seconds


Stage = Callable[[float], Sample]


@dataclass(kw_only=True)
class Figures:
    """The samples of each stage, one a round, and what the clients waited for."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    taken: dict[str, list[float]] = field(default_factory=dict)
    client_cpu_seconds: list[float] = field(default_factory=list)

    def ratio(self, of: str, to: Callable[[int], float]) -> float:
        """Median over the rounds of the rate of one stage divided by what `to` says of the same round."""
        rates = [sample.rate for sample in self.samples[of]]
        return statistics.median(rate / to(place) for place, rate in enumerate(rates))

    def rate(self, name: str, place: int) -> float:
        return self.samples[name][place].rate

    def best_engine(self, place: int) -> float:
        return max(self.rate(f"a engine, batch {size}", place) for size in BATCHES)

    def harmonic_bound(self, place: int) -> float:
        """What one process could do if decoding, geometry and engine never waited for each other."""
        return 1 / (1 / self.rate(PREPARE, place) + 1 / self.best_engine(place))


def main() -> int:
    options = _options()
    settings = Settings()
    figures = Figures()
    with ExitStack() as stack:
        scorer = stack.enter_context(Scorer(settings))
        prepared = accepted(scorer.analysis, options.folder, options.count)
        files = list(prepared)
        model = stack.enter_context(LoadedModel(scorer.analysis.package, settings.service))
        service = stack.enter_context(serving())
        stages = {
            **_engine_stages(model, list(prepared.values())),
            PREPARE: _prepare(scorer.analysis, files),
            ONE_PROCESS: _one_process(scorer, files),
            **{f"c HTTP, {clients} clients": _http(service, files, clients, figures) for clients in CLIENTS},
        }
        print(f"{len(files)} radiographs, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
        for stage in stages.values():
            stage(1.0)
        figures.taken.clear()
        figures.client_cpu_seconds.clear()
        for _ in range(options.rounds):
            for name, stage in stages.items():
                figures.samples.setdefault(name, []).append(stage(options.seconds))
    return _report(figures)


def _engine_stages(model: LoadedModel, prepared: list[Prepared]) -> Mapping[str, Stage]:
    """(a) ready tensors through the graph on all cores; the same graph by eager PyTorch beside it."""
    torch.set_num_threads(os.cpu_count() or 1)
    eager = EagerGraph(model.package.folder / "model.onnx")
    tensors = [each.model_input.tensor for each in prepared]
    stages: dict[str, Stage] = {}
    for size in BATCHES:
        batch = np.stack((tensors * size)[:size])
        stages[f"a engine, batch {size}"] = _repeated(partial(_infer, model, batch))
    for size in (BATCHES[0], BATCHES[-1]):
        same = torch.from_numpy(np.stack((tensors * size)[:size]))
        stages[f"PyTorch eager, batch {size}"] = _repeated(partial(_eager, eager, same))
    _expect_equal(model, eager, np.stack(tensors[:2]))
    return stages


def _infer(model: LoadedModel, batch: NDArray[np.float32]) -> int:
    return len(model.infer(batch))


def _eager(graph: EagerGraph, batch: torch.Tensor) -> int:
    return len(graph(batch)["score"])


def _expect_equal(model: LoadedModel, eager: EagerGraph, batch: NDArray[np.float32]) -> None:
    """What is compared must be the same computation."""
    ours = [answer.score for answer in model.infer(batch)]
    theirs = eager(torch.from_numpy(batch))["score"].numpy()
    np.testing.assert_allclose(ours, theirs, atol=model.package.manifest.golden.tolerance)


def _prepare(analysis: Analysis, files: list[Path]) -> Stage:
    bodies = [path.read_bytes() for path in files]
    cores = len(os.sched_getaffinity(0))

    def work() -> int:
        with ThreadPoolExecutor(cores) as pool:
            return len(list(pool.map(analysis.prepare, bodies)))

    return _repeated(work)


def _one_process(scorer: Scorer, files: list[Path]) -> Stage:
    """(b) what `skiagraph score` does."""
    names = [path.stem for path in files]
    return _repeated(lambda: len(list(scorer.score(files, names, keep=False))))


def _repeated(work: Callable[[], int]) -> Stage:
    def run(seconds: float) -> Sample:
        done, started, used = 0, time.perf_counter(), time.process_time()
        while (taken := time.perf_counter() - started) < seconds:
            done += work()
        return Sample(done=done, seconds=taken, cpu_seconds=time.process_time() - used)

    return run


def _http(service: Serving, files: list[Path], clients: int, figures: Figures) -> Stage:
    """(c) so many clients, each asking again as soon as it was answered."""

    def run(seconds: float) -> Sample:
        load = service.load(files, clients=clients, seconds=seconds)
        figures.taken.setdefault(f"c HTTP, {clients} clients", []).extend(load.taken)
        figures.client_cpu_seconds.append(load.client_cpu_seconds / max(1, load.done))
        return Sample(done=load.done, seconds=load.seconds, cpu_seconds=load.cpu_seconds, failed=load.failed)

    return run


def _report(figures: Figures) -> int:
    print(f"load {os.getloadavg()[0]:.1f} after\n")
    print(f"{'stage':32}{'per second':>11}{'CPU ms each':>13}{'p50 s':>8}{'p99 s':>8}{'failed':>8}")
    for name, samples in figures.samples.items():
        rate = statistics.median(sample.rate for sample in samples)
        cpu = 1000 * statistics.median(sample.cpu_seconds / max(1, sample.done) for sample in samples)
        taken = figures.taken.get(name)
        waits = "".join(f"{np.percentile(taken, part):8.2f}" if taken else " " * 8 for part in (50, 99))
        failed = sum(sample.failed for sample in samples)
        print(f"{name:32}{rate:11.2f}{cpu:13.1f}{waits}{failed:8}")
    client = 1000 * statistics.median(figures.client_cpu_seconds)
    print(f"\nthe clients themselves: {client:.1f} ms of CPU for each request, on the same cores\n")
    met = _verdicts(figures)
    failed = sum(sample.failed for samples in figures.samples.values() for sample in samples)
    return 0 if met and not failed else 1


def _verdicts(figures: Figures) -> bool:
    """Print each ratio beside what it should be; whether all are met."""
    ratios = {
        "b / harmonic bound of its parts": (figures.ratio(ONE_PROCESS, figures.harmonic_bound), 0.7),
        **{
            f"c, {clients} clients / b": (
                figures.ratio(f"c HTTP, {clients} clients", partial(figures.rate, ONE_PROCESS)),
                0.85,
            )
            for clients in CLIENTS
        },
        **{
            f"a / PyTorch eager, batch {size}": (
                figures.ratio(
                    f"a engine, batch {size}",
                    partial(figures.rate, f"PyTorch eager, batch {size}"),
                ),
                1.0,
            )
            for size in (BATCHES[0], BATCHES[-1])
        },
    }
    for name, (ratio, wanted) in ratios.items():
        print(f"{name:40}{ratio:7.2f}   at least {wanted:.2f}: {'met' if ratio >= wanted else 'MISSED'}")
    return all(ratio >= wanted for ratio, wanted in ratios.values())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=48, help="radiographs (48)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=10,  # so long that the first and the last requests of clients hardly count
        help="of each stage in each round (10)",
    )
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
