"""The model package: a folder with `manifest.json`, `gate.onnx`, `model.onnx` and golden arrays, verified.

Graph contract, the same for every model:
  model.onnx  input  `radiograph`  (n, 2, S, S) float32: grey 0..1 and mask 0/1, from `models.geometry`
              output `score` (n,), `novelty` (n,), `anomaly_map` (n, S / k, S / k): it covers the letterbox
  gate.onnx   input  `thumbnail`   (n, 1, G, G) float32 0..1, from `models.gate.thumbnail`
              output `probabilities` (n, classes), classes in the manifest's order
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MANIFEST = "manifest.json"
PACKAGES = Path(__file__).parent / "packages"


class PackageError(Exception):
    """A model package that cannot be trusted: a Fault, never a reason to fall back."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OperatingPoint(_Record):
    """Threshold on `score`; sensitivity measured on the fractures named in `statement`, 95 % interval."""

    name: str
    specificity: float
    threshold: float
    sensitivity: float | None = None
    sensitivity_low: float | None = None
    sensitivity_high: float | None = None
    statement: str = ""


class Calibration(_Record):
    """Quantiles of `score` and `novelty` among held-out normals: 101 values, percent 0 to 100."""

    score_quantiles: tuple[float, ...] = Field(min_length=101, max_length=101)
    novelty_quantiles: tuple[float, ...] = Field(min_length=101, max_length=101)
    map_floor: float  # median map value among normals: transparent in the heatmap
    region_threshold: float  # a region is where the map exceeds this
    map_ceiling: float  # map value drawn at full opacity
    normals: int
    statement: str = ""


class GateClass(_Record):
    """One class of the gate. accept: pass. reject_code: a `RejectionCode` when it does not."""

    name: str
    accept: bool
    reject_code: str | None = None
    says: str = ""  # the reason given to people when this class is refused


class Gate(_Record):
    """Input gate: accepted when the summed probability of the accepting classes is at least `threshold`."""

    thumbnail_px: int
    classes: tuple[GateClass, ...]
    threshold: float
    statement: str = ""


class Golden(_Record):
    """Inputs and expected outputs, an .npz in the package; tolerance: largest allowed absolute deviation."""

    file: str
    tolerance: float


class Manifest(_Record):
    name: str
    version: str
    title: str
    created: str
    input_px: int
    geometry: dict[str, float | int | str | bool] = Field(default_factory=dict)
    files_sha256: dict[str, str]
    precision: str = "fp32"
    calibration: Calibration
    operating_points: tuple[OperatingPoint, ...] = Field(min_length=1)
    default_operating_point: str
    gate: Gate
    golden: Golden
    gate_golden: Golden
    training_data: str
    licence: str
    evaluation: dict[str, Any] = Field(default_factory=dict)

    def operating_point(self, name: str | None = None) -> OperatingPoint:
        """The named operating point, the default when `name` is None; KeyError lists those that exist."""
        wanted = name or self.default_operating_point
        for point in self.operating_points:
            if point.name == wanted:
                return point
        known = ", ".join(point.name for point in self.operating_points)
        raise KeyError(f"operating point {wanted!r} is not in model {self.name}: it has {known}")


@dataclass(frozen=True, kw_only=True)
class ModelPackage:
    """A verified package on disk."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the manifest and check each file's sha256; raises PackageError naming the file and the fix."""
        path = folder / MANIFEST
        try:
            manifest = Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise PackageError(f"no {MANIFEST} in {folder}: name a model package folder") from None
        except (ValidationError, ValueError) as error:
            raise PackageError(
                f"{path} is not a valid manifest: {error}; export the package again"
            ) from error
        for name, expected in manifest.files_sha256.items():
            try:
                found = sha256(folder / name)
            except OSError as error:
                raise PackageError(
                    f"{folder / name} cannot be read ({error}); restore the package"
                ) from error
            if found != expected:
                raise PackageError(
                    f"{folder / name} is damaged: sha256 {found[:12]}…, the manifest says {expected[:12]}…; "
                    "restore the package"
                )
        return cls(folder=folder, manifest=manifest)

    @property
    def weights_sha256(self) -> str:
        return self.manifest.files_sha256["model.onnx"]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find(name_or_path: str, folders: tuple[Path, ...] = (PACKAGES,)) -> Path:
    """The folder of a package given by name (in one of `folders`) or by path; PackageError lists what is."""
    direct = Path(name_or_path)
    if (direct / MANIFEST).is_file():
        return direct
    for folder in folders:
        if (folder / name_or_path / MANIFEST).is_file():
            return folder / name_or_path
    known = ", ".join(path.name for folder in folders for path in available(folder)) or "none"
    raise PackageError(f"no model package {name_or_path!r}: known are {known}, or give a folder's path")


def available(folder: Path = PACKAGES) -> list[Path]:
    """Folders below `folder` that hold a manifest, sorted by name."""
    return sorted(path.parent for path in folder.glob(f"*/{MANIFEST}"))
