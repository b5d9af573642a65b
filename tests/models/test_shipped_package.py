"""The packages that are shipped: trusted, small, reproducible, and one radiograph at a time."""

import numpy as np
import onnx
import onnxruntime
import pytest

from models.package import PACKAGES, ModelPackage, available

NAMES = ["score", "novelty", "anomaly_map"]


@pytest.fixture(scope="module", params=available(), ids=lambda folder: folder.name)
def package(request: pytest.FixtureRequest) -> ModelPackage:
    return ModelPackage.open(request.param)


@pytest.fixture(scope="module")
def session(package: ModelPackage) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        package.folder / "model.onnx", options, providers=["CPUExecutionProvider"]
    )


def test_the_golden_outputs_are_reproduced(
    package: ModelPackage, session: onnxruntime.InferenceSession
) -> None:
    golden = np.load(package.folder / package.manifest.golden.file)
    for name, found in zip(NAMES, session.run(NAMES, {"radiograph": golden["radiograph"]}), strict=True):
        assert np.abs(found - golden[name]).max() <= package.manifest.golden.tolerance


def test_a_score_does_not_depend_on_batch_mates(
    package: ModelPackage, session: onnxruntime.InferenceSession
) -> None:
    radiographs = np.load(package.folder / package.manifest.golden.file)["radiograph"]
    order = [3, 0, 2, 1]
    together = session.run(NAMES, {"radiograph": radiographs})
    shuffled = session.run(NAMES, {"radiograph": radiographs[order]})
    for index in range(len(radiographs)):
        alone = session.run(NAMES, {"radiograph": radiographs[index : index + 1]})
        for one, plain, mixed in zip(alone, together, shuffled, strict=True):
            assert np.allclose(one[0], plain[index], atol=1e-4)
            assert np.allclose(one[0], mixed[order.index(index)], atol=1e-4)


def test_the_graph_is_one_that_tensorrt_builds(package: ModelPackage) -> None:
    """No Sort, no large TopK, a dynamic batch and nothing else dynamic, at most 15 MB."""
    path = package.folder / "model.onnx"
    assert path.stat().st_size <= 15_000_000
    graph = onnx.load(path).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        assert node.op_type not in {"Sort", "NonZero", "Loop", "If", "Unique"}
        if node.op_type == "TopK":
            assert int(constants[node.input[1]].item()) <= 3840
    (given,) = graph.input
    sizes = [dim.dim_value for dim in given.type.tensor_type.shape.dim]
    side = package.manifest.input_px
    assert sizes == [0, 2, side, side]
    assert [output.name for output in graph.output] == NAMES


def test_all_packages_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in PACKAGES.rglob("*") if path.is_file()) <= 50 * 2**20


def test_the_calibration_is_in_order(package: ModelPackage) -> None:
    manifest = package.manifest
    assert "FracAtlas" in manifest.training_data
    assert "CC BY 4.0" in manifest.training_data
    calibration = manifest.calibration
    assert calibration.normals >= 50
    assert list(calibration.score_quantiles) == sorted(calibration.score_quantiles)
    assert calibration.score_quantiles[0] < calibration.score_quantiles[-1]
    assert calibration.map_floor < calibration.region_threshold < calibration.map_ceiling
    thresholds = [point.threshold for point in manifest.operating_points]
    assert thresholds == sorted(thresholds)
    assert manifest.operating_point().specificity == 0.95


def test_the_manifest_of_the_default_says_how_it_did() -> None:
    manifest = ModelPackage.open(PACKAGES / "synthetic-defects").manifest
    assert manifest.calibration.normals >= 200
    subset = manifest.evaluation["subsets"]["PA only, no cast or hardware"]["systems"]
    assert {"score", "control: random weights"} <= set(subset)
    assert "score_minus_this" in subset["control: random weights"]
