"""The CPU engine against OpenVINO on the graph of one package: `python -m bench.engines [PACKAGE]`.

OpenVINO is not a dependency: `pip install openvino` for the run. Rounds are interleaved; medians are printed.
"""

import argparse
import importlib
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.package import ModelPackage, find
from runners.engines.graph import model_graph
from runners.engines.onnxruntime_cpu import OnnxRuntimeCpu
from skiagraph.settings import Settings

BATCHES: Final = (1, 2, 4, 8)
_SECONDS: Final = 1.5

Infer = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("package", nargs="?", default=Settings().service.model)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    package = ModelPackage.open(find(options.package))
    path, threads = model_graph(package).path, Settings().service.engine_threads
    with np.load(package.folder / package.manifest.golden.file) as golden:
        radiographs = np.resize(golden["radiograph"], (max(BATCHES), *golden["radiograph"].shape[1:]))
    engine = OnnxRuntimeCpu(path, threads=threads)
    engines: dict[str, Infer] = {
        f"ONNX Runtime {engine.version}": lambda batch: engine.infer(batch)["score"],
        **_openvino(str(path), threads),
    }
    scores = {name: infer(radiographs) for name, infer in engines.items()}
    for name, score in scores.items():
        off = np.abs(score - next(iter(scores.values()))).max()
        print(f"{name}: scores differ from the first engine's by at most {off:.1g}")
    print(f"{package.manifest.name}, {threads} threads, load {os.getloadavg()[0]:.1f}\n")
    print(f"{'batch':6}{'engine':28}{'per second':>11}{'CPU ms each':>13}")
    for size in BATCHES:
        samples: dict[str, list[tuple[float, float]]] = {name: [] for name in engines}
        for _ in range(options.rounds):
            for name, infer in engines.items():
                samples[name].append(_timed(infer, radiographs[:size]))
        for name, timed in samples.items():
            rate, cpu = (statistics.median(values) for values in zip(*timed, strict=True))
            print(f"{size:<6}{name:28}{rate:11.1f}{1000 * cpu:13.1f}")
    return 0


def _openvino(path: str, threads: int) -> dict[str, Infer]:
    """OpenVINO tuned for throughput and for latency; empty where it is not installed."""
    try:
        openvino: Any = importlib.import_module("openvino")
    except ImportError:
        print("openvino is not installed: only ONNX Runtime is timed", file=sys.stderr)
        return {}

    def opened(hint: str) -> Infer:
        # By itself it would calculate in bfloat16 where the processor can, and miss the golden outputs.
        how = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(path, "CPU", how)
        output = compiled.output("score")
        return lambda batch: np.asarray(compiled(batch)[output])

    version = openvino.__version__.split("-")[0]
    return {f"OpenVINO {version} {hint.lower()}": opened(hint) for hint in ("LATENCY", "THROUGHPUT")}


def _timed(infer: Infer, batch: NDArray[np.float32]) -> tuple[float, float]:
    """Radiographs per second, and seconds of processor time for each."""
    infer(batch)
    done, started, used = 0, time.perf_counter(), time.process_time()
    while (taken := time.perf_counter() - started) < _SECONDS:
        infer(batch)
        done += len(batch)
    return done / taken, (time.process_time() - used) / done


if __name__ == "__main__":
    sys.exit(main())
