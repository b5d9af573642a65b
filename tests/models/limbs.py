"""Drawn limbs for tests: as radiographs, and as a small data folder laid out like FracAtlas."""

import csv
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.radiograph import Radiograph
from models.train.golden import golden_inputs


def limb(height: int, width: int, *, dtype: type = np.uint8) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """A bright limb on a dark, slightly noisy ground, entering from the top."""
    side = max(height, width)
    grey, mask = golden_inputs(side, 1)[0]
    top = np.iinfo(dtype).max
    noise = np.random.default_rng(0).normal(0.04, 0.004, (side, side))
    picture = np.clip(np.where(mask > 0, 0.15 + grey, noise), 0, 1)[:height]
    start = (side - width) // 2
    return np.asarray(np.rint(picture[:, start : start + width] * top), dtype)


def radiograph(
    pixels: NDArray[np.uint8] | NDArray[np.uint16], *, reduced: int = 1, polarity_known: bool = True
) -> Radiograph:
    return Radiograph(
        pixels=pixels,
        source_width_px=pixels.shape[1] * reduced,
        source_height_px=pixels.shape[0] * reduced,
        polarity_known=polarity_known,
    )


def write_fracatlas(folder: Path, *, normals: int = 16, validation: int = 6, size: int = 160) -> Path:
    """A data folder of drawn limbs; every second validation limb carries a bright bar and its box."""
    (folder / "images").mkdir(parents=True)
    labels, boxes = [], []
    drawn = golden_inputs(size, normals + validation)
    for index, (grey, mask) in enumerate(drawn):
        name = f"limb{index:03d}.png"
        picture = np.rint(255 * np.where(mask > 0, 0.15 + grey, 0.04)).clip(0, 255).astype(np.uint8)
        broken = index >= normals and index % 2 == 0
        if broken:
            picture[70:80, 70:90] = 255
            boxes.append([name, 70, 70, 90, 80])
        cv2.imwrite(str(folder / "images" / name), picture)
        split, label = ("train" if index < normals else "val"), ("abnormal" if broken else "normal")
        labels.append([name, split, "hand", "hand_pa", label, "0", "0", str(index)])
    _write(folder / "boxes.csv", ["file", "xmin", "ymin", "xmax", "ymax"], boxes)
    columns = ["file", "split", "region", "view", "label", "hardware", "cast_seen", "group"]
    _write(folder / "labels.csv", columns, labels)
    return folder


def _write(path: Path, columns: list[str], rows: list[list[object]] | list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
