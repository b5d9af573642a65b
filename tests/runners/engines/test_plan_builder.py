"""Every shipped graph built by a real TensorRT for every GPU generation; what is refused, and its message."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from models.package import MANIFEST, PACKAGES, ModelPackage, available, sha256
from runners.engines.graph import Graph, package_graphs
from runners.engines.plan_builder import COMPUTE_CAPABILITIES, BatchProfile, build_plan
from runners.engines.tensorrt_library import Library, PlanError

# The oldest and the newest; `make plans` and CI build for every listed one.
CAPABILITIES = (
    COMPUTE_CAPABILITIES if os.environ.get("SKIAGRAPH_PLANS") == "all" else COMPUTE_CAPABILITIES[::4]
)
MakeGraph = Callable[..., Graph]
TOO_LARGE_TOPK = [
    helper.make_node("Reshape", ["c", "flat"], ["f"]),
    helper.make_node("TopK", ["f", "8001"], ["x", "i"], "largest_8001", axis=3),
]


def test_packages_are_shipped() -> None:
    assert available()


@pytest.mark.parametrize("compute_capability", CAPABILITIES)
@pytest.mark.parametrize("folder", available(), ids=lambda folder: folder.name)
def test_every_graph_builds_for_every_gpu(folder: Path, compute_capability: int, rtx: Library) -> None:
    gate, *models = package_graphs(ModelPackage.open(folder))
    for graph in (gate, *models) if folder == available()[0] else models:  # one gate goes with all
        build(graph, rtx, compute_capability)


def build(graph: Graph, rtx: Library, compute_capability: int = 89) -> bytes:
    profile = BatchProfile.up_to(8)
    built = build_plan(graph, library=rtx, profile=profile, compute_capability=compute_capability)
    assert len(built.plan) > 1000
    return built.plan


@pytest.mark.parametrize("compute_capability", CAPABILITIES)
def test_an_operator_beyond_the_limits_is_named(
    make_graph: MakeGraph, rtx: Library, compute_capability: int
) -> None:
    with pytest.raises(PlanError, match=r"made\.onnx .*largest_8001.*3840"):
        build(make_graph(TOO_LARGE_TOPK), rtx, compute_capability)


def test_an_operator_it_does_not_know_is_named(make_graph: MakeGraph, rtx: Library) -> None:
    graph = make_graph([helper.make_node("Det", ["c"], ["x"], "determinant")])
    with pytest.raises(PlanError, match=r"operator Det of node determinant"):
        build(graph, rtx)


def test_a_float32_matrix_product_is_refused_for_turing_only(make_graph: MakeGraph, rtx: Library) -> None:
    graph = make_graph([helper.make_node("MatMul", ["c", "c"], ["x"], "product")])
    build(graph, rtx, 80)
    with pytest.raises(PlanError, match=r"product.*FP32 GEMM"):
        build(graph, rtx, 75)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_name": "image"}, r"inputs \['image'\], not \['radiograph'\]"),
        ({"channels": 2}, r"radiograph has shape \(-1, 2, 128, 128\), not \(n, 1, 128, 128\)"),
        ({"batch": 4}, r"radiograph has shape \(4, 1, 128, 128\).*open batch"),
        ({"output_type": TensorProto.FLOAT16}, "score is not float32"),
    ],
)
def test_a_graph_off_the_contract_is_refused_before_the_build(
    change: dict[str, object], message: str, make_graph: MakeGraph, rtx: Library
) -> None:
    with pytest.raises(PlanError, match=message):
        build(make_graph(**change), rtx)


def test_a_missing_output_is_refused(make_graph: MakeGraph, rtx: Library) -> None:
    graph = make_graph()
    graph.outputs["novelty"] = ()
    with pytest.raises(PlanError, match=r"outputs \['score'\], not \['novelty', 'score'\]"):
        build(graph, rtx)


def test_a_capability_that_cannot_be_built_for_lists_those_that_can(
    make_graph: MakeGraph, rtx: Library
) -> None:
    with pytest.raises(PlanError, match=r"compute capability 90 is not one of \[75, 80, 86, 89, 120"):
        build(make_graph(), rtx, 90)


def test_what_is_not_onnx_is_refused(make_graph: MakeGraph, rtx: Library) -> None:
    graph = make_graph()
    graph.path.write_bytes(b"not a graph")
    with pytest.raises(PlanError, match=r"made\.onnx is refused"):
        build(graph, rtx)


def test_an_error_does_not_follow_into_the_next_build(make_graph: MakeGraph, rtx: Library) -> None:
    with pytest.raises(PlanError, match="largest"):
        build(make_graph(TOO_LARGE_TOPK), rtx)
    with pytest.raises(PlanError, match=r"determinant") as second:
        build(make_graph([helper.make_node("Det", ["c"], ["x"], "determinant")]), rtx)
    assert "largest" not in str(second.value)


@pytest.mark.parametrize(("maximum", "typical"), [(1, 1), (2, 1), (8, 4), (64, 32)])
def test_the_typical_batch_is_half_of_the_maximum(maximum: int, typical: int) -> None:
    assert BatchProfile.up_to(maximum) == BatchProfile(typical=typical, maximum=maximum)


@pytest.mark.parametrize(("typical", "maximum"), [(0, 1), (5, 4), (0, 0)])
def test_impossible_batches_are_refused(typical: int, maximum: int) -> None:
    with pytest.raises(ValueError, match="1 <= typical <= maximum"):
        BatchProfile(typical=typical, maximum=maximum)


def test_an_unsupported_operator_fails_the_test_of_the_shipped_packages(tmp_path: Path, rtx: Library) -> None:
    """The shipped package with one node more: a determinant, which no TensorRT takes."""
    folder = tmp_path / "package"
    shutil.copytree(PACKAGES / "synthetic-defects", folder)
    model = onnx.load(folder / "model.onnx")
    made = ["determinant", "per_radiograph"]
    model.graph.node.insert(0, helper.make_node("Det", ["radiograph"], made[:1], "determinant_of_grey"))
    model.graph.node.insert(1, helper.make_node("ReduceMax", made[:1], made[1:], axes=[1], keepdims=0))
    (score,) = [node for node in model.graph.node if "score" in node.output]
    score.output[list(score.output).index("score")] = "score_before"
    model.graph.node.append(helper.make_node("Add", ["score_before", made[1]], ["score"]))
    for node in model.graph.node:
        node.input[:] = ["score_before" if name == "score" else name for name in node.input]
    onnx.save(model, folder / "model.onnx")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files_sha256"]["model.onnx"] = sha256(folder / "model.onnx")
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(PlanError, match="determinant_of_grey"):
        test_every_graph_builds_for_every_gpu(folder, 89, rtx)
