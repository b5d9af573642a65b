"""Trains and exports the memory bank: distil the teacher, fill the bank from normal hands, package both."""

import datetime
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.geometry import GeometrySpec
from models.package import Manifest
from models.train.calibrate import HeldOut, calibrate, operating_points
from models.train.data import Inputs, load_inputs, read_other_regions
from models.train.device import device, mixed_precision
from models.train.distil import Student, StudentConfig, Teacher, Whitening, distance
from models.train.errors import DataError, RunError
from models.train.evaluation_figures import CONTROL
from models.train.export import LICENCE, TOLERANCE, project_version, score, to_onnx
from models.train.golden import golden_inputs
from models.train.memory_bank import Features, MemoryBank, build_bank, see
from models.train.package_writer import GATE, Content, write_package
from models.train.run_folder import (
    Report,
    Stateful,
    append_curve,
    claim,
    read_config,
    reporting,
    restore_checkpoint,
    save_checkpoint,
)
from models.train.sources import is_fracatlas, read_source

BANK_TITLE = "Distance to patches of normal hands"
BANK_STEPS = 500
_FRACATLAS = (
    "FracAtlas (Abedeen, Rahman, Prottyasha, Ahmed, Chowdhury, Shatabda, Scientific Data 10, 521 (2023), "
    "doi:10.1038/s41597-023-02432-4, CC BY 4.0): hands, forearms and elbows of our train split, legs, hips "
    "and shoulders"
)
_TRAINING_DATA = (
    "Normal radiographs of {source}. A student network learned on them to reproduce features of "
    "EfficientNet-Lite0 (ImageNet, Apache-2.0), whose weights are not in the package. Nothing was trained "
    "on a fracture. The bank holds 1,500 feature vectors and 16×32-pixel thumbnails of the normal hands."
)
_HELD_OUT_HOW = "each compared with normals of other groups only; the student learned on all of them"
_FITTED_ON = 96  # radiographs from which the whitening is learned


@dataclass(frozen=True, kw_only=True)
class BankConfig:
    """Everything that, with the data, determines the weights."""

    name: str
    seed: int
    steps: int
    input_px: int = 384
    crop_px: int = 256
    batch: int = 8
    learning_rate: float = 2e-3
    checkpoint_every: int = 50
    student: StudentConfig = field(default_factory=StudentConfig)


class WhitenedTeacher(nn.Module):
    """What the student learns to say: (n, 64, h/8, w/8)."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = Teacher()
        self.whitening = Whitening(152)

    def forward(self, root: Tensor, mask: Tensor) -> Tensor:
        whitened: Tensor = self.whitening(self.teacher(root, mask))
        return whitened

    @torch.no_grad()
    def fit(self, inputs: Inputs, indices: list[int]) -> None:
        """Learn the whitening from what the masks of these radiographs show."""
        vectors = []
        for index in indices:
            radiograph = torch.from_numpy(inputs.batch([index]))
            mask = radiograph[:, 1:]
            features = self.teacher(radiograph[:, :1].sqrt(), mask)[0].flatten(1).T
            shown = F.interpolate(mask, scale_factor=1 / 8, mode="area").flatten() > 0.5
            vectors.append(features[shown][::4])
        self.whitening.fit(torch.cat(vectors))


def train_memory_bank(name: str, *, data: Path, folder: Path, steps: int, seed: int, resume: bool) -> None:
    """Distil the student of run `folder` on all normal radiographs."""
    config = BankConfig(name=name, seed=seed, steps=steps)
    claim(folder, asdict(config), resume=resume)
    normals = [s for s in read_source(data) if s.split == "train" and not s.abnormal]
    inputs = load_inputs([*normals, *read_other_regions(data)], input_px=config.input_px, spec=GeometrySpec())
    with reporting(folder) as begin:
        distil(config, inputs, folder, report=begin("student", config.steps))


def distil(config: BankConfig, inputs: Inputs, folder: Path, *, report: Report) -> Student:
    """Train to the end, from the checkpoint in `folder` if there is one; the student in eval mode."""
    where = device()
    torch.manual_seed(config.seed)
    student = Student(config.student).to(where)
    optimizer = torch.optim.AdamW(student.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    target = WhitenedTeacher()
    parts: dict[str, Stateful] = {
        "student": student,
        "optimizer": optimizer,
        "whitening": target.whitening,
    }
    checkpoint = folder / "checkpoint.pt"
    step = restore_checkpoint(checkpoint, asdict(config), parts)
    if step == 0:
        hands = [index for index, sample in enumerate(inputs.samples) if sample.is_hand]
        if not hands:
            raise DataError("there is no normal hand radiograph to learn from: see --data")
        target.fit(inputs, hands[:_FITTED_ON])
    target.to(where)
    student.train()
    while step < config.steps:
        # One generator per step: a resumed run draws what an unbroken one would have drawn.
        rng = np.random.default_rng([config.seed, step])
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        root, mask = _crops(inputs, config, rng, where)
        with mixed_precision(where):
            with torch.no_grad():
                wanted = target(root, mask)
            found = student(root, mask)
        loss = distance(found.float(), wanted.float(), mask)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        step += 1
        values = {"loss": float(loss.detach())}
        if step % config.checkpoint_every == 0 or step == config.steps:
            save_checkpoint(checkpoint, asdict(config), step, parts)
            append_curve(folder, step, values)
        report(step, values)
    return student.eval()


def export_memory_bank(run: Path, *, data: Path, package: Path, gate: Path = GATE) -> Path:
    """Write `package` from the checkpoint in `run`; gate: the folder with the gate to go with it."""
    values = read_config(run)
    student_config = StudentConfig(up=values["student"]["up"], widths=tuple(values["student"]["widths"]))
    config = BankConfig(**{**values, "student": student_config})
    student = Student(config.student).eval()
    steps = restore_checkpoint(run / "checkpoint.pt", asdict(config), {"student": student})
    if steps == 0:
        raise RunError(f"{run} has no checkpoint yet: train it first")
    spec = GeometrySpec()
    samples = read_source(data)
    model, held_out = _bank_of(student, _normal_hands(data, config.input_px), seed=config.seed)
    fractured = [
        s for s in samples if s.split == "val" and s.is_hand and s.abnormal and not s.cast and not s.hardware
    ]
    inputs = load_inputs(fractured, input_px=config.input_px, spec=spec)
    scores = score(model, inputs.batch(slice(None)))["score"] if fractured else np.zeros(0, np.float32)
    golden = golden_inputs(config.input_px)
    content = Content(
        name=config.name,
        version=project_version(),
        title=BANK_TITLE,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        input_px=config.input_px,
        geometry=spec,
        graph=to_onnx(model, input_px=config.input_px),
        calibration=calibrate(held_out, held_out_how=_HELD_OUT_HOW),
        operating_points=operating_points(held_out, scores, [s.group for s in fractured]),
        golden={"radiograph": golden, **score(model, golden)},
        golden_tolerance=TOLERANCE,
        training_data=_TRAINING_DATA.format(source=_FRACATLAS if is_fracatlas(data) else data.name),
        licence=LICENCE,
        training={
            "steps": steps,
            "seed": config.seed,
            "batch": config.batch,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
    )
    return write_package(content, package, gate=gate)


def beside_memory_bank(manifest: Manifest, data: Path) -> dict[str, nn.Module]:
    """The same bank on the frozen teacher, and on a student with random weights."""
    seed = int(manifest.evaluation["training"]["seed"])
    normals = _normal_hands(data, manifest.input_px)
    teacher = WhitenedTeacher().eval()
    teacher.fit(normals, list(range(min(_FITTED_ON, len(normals)))))
    torch.manual_seed(10_000 + seed)
    untrained = Student(StudentConfig()).eval()
    return {
        "teacher of the memory bank, frozen": _bank_of(teacher, normals, seed=seed)[0],
        CONTROL: _bank_of(untrained, normals, seed=seed)[0],
    }


def _normal_hands(data: Path, input_px: int) -> Inputs:
    normals = [s for s in read_source(data) if s.split == "train" and s.is_hand and not s.abnormal]
    return load_inputs(normals, input_px=input_px, spec=GeometrySpec())


def _bank_of(features: Features, normals: Inputs, *, seed: int) -> tuple[MemoryBank, HeldOut]:
    bank, held_out = build_bank(see(features, normals), seed=seed)
    return MemoryBank(features, bank).eval(), held_out


def _crops(
    inputs: Inputs, config: BankConfig, rng: np.random.Generator, where: torch.device
) -> tuple[Tensor, Tensor]:
    """Root of grey and mask of random crops, mirrored and turned by right angles, a third of them hands."""
    hands = np.array([sample.is_hand for sample in inputs.samples])
    weights = hands / max(1, hands.sum()) + 2 / len(hands)
    picked = rng.choice(len(inputs), size=config.batch, p=weights / weights.sum())
    batch = torch.from_numpy(inputs.batch(picked.tolist()))
    room = config.input_px - config.crop_px
    crops = []
    for radiograph in batch:
        x, y = rng.integers(room + 1, size=2)
        crop = radiograph[:, y : y + config.crop_px, x : x + config.crop_px]
        crop = torch.rot90(crop, int(rng.integers(4)), (1, 2))
        crops.append(crop.flip(2) if rng.random() < 0.5 else crop)
    shown = torch.stack(crops).to(where)
    return shown[:, :1].sqrt(), shown[:, 1:]
