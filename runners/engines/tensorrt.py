"""The TensorRT engine: a plan from the cache, run from pinned memory on a stream of its own."""

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

import skiagraph.log
from runners.engines.base import FloatArray
from runners.engines.cuda import DeviceArray, DeviceMemory, Gpu, GpuError
from runners.engines.graph import Graph
from runners.engines.plan_builder import BatchProfile
from runners.engines.plan_cache import PlanCache, Target, cached_plan
from runners.engines.tensorrt_library import Library, PlanError, complaints, logger, told

_log = skiagraph.log.get(__name__)


def default_plan_cache() -> Path:
    """Where plans are kept when the setting `service.plan_cache` names no folder."""
    return Path.home() / ".cache" / "skiagraph" / "plans"


def target_of(gpu: Gpu, library: Library) -> Target:
    """What a plan for this GPU is keyed by; TensorRT-RTX plans run on any GPU of the capability."""
    if library.ahead_of_time:
        return Target.ahead_of_time(gpu.compute_capability)
    return Target(gpu_name=gpu.name, compute_capability=gpu.compute_capability, driver=gpu.driver)


def open_tensorrt(
    graph: Graph, *, library: Library, gpu: Gpu, maximum_batch: int, plan_cache: Path | None
) -> "TensorRtEngine":
    """Open `graph` on this machine's GPU, warm; builds the plan first where the cache has none.

    Raises PlanError or GpuError; the caller then runs the CPU engine and says why.
    """
    profile = BatchProfile.up_to(maximum_batch)
    target = target_of(gpu, library)
    cache = PlanCache(folder=plan_cache or default_plan_cache())
    key, plan = cached_plan(cache, graph, library=library, target=target, profile=profile)
    try:
        return TensorRtEngine(plan, graph=graph, profile=profile, library=library)
    except PlanError as error:
        _log.warning("Plan does not load: building it again", plan=key.file_name, error=str(error))
        cache.discard(key)
    _, plan = cached_plan(cache, graph, library=library, target=target, profile=profile)
    return TensorRtEngine(plan, graph=graph, profile=profile, library=library)


class TensorRtEngine:
    """One plan on the GPU, every buffer allocated at the start; `infer` may be called from any thread."""

    _runtime: Any
    _plan: Any
    _context: Any

    def __init__(self, plan: bytes, *, graph: Graph, profile: BatchProfile, library: Library) -> None:
        self.name = library.name
        self.version = library.version
        self.precision = graph.precision
        self._graph = graph
        self._maximum = profile.maximum
        self._one_at_a_time = threading.Lock()
        with ExitStack() as stack:
            self._memory = DeviceMemory()
            stack.callback(self._memory.close)
            stack.callback(self._forget_plan)
            self._load(plan, library)
            self._input = self._memory.array((profile.maximum, *graph.input_shape))
            self._outputs = self._bind_outputs()
            for rows in (profile.maximum, profile.typical, 1):  # kernels are loaded or compiled at first use
                self.infer(np.zeros((rows, *graph.input_shape), np.float32))
            self._stack = stack.pop_all()

    def _load(self, plan: bytes, library: Library) -> None:
        trt: Any = library.module
        with complaints(library) as errors:
            self._runtime = trt.Runtime(logger(library.module))
            self._plan = self._runtime.deserialize_cuda_engine(plan)
            self._context = None if self._plan is None else self._plan.create_execution_context()
            if self._context is None:
                raise PlanError(f"{library.name} cannot load the plan of {self._graph.path}: {told(errors)}")
        seen = {self._plan.get_tensor_name(index) for index in range(self._plan.num_io_tensors)}
        if seen != {self._graph.input_name, *self._graph.outputs}:
            raise PlanError(f"the plan is not one of {self._graph.path}: its tensors are {sorted(seen)}")

    def _bind_outputs(self) -> dict[str, DeviceArray]:
        self._set_batch(self._maximum)
        self._bind(self._graph.input_name, self._input)
        outputs = {
            name: self._memory.array(tuple(self._context.get_tensor_shape(name)))
            for name in self._graph.outputs
        }
        for name, array in outputs.items():
            self._bind(name, array)
        return outputs

    def _bind(self, name: str, array: DeviceArray) -> None:
        if not self._context.set_tensor_address(name, array.address):
            raise PlanError(f"the plan of {self._graph.path} does not take a buffer for {name}")

    def _set_batch(self, rows: int) -> None:
        if not self._context.set_input_shape(self._graph.input_name, (rows, *self._graph.input_shape)):
            raise PlanError(f"the plan of {self._graph.path} does not take a batch of {rows}")

    def infer(self, batch: FloatArray) -> Mapping[str, FloatArray]:
        """Run (n, c, h, w) float32, in pieces above the plan's maximum; raises GpuError, ValueError."""
        if batch.shape[1:] != self._graph.input_shape or len(batch) == 0:
            raise ValueError(
                f"{self._graph.input_name} is {('n', *self._graph.input_shape)}, not {batch.shape}"
            )
        with self._one_at_a_time:
            if self._context is None:
                raise GpuError("the engine is closed")
            pieces = [self._run(batch[i : i + self._maximum]) for i in range(0, len(batch), self._maximum)]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in self._outputs}

    def _run(self, batch: FloatArray) -> dict[str, FloatArray]:
        rows = len(batch)
        self._input.host[:rows] = batch
        self._input.upload(rows)
        self._set_batch(rows)
        if not self._context.execute_async_v3(self._memory.stream):
            raise GpuError(f"{self.name} could not run {self._graph.path.name} (see the log)")
        for array in self._outputs.values():
            array.download(rows)
        self._memory.wait()
        return {name: array.host[:rows].copy() for name, array in self._outputs.items()}

    def _forget_plan(self) -> None:
        # The library frees its memory when the last reference goes, and in this order.
        self._context = None
        self._plan = None
        self._runtime = None

    def close(self) -> None:
        """Give all memory of the GPU back; idempotent."""
        with self._one_at_a_time:
            self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
