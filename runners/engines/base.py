"""The protocol each engine fills: open, infer, close."""

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


class Engine(Protocol):
    """One ONNX graph, opened and warm.

    Opening happens in the constructor or a factory; `close` is idempotent and `with` closes.
    """

    name: str  # "onnxruntime", "openvino", "tensorrt"
    version: str
    precision: str  # "fp32", "fp16"

    def infer(self, batch: FloatArray) -> Mapping[str, FloatArray]:
        """Run (n, c, h, w) float32 through the graph; returns each output by its graph name, first axis n."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
