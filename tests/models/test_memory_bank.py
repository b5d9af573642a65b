"""The memory bank: the student learns what its teacher says, and the bank finds what no normal shows."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from models.geometry import GeometrySpec
from models.package import ModelPackage
from models.train.data import Inputs, load_inputs
from models.train.distil import FEATURES, Student, StudentConfig, Whitening
from models.train.golden import golden_inputs
from models.train.memory_bank import MemoryBank, build_bank, see
from models.train.memory_bank_run import BankConfig, WhitenedTeacher, distil, export_memory_bank
from models.train.run_folder import claim
from models.train.sources import read_source
from tests.models.limbs import write_fracatlas

TINY = BankConfig(
    name="memory-bank",
    seed=3,
    steps=24,  # fewer leave features so alike that rounding counts
    input_px=128,
    crop_px=64,
    batch=2,
    checkpoint_every=4,
    student=StudentConfig(widths=(4, 8, 8, 8, 8), up=8),
)

export_warnings = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


class Plain(nn.Module):
    """Features without training: the picture's own cells."""

    def forward(self, root: Tensor, mask: Tensor) -> Tensor:
        return nn.functional.pixel_unshuffle(root * mask, 8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fracatlas(tmp_path_factory.mktemp("data") / "fracatlas")


@pytest.fixture(scope="module")
def normals(data: Path) -> Inputs:
    chosen = [sample for sample in read_source(data) if sample.split == "train"]
    return load_inputs(chosen, input_px=128, spec=GeometrySpec())


def test_the_teacher_is_whitened_and_the_student_has_its_shape(normals: Inputs) -> None:
    teacher = WhitenedTeacher()
    teacher.fit(normals, list(range(8)))
    radiograph = torch.from_numpy(normals.batch([0]))
    root, mask = radiograph[:, :1].sqrt(), radiograph[:, 1:]
    wanted = teacher(root, mask)
    assert wanted.shape == Student(TINY.student).eval()(root, mask).shape == (1, FEATURES, 16, 16)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_whitening_makes_unit_variance() -> None:
    vectors = torch.randn(4000, 80, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 81)
    whitening = Whitening(80)
    whitening.fit(vectors)
    found = whitening(vectors.T.reshape(1, 80, 40, 100)).flatten(2)[0]
    assert torch.allclose(torch.cov(found), torch.eye(FEATURES), atol=1e-3)


@export_warnings
def test_it_resumes_exactly_and_exports_what_it_trained(data: Path, normals: Inputs, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(step: int, _: dict[str, float]) -> None:
        if step == 5:
            raise Killed

    folder = tmp_path / "run"
    claim(folder, asdict(TINY), resume=False)
    with pytest.raises(Killed):
        distil(TINY, normals, folder, report=kill)
    resumed = distil(TINY, normals, folder, report=lambda *_: None)
    (tmp_path / "whole").mkdir()
    whole = distil(TINY, normals, tmp_path / "whole", report=lambda *_: None)
    for one, other in zip(resumed.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(one, other)

    package = ModelPackage.open(export_memory_bank(folder, data=data, package=tmp_path / "package"))
    assert package.manifest.evaluation["training"]["steps"] == TINY.steps
    session = onnxruntime.InferenceSession(package.folder / "model.onnx", providers=["CPUExecutionProvider"])
    golden = np.load(package.folder / "golden.npz")
    names = ["score", "novelty", "anomaly_map"]
    together = session.run(names, {"radiograph": golden["radiograph"]})
    alone = session.run(names, {"radiograph": golden["radiograph"][2:3]})
    for name, found, one in zip(names, together, alone, strict=True):
        assert np.abs(found - golden[name]).max() <= package.manifest.golden.tolerance
        assert np.allclose(one[0], found[2], atol=1e-4)
    refused = {"Sort", "NonZero", "Loop", "If", "MatMul", "Gemm"}
    assert not refused & {node.op_type for node in onnx.load(package.folder / "model.onnx").graph.node}


def test_no_normal_is_compared_with_its_own_group(normals: Inputs) -> None:
    """Twins in one group look as unusual as either alone would; in two groups they are each other's match."""
    twins = [0, 0, *range(1, 8)]
    for apart in (False, True):
        samples = tuple(
            replace(normals.samples[index], group=f"{index}-{apart and place}")
            for place, index in enumerate(twins)
        )
        pair = Inputs(
            samples=samples,
            tensors=normals.tensors[twins],
            geometries=tuple(normals.geometries[index] for index in twins),
        )
        _, held_out = build_bank(see(Plain(), pair), rows=3000)
        if apart:
            assert held_out.score[0] < 0.5 * held_out.score[2:].mean()
        else:
            assert held_out.score[0] > 0.5 * held_out.score[2:].mean()


def test_the_map_points_at_what_no_normal_shows(normals: Inputs) -> None:
    bank, _ = build_bank(see(Plain(), normals), rows=1500)
    model = MemoryBank(Plain(), bank).eval()
    radiograph = torch.from_numpy(golden_inputs(128, 20)[19:]).clone()
    with torch.no_grad():
        before = model(radiograph)
        radiograph[0, 0, 60:76, 60:76] = (
            torch.linspace(0, 1, 16).repeat(16, 1) * radiograph[0, 1, 60:76, 60:76]
        )
        after = model(radiograph)
    assert after.score > before.score
    row, column = divmod(int(after.anomaly_map[0].argmax()), 16)
    assert 7 <= row <= 9
    assert 7 <= column <= 9
    assert float(after.anomaly_map.max()) == pytest.approx(float(after.score), rel=1e-4)
    assert float(after.novelty) > 0
