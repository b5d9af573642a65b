"""The CPU engine: ONNX Runtime."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import onnxruntime

from runners.engines.base import FloatArray

onnxruntime.disable_telemetry_events()


class OnnxRuntimeCpu:
    """One graph on `threads` cores; `infer` may be called from several threads."""

    name = "onnxruntime"
    version = str(onnxruntime.__version__)

    def __init__(self, path: Path, *, threads: int, precision: str = "fp32") -> None:
        self.precision = precision
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Waiting threads would burn the cores that decode the next radiograph.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (graph_input,) = session.get_inputs()
        self._input_name = graph_input.name
        self._outputs = [output.name for output in session.get_outputs()]
        self._session: onnxruntime.InferenceSession | None = session

    def infer(self, batch: FloatArray) -> Mapping[str, FloatArray]:
        """Run (n, c, h, w) float32 through the graph; ValueError once closed."""
        if self._session is None:
            raise ValueError("the engine is closed")
        answers = self._session.run(self._outputs, {self._input_name: np.ascontiguousarray(batch)})
        return dict(zip(self._outputs, answers, strict=True))

    def close(self) -> None:
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
