"""Convolutions in half precision, the rest in single, and the same contract at both ends."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from models.package import PACKAGES, ModelPackage
from runners.engines.graph import Graph, model_graph
from runners.engines.plan_builder import BatchProfile, build_plan
from runners.engines.tensorrt_library import Library

Types = dict[str, int]


def types_of(graph: onnx.GraphProto) -> Types:
    return {value.name: value.type.tensor_type.elem_type for value in graph.value_info}


def test_only_convolutions_and_what_lies_between_them_are_halved() -> None:
    content = model_graph(ModelPackage.open(PACKAGES / "synthetic-defects")).in_half_precision().content()
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(content), strict_mode=True)
    types = types_of(model.graph)
    halved = {node.op_type for node in model.graph.node if types.get(node.output[0]) == TensorProto.FLOAT16}
    assert halved <= {
        "Conv",
        "Relu",
        "Resize",
        "Concat",
        "Cast",
        "GatherND",
    }  # GatherND: the atlas is kept in half
    convolutions = [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    assert convolutions
    assert {types[name] for name in convolutions} == {TensorProto.FLOAT16}


def test_inputs_and_outputs_stay_single_and_numbers_stay_near(make_graph: Callable[..., Graph]) -> None:
    graph = make_graph(
        [
            helper.make_node("Relu", ["c"], ["positive"]),
            helper.make_node("Sqrt", ["positive"], ["x"]),
        ]
    )
    picture = np.random.default_rng(1).random((2, *graph.input_shape), np.float32)
    single, half = (
        onnxruntime.InferenceSession(g.content()).run(None, {"radiograph": picture})[0]
        for g in (graph, graph.in_half_precision())
    )
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, single, atol=1e-3)
    assert not np.array_equal(half, single)


def test_an_output_made_by_a_convolution_is_single(make_graph: Callable[..., Graph]) -> None:
    graph = make_graph()
    model = onnx.load(graph.path)
    shape: list[str | int | None] = ["n", 1, *graph.input_shape[1:]]
    model.graph.output.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, shape))
    onnx.save(model, graph.path)
    session = onnxruntime.InferenceSession(graph.in_half_precision().content())
    assert [output.type for output in session.get_outputs()] == ["tensor(float)", "tensor(float)"]


def test_a_small_graph_builds_in_half_precision(make_graph: Callable[..., Graph], rtx: Library) -> None:
    graph = make_graph().in_half_precision()
    built = build_plan(graph, library=rtx, profile=BatchProfile.up_to(2), compute_capability=75)
    assert len(built.plan) > 1000
