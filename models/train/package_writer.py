"""Writes a model package folder: graph, gate, golden arrays and the manifest that vouches for them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.geometry import GeometrySpec
from models.package import (
    MANIFEST,
    Calibration,
    Gate,
    Golden,
    Manifest,
    ModelPackage,
    OperatingPoint,
    sha256,
)
from models.train.errors import RunError

GATE = Path(__file__).parent.parent / "gates" / "hand"
_GATE_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class Content:
    """All that a package is made of, except the gate, which is copied from the gate's own folder."""

    name: str
    version: str
    title: str
    created: str
    input_px: int
    geometry: GeometrySpec
    graph: bytes
    calibration: Calibration
    operating_points: tuple[OperatingPoint, ...]
    golden: dict[str, NDArray[np.float32]]
    golden_tolerance: float
    training_data: str
    licence: str
    training: dict[str, Any]


def write_package(content: Content, folder: Path, *, gate: Path) -> Path:
    """Write `folder` and open it again, which checks it; RunError when the gate is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    gate_record, gate_files = _copy_gate(gate, folder)
    (folder / "model.onnx").write_bytes(content.graph)
    np.savez_compressed(folder / "golden.npz", allow_pickle=False, **content.golden)
    manifest = Manifest(
        name=content.name,
        version=content.version,
        title=content.title,
        created=content.created,
        input_px=content.input_px,
        geometry=asdict(content.geometry),
        files_sha256={
            **gate_files,
            **{name: sha256(folder / name) for name in ("golden.npz", "model.onnx")},
        },
        calibration=content.calibration,
        operating_points=content.operating_points,
        default_operating_point=content.operating_points[-1].name,
        gate=gate_record,
        golden=Golden(file="golden.npz", tolerance=content.golden_tolerance),
        gate_golden=Golden(file="gate_golden.npz", tolerance=_GATE_TOLERANCE),
        training_data=content.training_data,
        licence=content.licence,
        evaluation={"training": content.training},
    )
    write_manifest(manifest, folder)
    return ModelPackage.open(folder).folder


def replace_gate(package: Path, gate: Path) -> None:
    """Give a package another gate and leave everything else, its evaluation included, as it is."""
    manifest = ModelPackage.open(package).manifest
    record, files = _copy_gate(gate, package)
    changed = {"gate": record, "files_sha256": {**manifest.files_sha256, **files}}
    write_manifest(manifest.model_copy(update=changed), package)


def _copy_gate(gate: Path, package: Path) -> tuple[Gate, dict[str, str]]:
    """The gate's record, and its files with their sha256."""
    names = ("gate.onnx", "gate_golden.npz")
    try:
        record = Gate.model_validate_json((gate / "gate.json").read_text(encoding="utf-8"))
        for name in names:
            (package / name).write_bytes((gate / name).read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{error.filename} does not exist: train the gate first") from None
    return record, {name: sha256(package / name) for name in names}


def write_manifest(manifest: Manifest, folder: Path) -> None:
    text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
