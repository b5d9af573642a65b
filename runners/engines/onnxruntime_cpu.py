"""The CPU engine: ONNX Runtime."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import onnxruntime

from runners.engines.base import FloatArray

onnxruntime.disable_telemetry_events()


class OnnxRuntimeCpu:
    """One graph on `threads` cores, one for each row of a batch; `infer` may be called from several threads.

    Rows never share a run: what a radiograph is answered does not depend on its company, to the last bit.
    """

    name = "onnxruntime"
    version = str(onnxruntime.__version__)

    def __init__(self, graph: Path | bytes, *, threads: int, precision: str = "fp32") -> None:
        self.precision = precision
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # several for one row cost a fifth more: docs/adr/0006-cpu-engine.md
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        (graph_input,) = session.get_inputs()
        self._input_name = graph_input.name
        self._outputs = [output.name for output in session.get_outputs()]
        self._session: onnxruntime.InferenceSession | None = session
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="engine")

    def infer(self, batch: FloatArray) -> Mapping[str, FloatArray]:
        """Run (n, c, h, w) float32 through the graph; ValueError once closed."""
        if self._session is None:
            raise ValueError("the engine is closed")
        session = self._session

        def run(row: int) -> list[FloatArray]:
            alone = np.ascontiguousarray(batch[row : row + 1])
            return list(session.run(self._outputs, {self._input_name: alone}))

        rows = [run(0)] if len(batch) == 1 else list(self._pool.map(run, range(len(batch))))
        return {name: np.concatenate(parts) for name, *parts in zip(self._outputs, *rows, strict=True)}

    def close(self) -> None:
        self._session = None
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
