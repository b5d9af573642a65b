"""Radiographs for training and evaluation, shown to the network as serving shows them."""

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from models.geometry import Geometry, GeometrySpec, ModelInput, model_input
from models.radiograph import Radiograph
from models.rejection import Rejection
from models.train.errors import DataError

ByteArray = NDArray[np.uint8]
HAND_VIEWS = frozenset({"hand_pa", "hand_oblique", "hand_lateral"})
MULTI_VIEW = "multi_view_or_overlap"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One labelled radiograph. boxes: (n, 4) xmin, ymin, xmax, ymax in source pixels. group: never split
    it."""

    path: Path
    split: Literal["train", "val"]
    view: str
    abnormal: bool
    group: str
    cast: bool = False
    hardware: bool = False
    boxes: tuple[tuple[float, float, float, float], ...] = ()

    @property
    def is_hand(self) -> bool:
        return self.view in HAND_VIEWS


def read_fracatlas(folder: Path) -> list[Sample]:
    """The arm radiographs (FracAtlas region `hand`) of `labels.csv` and `boxes.csv`; DataError when
    absent."""
    boxes: dict[str, list[tuple[float, float, float, float]]] = {}
    for row in _rows(folder / "boxes.csv"):
        corners = (float(row["xmin"]), float(row["ymin"]), float(row["xmax"]), float(row["ymax"]))
        boxes.setdefault(row["file"], []).append(corners)
    samples = []
    for row in _rows(folder / "labels.csv"):
        if row["region"] != "hand" or row["split"] not in ("train", "val"):
            continue
        samples.append(
            Sample(
                path=folder / "images" / row["file"],
                split="train" if row["split"] == "train" else "val",
                view=row["view"],
                abnormal=row["label"] == "abnormal",
                group=row["group"],
                cast=row["cast_seen"] == "1",
                hardware=row["hardware"] == "1",
                boxes=tuple(boxes.get(row["file"], ())),
            )
        )
    return samples


def read_other_regions(folder: Path) -> list[Sample]:
    """Normal radiographs of other regions: more bone to plant defects in, never counted as hands."""
    if not (folder / "pretrain.csv").is_file():
        return []
    return [
        Sample(
            path=folder / "pretrain" / row["file"],
            split="train",
            view=row["region"],
            abnormal=False,
            group=f"other-{row['file']}",
        )
        for row in _rows(folder / "pretrain.csv")
    ]


def in_fold(group: str, *, fold: int, folds: int) -> bool:
    """Whether a group belongs to one of `folds` folds: by a hash, so that it never depends on the file
    order."""
    return int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) % folds == fold


def load_input(path: Path, *, input_px: int, spec: GeometrySpec) -> ModelInput:
    """One PNG or JPEG through the serving geometry; DataError when it cannot be read or is blank."""
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise DataError(f"{path} cannot be read as a picture: remove it from the data folder")
    grey = np.asarray(pixels, np.uint8)
    radiograph = Radiograph(
        pixels=grey, source_width_px=grey.shape[1], source_height_px=grey.shape[0], polarity_known=False
    )
    shown = model_input(radiograph, input_px=input_px, spec=spec)
    if isinstance(shown, Rejection):
        raise DataError(f"{path} cannot be used: {shown.reason}")
    return shown


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """Many radiographs as the network sees them: (n, 2, S, S) uint8, square root of grey × 255 and mask ×
    255."""

    samples: tuple[Sample, ...]
    tensors: ByteArray
    geometries: tuple[Geometry, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, indices: Sequence[int] | slice) -> NDArray[np.float32]:
        """(k, 2, S, S) float32 in the form `model.onnx` takes."""
        picked: NDArray[np.float32] = self.tensors[indices].astype(np.float32) / np.float32(255)
        picked[:, 0] **= 2
        return picked


def load_inputs(samples: Sequence[Sample], *, input_px: int, spec: GeometrySpec) -> Inputs:
    """All samples through the geometry, kept as bytes: 1,600 radiographs of 384 px take half a gigabyte."""
    tensors = np.zeros((len(samples), 2, input_px, input_px), np.uint8)
    geometries = []
    for index, sample in enumerate(samples):
        shown = load_input(sample.path, input_px=input_px, spec=spec)
        tensors[index, 0] = np.rint(255 * np.sqrt(shown.tensor[0]))
        tensors[index, 1] = np.rint(255 * shown.tensor[1])
        geometries.append(shown.geometry)
    return Inputs(samples=tuple(samples), tensors=tensors, geometries=tuple(geometries))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist: --data expects a FracAtlas folder with labels.csv, boxes.csv and images/"
        ) from None
