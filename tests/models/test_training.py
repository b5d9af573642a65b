"""Training on tiny drawn data: it learns, it resumes exactly, it exports what it evaluates."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from models.package import PACKAGES, ModelPackage
from models.train import commands
from models.train.data import read_fracatlas
from models.train.errors import DataError, RunError, TrainError
from models.train.evaluate import evaluate_package
from models.train.export import export_run
from models.train.model_card import model_card
from models.train.network import NetworkConfig
from models.train.package_writer import replace_gate
from models.train.run import RunConfig, load_members, train_run, training_data, untrained_members
from models.train.trainer import learning_rate, train_member
from tests.models.limbs import write_fracatlas

TINY = RunConfig(
    name="synthetic-defects",
    seed=3,
    steps=12,
    members=1,
    input_px=128,
    network=NetworkConfig(widths=(4, 8, 8, 8, 8)),
    batch=4,
    crop_px=64,
    checkpoint_every=5,
)

# torch's exporter warns about itself.
export_warnings = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fracatlas(tmp_path_factory.mktemp("data") / "fracatlas")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    train_run(TINY, data=data, folder=folder, resume=False)
    return folder


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped gate, laid out as the gate's own training leaves it."""
    shipped = ModelPackage.open(PACKAGES / "synthetic-defects")
    folder = tmp_path_factory.mktemp("gate")
    for name in ("gate.onnx", "gate_golden.npz"):
        (folder / name).write_bytes((shipped.folder / name).read_bytes())
    (folder / "gate.json").write_text(shipped.manifest.gate.model_dump_json(), encoding="utf-8")
    return folder


def weights(run: Path, config: RunConfig = TINY) -> torch.Tensor:
    members = load_members(run, config)
    return torch.cat(
        [value.float().flatten() for member in members for value in member.state_dict().values()]
    )


def test_resuming_gives_the_weights_of_not_stopping(data: Path, run: Path, tmp_path: Path) -> None:
    """Stopped between two checkpoints, as a killed process is: the steps since the last one are repeated."""

    class Killed(Exception):
        pass

    def kill(step: int, _: dict[str, float]) -> None:
        if step == 8:
            raise Killed

    folder = tmp_path / "killed"
    training = training_data(data, input_px=TINY.input_px)
    with pytest.raises(Killed):
        train_member(TINY.member(0), training, folder / "member0", report=kill)
    (folder / "run.json").write_text((run / "run.json").read_text(encoding="utf-8"), encoding="utf-8")
    train_run(TINY, data=data, folder=folder, resume=True)
    assert torch.equal(weights(run), weights(folder))


def test_members_differ_by_their_seed(data: Path, tmp_path: Path) -> None:
    pair = replace(TINY, steps=2, members=2)
    train_run(pair, data=data, folder=tmp_path / "pair", resume=False)
    one, other = load_members(tmp_path / "pair", pair)
    assert not torch.equal(one.head.weight, other.head.weight)


def test_a_run_is_not_overwritten_and_not_continued_as_another(data: Path, run: Path) -> None:
    with pytest.raises(RunError, match="--resume"):
        train_run(TINY, data=data, folder=run, resume=False)
    with pytest.raises(RunError, match="--steps"):
        train_run(replace(TINY, steps=99), data=data, folder=run, resume=True)


def test_the_loss_falls(data: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    config = replace(TINY, steps=60, checkpoint_every=100).member(0)
    train_member(
        config,
        training_data(data, input_px=128),
        tmp_path,
        report=lambda _, values: losses.append(values["loss"]),
    )
    assert np.mean(losses[-15:]) < np.mean(losses[:15]) - 0.05


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_a_gpu_trains_and_what_it_trained_loads_without_one(data: Path, tmp_path: Path) -> None:
    train_run(TINY, data=data, folder=tmp_path / "run", resume=False)
    assert torch.cuda.max_memory_allocated() > 0
    trained = weights(tmp_path / "run")
    assert trained.device.type == "cpu"
    assert torch.isfinite(trained).all()


def test_the_learning_rate_warms_up_and_cools_down() -> None:
    config = replace(TINY, steps=1000).member(0)
    rates = [learning_rate(step, config) for step in range(1000)]
    assert rates[0] == config.learning_rate / config.warm_up
    assert max(rates) == config.learning_rate
    assert rates[-1] < 0.02 * config.learning_rate


@export_warnings
def test_what_is_exported_is_what_was_trained(data: Path, run: Path, gate: Path, tmp_path: Path) -> None:
    """The graph answers as the reference does, each row on its own, and the evaluation of it makes a page."""
    folder = export_run(run, data=data, package=tmp_path / "package", gate=gate)
    package = ModelPackage.open(folder)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    golden = np.load(folder / "golden.npz")
    radiographs = golden["radiograph"]
    names = ["score", "novelty", "anomaly_map"]
    together = session.run(names, {"radiograph": radiographs})
    for name, found in zip(names, together, strict=True):
        assert np.abs(found - golden[name]).max() <= package.manifest.golden.tolerance
    alone = session.run(names, {"radiograph": radiographs[2:3]})
    turned = session.run(names, {"radiograph": radiographs[::-1].copy()})
    for one, all_of_them, reverse in zip(alone, together, turned, strict=True):
        assert np.allclose(one[0], all_of_them[2], atol=1e-5)
        assert np.allclose(reverse[::-1], all_of_them, atol=1e-5)

    controls = [untrained_members(TINY), untrained_members(TINY, draw=1)]
    figures = evaluate_package(package, data=data, controls=controls).figures
    hand = figures["subsets"]["hand views"]
    assert (hand["normal"], hand["abnormal"]) == (3, 3)
    assert 0 <= hand["systems"]["score"]["auc"]["value"] <= 1
    assert figures["localisation"]["hand views"]["radiographs"] == 3
    assert len(figures["control_draws"]) == 2
    assert 0 < figures["localisation"]["hand views"]["chance"] < 0.2
    evaluated = package.manifest.model_copy(
        update={"evaluation": {**figures, "training": package.manifest.evaluation["training"]}}
    )
    assert json.loads(evaluated.model_dump_json())
    assert "| hand views (3 + 3) |" in model_card(evaluated)


def test_a_gate_can_be_replaced_alone(gate: Path, tmp_path: Path) -> None:
    package = shutil.copytree(PACKAGES / "synthetic-defects", tmp_path / "package")
    other = shutil.copytree(gate, tmp_path / "gate")
    record = json.loads((other / "gate.json").read_text(encoding="utf-8"))
    (other / "gate.json").write_text(json.dumps({**record, "statement": "another"}), encoding="utf-8")
    golden = dict(np.load(other / "gate_golden.npz"))
    np.savez(other / "gate_golden.npz", allow_pickle=False, **golden, seed=np.array(1))
    before = ModelPackage.open(package).manifest
    replace_gate(package, other)
    after = ModelPackage.open(package).manifest
    assert after.gate.statement == "another"
    assert after.files_sha256["gate_golden.npz"] != before.files_sha256["gate_golden.npz"]
    assert after.evaluation == before.evaluation


def test_only_normals_of_the_train_split_are_trained_on(data: Path) -> None:
    samples = read_fracatlas(data)
    assert {s.split for s in samples if s.abnormal} == {"val"}
    training = training_data(data, input_px=64)
    assert len(training.tensors) + len(training.unseen) == 16


def test_wrong_folders_and_names_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv|boxes\.csv"):
        read_fracatlas(tmp_path)
    with pytest.raises(RunError, match="training run"):
        commands.export(tmp_path, data=tmp_path, package=tmp_path)
    with pytest.raises(TrainError, match="synthetic-defects"):
        commands.train("nonesuch", data=tmp_path, out=tmp_path, steps=1, seed=0, resume=False)
