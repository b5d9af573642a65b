"""A model package opened on this machine: verified, warm and in parity before it answers."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

import skiagraph.log
from models.package import ModelPackage, PackageError, find
from runners.engines.base import Engine, FloatArray
from runners.engines.choose import EngineChoice, EngineKind, EngineWish, choose, fall_back
from runners.engines.graph import Graph, model_graph
from runners.engines.onnxruntime_cpu import OnnxRuntimeCpu
from runners.engines.parity import Parity, measure
from runners.errors import RunnerError, RunnerFault
from skiagraph.settings.service import ServiceSettings

_log = skiagraph.log.get(__name__)


@dataclass(frozen=True, kw_only=True)
class EngineReport:
    """Which arithmetic answers, and why: for `/readyz`, `skiagraph check`, every report."""

    model: str
    model_version: str
    weights_sha256: str
    engine: str
    engine_version: str
    precision: str
    parity: float
    reason: str
    fallback: bool
    seconds_per_radiograph: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """One row of the graph's outputs; anomaly_map: (h, w) float32 over the letterbox."""

    score: float
    novelty: float
    anomaly_map: FloatArray


def open_packages(settings: ServiceSettings) -> dict[str, ModelPackage]:
    """The default package first, by name; RunnerFault when one cannot be trusted."""
    try:
        packages = [ModelPackage.open(find(name)) for name in (settings.model, *settings.also_models)]
    except PackageError as error:
        raise RunnerFault(str(error)) from error
    return {package.manifest.name: package for package in packages}


class LoadedModel:
    """`model.onnx` on the engine that was chosen for it."""

    def __init__(self, package: ModelPackage, settings: ServiceSettings) -> None:
        self.package = package
        self._engine, choice, parity = _open(package, settings)
        self.report = EngineReport(
            model=package.manifest.name,
            model_version=package.manifest.version,
            weights_sha256=package.weights_sha256,
            engine=self._engine.name,
            engine_version=self._engine.version,
            precision=self._engine.precision,
            parity=parity.deviation,
            reason=choice.reason,
            fallback=choice.fallback,
            seconds_per_radiograph=self._warm_up(),
        )
        _log.info("model is ready", **vars(self.report))

    def infer(self, batch: FloatArray) -> list[Answer]:
        """(n, 2, S, S) float32 to n answers, in order."""
        outputs = self._engine.infer(batch)
        rows = zip(outputs["score"], outputs["novelty"], outputs["anomaly_map"], strict=True)
        return [Answer(score=float(s), novelty=float(n), anomaly_map=m.copy()) for s, n, m in rows]

    def _warm_up(self) -> float:
        side = self.package.manifest.input_px
        blank = np.zeros((1, 2, side, side), np.float32)
        self._engine.infer(blank)
        seconds = []
        for _ in range(3):  # the best: what else the machine does is not the engine's
            started = time.perf_counter()
            self._engine.infer(blank)
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    def close(self) -> None:
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(package: ModelPackage, settings: ServiceSettings) -> tuple[Engine, EngineChoice, Parity]:
    """The chosen engine where it is in parity, else the CPU; RunnerFault when the CPU is not either."""
    wish = EngineWish(settings.engine)
    choice = choose(wish, why_no_gpu=None if wish is EngineWish.CPU else _why_no_gpu())
    if choice.kind is EngineKind.TENSORRT:
        try:
            return _open_tensorrt(package, settings, choice)
        except Exception as error:  # whatever a GPU library raises, the CPU takes over and says so
            choice = fall_back(str(error))
            _log.warning(
                "TensorRT is refused, the CPU takes over", model=package.manifest.name, reason=str(error)
            )
    graph = model_graph(package)
    engine = OnnxRuntimeCpu(graph.path, threads=settings.engine_threads, precision=graph.precision)
    parity = _parity(engine, package, graph.input_name)
    if not parity.holds:
        raise RunnerFault(
            f"{package.folder} fails its parity check on the CPU engine: {parity}; restore the package"
        )
    return engine, choice, parity


def _open_tensorrt(
    package: ModelPackage, settings: ServiceSettings, choice: EngineChoice
) -> tuple[Engine, EngineChoice, Parity]:
    from runners.engines.cuda import find_gpu
    from runners.engines.tensorrt import open_tensorrt
    from runners.engines.tensorrt_library import installed_library

    library, gpu = installed_library(), find_gpu()

    def opened(graph: Graph) -> Engine:
        return open_tensorrt(
            graph,
            library=library,
            gpu=gpu,
            maximum_batch=settings.max_batch_size,
            plan_cache=settings.plan_cache,
        )

    engine, parity = fastest_in_parity(package, opened)
    return engine, choice, parity


def fastest_in_parity(package: ModelPackage, opened: Callable[[Graph], Engine]) -> tuple[Engine, Parity]:
    """The model in half precision, or in single where that cannot be opened or is not in parity; RunnerError
    says what was wrong with both."""
    single = model_graph(package)
    refused = []
    for graph in (single.in_half_precision(), single):
        try:
            with ExitStack() as stack:
                engine = stack.enter_context(opened(graph))
                parity = _parity(engine, package, graph.input_name)
                if parity.holds:
                    stack.pop_all()
                    return engine, parity
                refused.append(f"{graph.precision}: {parity}")
        except Exception as error:  # whatever a GPU library raises, the next one is tried
            refused.append(f"{graph.precision}: {error}")
        _log.warning("A precision is refused", model=package.manifest.name, reason=refused[-1])
    raise RunnerError("; ".join(refused))


def _parity(engine: Engine, package: ModelPackage, input_name: str) -> Parity:
    return measure(engine, package.folder, package.manifest.golden, input_name=input_name)


def _why_no_gpu() -> str | None:
    from runners.engines.cuda import GpuError, find_gpu
    from runners.engines.tensorrt_library import PlanError, installed_library

    try:
        find_gpu()
        installed_library()
    except (GpuError, PlanError) as error:
        return str(error)
    return None
