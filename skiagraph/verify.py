"""Whether a package computes what it did when it was made: every graph on every engine of this machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.package import Golden, ModelPackage
from runners.engines.base import Engine
from runners.engines.graph import HALF_PRECISION, Graph, gate_graph, package_graphs
from runners.engines.onnxruntime_cpu import OnnxRuntimeCpu
from runners.engines.parity import measure


@dataclass(frozen=True, kw_only=True)
class Check:
    what: str
    holds: bool
    detail: str


def verify_package(folder: Path) -> Iterator[Check]:
    """One check a graph and engine; raises PackageError when a file is damaged."""
    package = ModelPackage.open(folder)
    manifest = package.manifest
    yield Check(
        what=f"{manifest.name} {manifest.version}",
        holds=True,
        detail=f"{len(manifest.files_sha256)} files as their sha256 says",
    )
    gate = gate_graph(package).path
    for graph in package_graphs(package):
        golden = manifest.gate_golden if graph.path == gate else manifest.golden
        with OnnxRuntimeCpu(graph.content(), threads=1, precision=graph.precision) as engine:
            yield _parity(engine, package, golden, graph)
    yield from _plans(package)
    yield from _on_a_gpu(package)


def _parity(engine: Engine, package: ModelPackage, golden: Golden, graph: Graph) -> Check:
    parity = measure(engine, package.folder, golden, input_name=graph.input_name)
    detail = f"deviates by {parity.deviation:.2g}, tolerance {parity.tolerance:.2g}"
    optional = graph.precision == HALF_PRECISION and not parity.holds
    return Check(
        what=f"{graph.path.name} {graph.precision}, {engine.name}",
        holds=parity.holds or optional,
        detail=f"{detail}: single precision is used" if optional else detail,
    )


def _plans(package: ModelPackage) -> Iterator[Check]:
    """Each graph through the builder of TensorRT-RTX for every GPU generation, where it is installed."""
    from runners.engines.plan_builder import COMPUTE_CAPABILITIES, BatchProfile, build_plan
    from runners.engines.tensorrt_library import PlanError, tensorrt_rtx

    try:
        library = tensorrt_rtx()
    except PlanError as error:
        yield Check(what="tensorrt-rtx", holds=True, detail=f"not checked: {error}")
        return
    for graph in package_graphs(package):
        what = f"{graph.path.name} {graph.precision}, {library.name}"
        try:
            for capability in COMPUTE_CAPABILITIES:
                build_plan(
                    graph, library=library, profile=BatchProfile.up_to(8), compute_capability=capability
                )
        except PlanError as error:
            yield Check(what=what, holds=False, detail=str(error))
        else:
            built = ", ".join(str(capability) for capability in COMPUTE_CAPABILITIES)
            yield Check(what=what, holds=True, detail=f"builds for compute capability {built}")


def _on_a_gpu(package: ModelPackage) -> Iterator[Check]:
    """The model on TensorRT, where there is a GPU and the library; the gate always runs on the CPU."""
    from runners.engines.cuda import GpuError, find_gpu
    from runners.engines.tensorrt_library import PlanError, installed_library

    try:
        gpu, library = find_gpu(), installed_library()
    except (GpuError, PlanError) as error:
        yield Check(what="tensorrt", holds=True, detail=f"not checked: {error}")
        return
    from runners.engines.tensorrt import open_tensorrt

    gate = gate_graph(package).path
    for graph in package_graphs(package):
        if graph.path == gate:
            continue
        with open_tensorrt(graph, library=library, gpu=gpu, maximum_batch=8, plan_cache=None) as engine:
            yield _parity(engine, package, package.manifest.golden, graph)
