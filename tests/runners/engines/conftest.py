"""TensorRT-RTX where it is installed, and small graphs made for one test."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.package import sha256
from runners.engines.graph import Graph
from runners.engines.tensorrt_library import Library, PlanError, tensorrt_rtx

SIDE = 128
Nodes = list[onnx.NodeProto]


@pytest.fixture(scope="session")
def rtx() -> Library:
    """The library that builds without a GPU; CI must have it."""
    try:
        return tensorrt_rtx()
    except PlanError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def make_graph(tmp_path: Path) -> Callable[..., Graph]:
    """A graph whose `score` is the mean after a convolution and then `nodes`, which lead from `c` to `x`."""

    def make(
        nodes: Nodes | None = None,
        *,
        input_name: str = "radiograph",
        output_type: int = TensorProto.FLOAT,
        batch: int | str = "n",
        channels: int = 1,
    ) -> Graph:
        kernel = np.ones((1, channels, 3, 3), np.float32) / 9
        constants = {
            "kernel": kernel,
            "axes": np.array([1, 2, 3], np.int64),
            "flat": np.array([-1, 1, 1, SIDE * SIDE], np.int64),
            "8001": np.array([8001], np.int64),
        }
        body = [
            helper.make_node("Conv", [input_name, "kernel"], ["c"], "smooth", pads=[1, 1, 1, 1]),
            *(nodes or [helper.make_node("Relu", ["c"], ["x"])]),
            helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
            helper.make_node("Cast", ["mean"], ["score"], to=output_type),
        ]
        used = {name for node in body for name in node.input}
        graph = helper.make_graph(
            body,
            "made",
            [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [batch, channels, SIDE, SIDE])],
            [helper.make_tensor_value_info("score", output_type, [batch])],
            [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        path = tmp_path / "made.onnx"
        onnx.save(model, path)
        return Graph(
            path=path,
            sha256=sha256(path),
            precision="fp32",
            input_name="radiograph",
            input_shape=(1, SIDE, SIDE),
            outputs={"score": ()},
        )

    return make
