"""Engine choice, the parity gate, and a package that cannot be trusted."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.package import MANIFEST, PACKAGES, ModelPackage, sha256
from runners.engines.base import Engine
from runners.engines.choose import EngineKind, EngineWish, choose, fall_back
from runners.engines.graph import Graph, model_graph
from runners.engines.onnxruntime_cpu import OnnxRuntimeCpu
from runners.engines.parity import measure
from runners.engines.tensorrt_library import PlanError
from runners.errors import RunnerError, RunnerFault
from runners.gatekeeper import Gatekeeper
from runners.loaded import LoadedModel, fastest_in_parity, open_packages
from skiagraph.settings.service import ServiceSettings

SHIPPED = PACKAGES / "synthetic-defects"


@pytest.mark.parametrize(
    ("wish", "why_no_gpu", "kind", "fallback"),
    [
        (EngineWish.AUTO, None, EngineKind.TENSORRT, False),
        (EngineWish.AUTO, "there is no driver", EngineKind.CPU, False),
        (EngineWish.TENSORRT, None, EngineKind.TENSORRT, False),
        (EngineWish.TENSORRT, "there is no driver", EngineKind.CPU, True),
        (EngineWish.CPU, None, EngineKind.CPU, False),
        (EngineWish.CPU, "there is no driver", EngineKind.CPU, False),
    ],
)
def test_choice_of_the_engine(
    wish: EngineWish, why_no_gpu: str | None, kind: EngineKind, fallback: bool
) -> None:
    choice = choose(wish, why_no_gpu=why_no_gpu)
    assert (choice.kind, choice.fallback) == (kind, fallback)
    assert why_no_gpu is None or wish is EngineWish.CPU or why_no_gpu in choice.reason


def test_a_refused_tensorrt_falls_back_and_says_why() -> None:
    choice = fall_back("score is off by 3")
    assert (choice.kind, choice.fallback) == (EngineKind.CPU, True)
    assert "off by 3" in choice.reason


def altered(folder: Path, **manifest: object) -> Path:
    """A copy of the shipped package with other manifest entries."""
    package = folder / "package"
    shutil.copytree(SHIPPED, package)
    path = package / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | manifest))
    return package


def test_shipped_package_is_in_parity_and_reports_its_engine() -> None:
    package = ModelPackage.open(SHIPPED)
    with LoadedModel(package, ServiceSettings()) as model:
        assert model.report.engine == "onnxruntime"
        assert model.report.parity <= package.manifest.golden.tolerance
        assert model.report.seconds_per_radiograph > 0
    with pytest.raises(ValueError, match="closed"):
        model.infer(np.zeros((1, 2, package.manifest.input_px, package.manifest.input_px), np.float32))


def test_golden_outputs_the_engine_does_not_reach_are_a_fault(tmp_path: Path) -> None:
    with np.load(SHIPPED / "golden.npz") as arrays:
        golden = dict(arrays)
    golden["score"] = golden["score"] + 1
    package = altered(tmp_path)
    np.savez(package / "golden.npz", **golden)
    entries = json.loads((package / MANIFEST).read_text())
    entries["files_sha256"]["golden.npz"] = sha256(package / "golden.npz")
    (package / MANIFEST).write_text(json.dumps(entries))
    with pytest.raises(RunnerFault, match=r"score is off by 1\b.*restore the package"):
        LoadedModel(ModelPackage.open(package), ServiceSettings())


def on_the_cpu(graph: Graph) -> Engine:
    return OnnxRuntimeCpu(graph.content(), threads=1, precision=graph.precision)


def test_half_precision_is_taken_where_it_is_in_parity() -> None:
    engine, parity = fastest_in_parity(ModelPackage.open(SHIPPED), on_the_cpu)
    with engine:
        assert engine.precision == "fp16"
        assert 1e-5 < parity.deviation <= 0.005


def test_single_precision_is_taken_where_half_is_refused_or_out_of_parity(tmp_path: Path) -> None:
    def refuses_half(graph: Graph) -> Engine:
        if graph.precision == "fp16":
            raise PlanError("no half precision here")
        return on_the_cpu(graph)

    with fastest_in_parity(ModelPackage.open(SHIPPED), refuses_half)[0] as engine:
        assert engine.precision == "fp32"

    strict = altered(tmp_path, golden={"file": "golden.npz", "tolerance": 1e-4})
    with fastest_in_parity(ModelPackage.open(strict), on_the_cpu)[0] as engine:
        assert engine.precision == "fp32"


def test_where_neither_precision_runs_both_reasons_are_told(tmp_path: Path) -> None:
    package = altered(tmp_path, golden={"file": "golden.npz", "tolerance": 0.0})
    with pytest.raises(RunnerError, match=r"fp16: .*fp32: "):
        fastest_in_parity(ModelPackage.open(package), on_the_cpu)


def test_parity_of_something_not_finite_does_not_hold() -> None:
    class Broken(OnnxRuntimeCpu):
        """A real engine whose novelty comes out as NaN."""

        def infer(self, batch: np.ndarray) -> dict[str, np.ndarray]:
            return {**super().infer(batch), "novelty": np.full(len(batch), np.nan, np.float32)}

    package = ModelPackage.open(SHIPPED)
    with Broken(model_graph(package).path, threads=1) as engine:
        parity = measure(engine, package.folder, package.manifest.golden, input_name="radiograph")
    assert not parity.holds
    assert parity.output == "novelty"


def test_damaged_graph_is_a_fault_that_names_the_file(tmp_path: Path) -> None:
    package = altered(tmp_path)
    (package / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(RunnerFault, match=r"model\.onnx is damaged"):
        open_packages(ServiceSettings(model=str(package)))


def test_gate_out_of_parity_is_a_fault(tmp_path: Path) -> None:
    package = altered(tmp_path, gate_golden={"file": "gate_golden.npz", "tolerance": -1.0})
    with pytest.raises(RunnerFault, match="gate"):
        Gatekeeper(ModelPackage.open(package))


def test_several_packages_side_by_side(tmp_path: Path) -> None:
    other = altered(tmp_path, name="other")
    packages = open_packages(ServiceSettings(also_models=(str(other),)))
    assert list(packages) == ["synthetic-defects", "other"]


def test_a_batch_is_the_same_as_one_by_one() -> None:
    package = ModelPackage.open(SHIPPED)
    with np.load(SHIPPED / "golden.npz") as arrays:
        inputs = np.concatenate([arrays["radiograph"]] * 2)
    with LoadedModel(package, ServiceSettings()) as model:
        together = model.infer(inputs)
        alone = [model.infer(inputs[place : place + 1])[0] for place in range(len(inputs))]
    for one, other in zip(together, alone, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert np.allclose(one.anomaly_map, other.anomaly_map, atol=1e-3)
