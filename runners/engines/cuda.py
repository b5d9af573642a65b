"""The GPU and its memory, through NVIDIA's bindings of the CUDA runtime."""

import ctypes
import importlib
import math
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from runners.engines.base import FloatArray
from runners.errors import RunnerError

DEVICE = 0  # of those that CUDA_VISIBLE_DEVICES or the container leaves


class GpuError(RunnerError):
    """CUDA is not there or refused a call; the text says which and why."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """What `find_gpu` found; `compute_capability` 89 is 8.9."""

    name: str
    compute_capability: int
    driver: str
    memory_bytes: int


def find_gpu() -> Gpu:
    """The GPU of this process; takes no memory on it. Raises GpuError saying why there is none."""
    runtime = _runtime()
    if _call(runtime, "cudaDriverGetVersion") == 0:
        raise GpuError("no NVIDIA driver is loaded")
    if _call(runtime, "cudaGetDeviceCount") == 0:
        raise GpuError("no CUDA device is visible: check CUDA_VISIBLE_DEVICES and the container's GPU limit")
    properties = _call(runtime, "cudaGetDeviceProperties", DEVICE)
    return Gpu(
        name=properties.name.decode(),
        compute_capability=properties.major * 10 + properties.minor,
        driver=_driver_version(),
        memory_bytes=properties.totalGlobalMem,
    )


def free_memory_bytes() -> int:
    """Free memory of the whole GPU, all its processes counted."""
    free, _total = _call(_runtime(), "cudaMemGetInfo")
    return int(free)


def _driver_version() -> str:
    pynvml: Any = importlib.import_module("pynvml")
    try:
        pynvml.nvmlInit()
        try:
            return str(pynvml.nvmlSystemGetDriverVersion())
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise GpuError(f"the NVIDIA driver does not tell its version: {error}") from error


def _runtime() -> Any:
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise GpuError(
            f"the CUDA bindings are not installed ({error}): pip install 'skiagraph[gpu]'"
        ) from error


def _call(runtime: Any, function: str, *arguments: Any) -> Any:
    """Call one CUDA function: its value, a tuple of them or None; GpuError for anything but success."""
    error, *values = getattr(runtime, function)(*arguments)
    if error != runtime.cudaError_t.cudaSuccess:
        _, text = runtime.cudaGetErrorString(error)
        raise GpuError(f"{function}: {text.decode()} ({error.name})")
    return tuple(values) if len(values) > 1 else values[0] if values else None


class DeviceArray:
    """A float32 array on the GPU and its twin in pinned host memory; copies are queued on a stream."""

    def __init__(self, runtime: Any, stream: Any, shape: tuple[int, ...], stack: ExitStack) -> None:
        self._runtime, self._stream = runtime, stream
        values = math.prod(shape)
        self._row_bytes = 4 * values // shape[0]
        self.address = int(_call(runtime, "cudaMalloc", 4 * values))
        stack.callback(_call, runtime, "cudaFree", self.address)
        self._pinned = int(_call(runtime, "cudaMallocHost", 4 * values))
        stack.callback(_call, runtime, "cudaFreeHost", self._pinned)
        flat = np.ctypeslib.as_array((ctypes.c_float * values).from_address(self._pinned))
        self.host: FloatArray = flat.reshape(shape)

    def upload(self, rows: int) -> None:
        """Queue the copy of the first `rows` of `host` to the GPU."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(self.address, self._pinned, rows, kind)

    def download(self, rows: int) -> None:
        """Queue the copy of the first `rows` to `host`, which holds them after `DeviceMemory.wait`."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(self._pinned, self.address, rows, kind)

    def _copy(self, to: int, source: int, rows: int, kind: Any) -> None:
        _call(self._runtime, "cudaMemcpyAsync", to, source, rows * self._row_bytes, kind, self._stream)


class DeviceMemory:
    """A stream of its own and the arrays it feeds. `close` frees them all and is idempotent."""

    def __init__(self) -> None:
        self._runtime = _runtime()
        self._stack = ExitStack()
        _call(self._runtime, "cudaSetDevice", DEVICE)
        flags = self._runtime.cudaStreamNonBlocking  # no waiting for the default stream of another library
        self._stream = _call(self._runtime, "cudaStreamCreateWithFlags", flags)
        self.stream = int(self._stream)
        self._stack.callback(_call, self._runtime, "cudaStreamDestroy", self._stream)

    def array(self, shape: tuple[int, ...]) -> DeviceArray:
        return DeviceArray(self._runtime, self._stream, shape, self._stack)

    def wait(self) -> None:
        """Until all that was queued is done."""
        _call(self._runtime, "cudaStreamSynchronize", self._stream)

    def close(self) -> None:
        self._stack.close()
