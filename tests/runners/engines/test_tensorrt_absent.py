"""A machine without a GPU, or without TensorRT, says so in words and leaves nothing behind."""

import sys
from collections.abc import Callable

import pytest

from runners.engines.cuda import GpuError, find_gpu
from runners.engines.graph import Graph
from runners.engines.plan_builder import BatchProfile, build_plan
from runners.engines.tensorrt import TensorRtEngine
from runners.engines.tensorrt_library import Library, PlanError, installed_library


@pytest.fixture(scope="module")
def without_gpu() -> str:
    """Why there is none; skips where there is one."""
    try:
        pytest.skip(f"{find_gpu().name} is here")
    except GpuError as error:
        return str(error)


def test_the_reason_is_given(without_gpu: str) -> None:
    assert "driver" in without_gpu or "device" in without_gpu


def test_a_plan_does_not_open(without_gpu: str, make_graph: Callable[..., Graph], rtx: Library) -> None:
    graph, profile = make_graph(), BatchProfile.up_to(2)
    built = build_plan(graph, library=rtx, profile=profile, compute_capability=89)
    with pytest.raises(GpuError, match="cudaSetDevice"):
        TensorRtEngine(built.plan, graph=graph, profile=profile, library=rtx)


def test_without_the_bindings_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(GpuError, match=r"pip install 'skiagraph\[gpu\]'"):
        find_gpu()


def test_without_a_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", None)
    with pytest.raises(PlanError, match=r"pip install 'skiagraph\[gpu\]'"):
        installed_library()


def test_tensorrt_rtx_serves_where_tensorrt_is_missing(monkeypatch: pytest.MonkeyPatch, rtx: Library) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert installed_library() == rtx
