"""Radiographs for the input gate: reduced copies in memory, with a class each."""

import csv
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.gate import work_copy
from models.train.data import HAND_VIEWS, MULTI_VIEW
from models.train.errors import DataError

FloatArray = NDArray[np.float32]

_NEIGHBOURS = 2  # file numbers this close to a validation radiograph may be the same patient


class Kind(IntEnum):
    """The gate's classes, in the order of its output."""

    HAND = 0
    FOREARM = 1
    MULTIPLE_VIEWS = 2
    OTHER_BONE = 3
    NOT_A_RADIOGRAPH = 4


@dataclass(frozen=True, kw_only=True)
class LabelledFile:
    """A radiograph of the data set's tables with its class; region and view as they are there."""

    path: Path
    kind: Kind
    region: str
    view: str = ""
    abnormal: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class GateSample:
    """picture: (h, w) float32 0..1, longest side 288 px."""

    file: LabelledFile
    picture: FloatArray

    @property
    def kind(self) -> Kind:
        return self.file.kind


def labelled_files(data: Path, split: str) -> list[LabelledFile]:
    """FracAtlas' labelled radiographs of one split; for `train` also its normal ones of other regions."""
    table = data / "labels.csv"
    if not table.is_file():
        raise DataError(f"{table} does not exist: give the folder that holds labels.csv and images/")
    rows = _rows(table)
    found = [
        LabelledFile(
            path=data / "images" / row["file"],
            kind=_kind(row["region"], row["view"]),
            region=row["region"],
            view=row["view"],
            abnormal=row["label"] == "abnormal",
        )
        for row in rows
        if row["split"] == split
    ]
    if split == "train" and (data / "pretrain.csv").is_file():
        held_out = {_number(row["file"]) for row in rows if row["split"] == "val" and row["region"] != "hand"}
        near = {number + step for number in held_out for step in range(-_NEIGHBOURS, _NEIGHBOURS + 1)}
        found += [
            LabelledFile(path=data / "pretrain" / row["file"], kind=Kind.OTHER_BONE, region=row["region"])
            for row in _rows(data / "pretrain.csv")
            if _number(row["file"]) not in near
        ]
    return found


def read_samples(data: Path, split: str) -> list[GateSample]:
    """The labelled radiographs as reduced copies; DataError when one cannot be read."""
    return [GateSample(file=file, picture=_read(file.path)) for file in labelled_files(data, split)]


def _kind(region: str, view: str) -> Kind:
    if region != "hand":
        return Kind.OTHER_BONE
    if view in HAND_VIEWS:
        return Kind.HAND
    return Kind.MULTIPLE_VIEWS if view == MULTI_VIEW else Kind.FOREARM


def _read(path: Path) -> FloatArray:
    # Reduced by the decoder, four times as fast; still larger than the work copy.
    pixels = cv2.imread(str(path), cv2.IMREAD_REDUCED_GRAYSCALE_2 | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise DataError(f"{path} cannot be read: restore it, or leave it out of the table")
    return np.asarray(work_copy(np.asarray(pixels, dtype=np.uint8)) / 255, dtype=np.float32)


def _number(file: str) -> int:
    return int("".join(character for character in Path(file).stem if character.isdigit()))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
