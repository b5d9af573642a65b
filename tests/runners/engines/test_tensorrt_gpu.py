"""TensorRT on a real GPU: `make test-gpu`. Skipped, and not run in CI, where there is none."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.package import ModelPackage, available, sha256
from runners.engines.cuda import Gpu, GpuError, find_gpu, free_memory_bytes
from runners.engines.graph import Graph, model_graph, package_graphs
from runners.engines.onnxruntime_cpu import OnnxRuntimeCpu
from runners.engines.parity import measure
from runners.engines.plan_builder import BatchProfile, Built, build_plan
from runners.engines.plan_cache import PlanCache, PlanKey
from runners.engines.tensorrt import TensorRtEngine, open_tensorrt, target_of
from runners.engines.tensorrt_library import Library, PlanError, installed_library
from runners.loaded import LoadedModel
from skiagraph.settings.service import ServiceSettings

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]  # a first build takes minutes on some GPUs
MAXIMUM = 8
MIB = 1 << 20


@pytest.fixture(scope="module")
def gpu() -> Gpu:
    try:
        return find_gpu()
    except GpuError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def library(gpu: Gpu) -> Library:
    try:
        return installed_library()
    except PlanError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the module, so that each graph is built once."""
    return tmp_path_factory.mktemp("plans")


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    return ModelPackage.open(available()[0])


@pytest.fixture
def engine(package: ModelPackage, library: Library, gpu: Gpu, plans: Path) -> Iterator[TensorRtEngine]:
    with open_engine(model_graph(package), library, gpu, plans) as engine:
        yield engine


def open_engine(graph: Graph, library: Library, gpu: Gpu, plans: Path) -> TensorRtEngine:
    return open_tensorrt(graph, library=library, gpu=gpu, maximum_batch=MAXIMUM, plan_cache=plans)


def golden_input(package: ModelPackage) -> np.ndarray:
    with np.load(package.folder / package.manifest.golden.file) as arrays:
        return np.asarray(arrays["radiograph"], np.float32)


@pytest.mark.parametrize("folder", available(), ids=lambda folder: folder.name)
def test_every_shipped_graph_is_in_parity(folder: Path, library: Library, gpu: Gpu, plans: Path) -> None:
    package = ModelPackage.open(folder)
    manifest = package.manifest
    for graph in package_graphs(package):
        golden = manifest.gate_golden if graph.input_name == "thumbnail" else manifest.golden
        with open_engine(graph, library, gpu, plans) as engine:
            parity = measure(engine, folder, golden, input_name=graph.input_name)
        assert parity.holds or graph.precision == "fp16", f"{graph.path.name}: {parity}"


def test_batches_answer_as_one_by_one(engine: TensorRtEngine, package: ModelPackage) -> None:
    radiographs = np.resize(golden_input(package), (MAXIMUM + 3, 2, *[package.manifest.input_px] * 2))
    together = engine.infer(radiographs)
    for index, radiograph in enumerate(radiographs):
        alone = engine.infer(radiograph[np.newaxis])
        for name, values in alone.items():
            tolerance = package.manifest.golden.tolerance
            np.testing.assert_allclose(together[name][index], values[0], atol=tolerance)


def test_answers_do_not_change_under_the_caller(engine: TensorRtEngine, package: ModelPackage) -> None:
    radiographs = golden_input(package)[:1]
    first = engine.infer(radiographs)
    kept = {name: values.copy() for name, values in first.items()}
    engine.infer(np.zeros_like(radiographs))
    for name, values in kept.items():
        np.testing.assert_array_equal(first[name], values)


def test_a_wrong_shape_is_refused(engine: TensorRtEngine) -> None:
    with pytest.raises(ValueError, match="radiograph"):
        engine.infer(np.zeros((1, 1, 8, 8), np.float32))


def test_closing_gives_the_memory_back(
    package: ModelPackage, library: Library, gpu: Gpu, plans: Path
) -> None:
    radiographs = golden_input(package)
    free = []
    for _ in range(6):
        with open_engine(model_graph(package), library, gpu, plans) as engine:
            engine.infer(radiographs)
            engine.close()
        free.append(free_memory_bytes())
    # The first round loads the library's kernels, which stay for the life of the process.
    assert min(free[1:]) >= free[0] - 8 * MIB, [round(value / MIB) for value in free]
    with pytest.raises(GpuError, match="closed"):
        engine.infer(radiographs)


def test_a_plan_is_used_again_and_a_damaged_one_built_again(
    package: ModelPackage, library: Library, gpu: Gpu, tmp_path: Path
) -> None:
    graph = model_graph(package)
    open_engine(graph, library, gpu, tmp_path).close()
    (path,) = tmp_path.glob("*.plan")
    first = path.stat()
    open_engine(graph, library, gpu, tmp_path).close()
    assert path.stat().st_mtime_ns == first.st_mtime_ns

    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    for times in tmp_path.glob("kernel-times-*"):
        times.write_bytes(b"of another version")
    open_engine(graph, library, gpu, tmp_path).close()
    assert bytes(content) != path.read_bytes()


def key_of(graph: Graph, library: Library, gpu: Gpu) -> PlanKey:
    return PlanKey.of(graph, library, target_of(gpu, library), BatchProfile.up_to(MAXIMUM))


def test_a_plan_that_does_not_load_is_built_again(
    package: ModelPackage, library: Library, gpu: Gpu, tmp_path: Path
) -> None:
    graph = model_graph(package)
    PlanCache(folder=tmp_path).get(key_of(graph, library, gpu), lambda _: Built(plan=b"no plan at all"))
    with open_engine(graph, library, gpu, tmp_path) as engine:
        assert measure(engine, package.folder, package.manifest.golden, input_name=graph.input_name).holds


def test_a_plan_out_of_parity_is_refused_and_the_cpu_takes_over(
    package: ModelPackage, library: Library, gpu: Gpu, tmp_path: Path
) -> None:
    for graph in package_graphs(package)[1:]:
        wrong = tmp_path / "wrong.onnx"
        _double_a_weight(graph.path, wrong)
        other = Graph(**{**vars(graph), "path": wrong, "sha256": sha256(wrong)})
        profile = BatchProfile.up_to(MAXIMUM)
        built = build_plan(other, library=library, profile=profile, compute_capability=gpu.compute_capability)
        PlanCache(folder=tmp_path / "plans").get(key_of(graph, library, gpu), lambda _, built=built: built)
    settings = ServiceSettings(plan_cache=tmp_path / "plans", max_batch_size=MAXIMUM)
    with LoadedModel(package, settings) as model:
        assert model.report.engine == "onnxruntime"
        assert model.report.fallback
        assert "tolerance" in model.report.reason


def _double_a_weight(source: Path, destination: Path) -> None:
    model = onnx.load(source)
    kernels = [constant for constant in model.graph.initializer if len(constant.dims) == 4]
    kernels[-1].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernels[-1]) * 2, kernels[-1].name))
    onnx.save(model, destination)


def test_it_is_faster_than_the_cpu(engine: TensorRtEngine, package: ModelPackage) -> None:
    radiographs = np.resize(golden_input(package), (MAXIMUM, 2, *[package.manifest.input_px] * 2))
    with OnnxRuntimeCpu(model_graph(package).path, threads=2) as cpu:
        on_cpu = _radiographs_per_second(cpu, radiographs, rounds=2)
    on_gpu = _radiographs_per_second(engine, radiographs, rounds=50)
    print(f"radiographs/s: {on_gpu:.0f} on the GPU, {on_cpu:.0f} on two cores")
    assert on_gpu > 3 * on_cpu


def _radiographs_per_second(
    engine: TensorRtEngine | OnnxRuntimeCpu, radiographs: np.ndarray, *, rounds: int
) -> float:
    engine.infer(radiographs)
    started = time.perf_counter()
    for _ in range(rounds):
        engine.infer(radiographs)
    return rounds * len(radiographs) / (time.perf_counter() - started)
