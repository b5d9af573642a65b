"""What --data takes: FracAtlas, MURA as downloaded, a plain folder of normals, an error for the rest."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from models.geometry import GeometrySpec
from models.train.data import load_inputs
from models.train.errors import DataError
from models.train.evaluate import validation
from models.train.sources import read_source
from tests.models.limbs import limb, write_fracatlas


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.roll(np.asarray(limb(120, 90), np.uint8), seed, axis=1)
    assert cv2.imwrite(str(path), picture)


@pytest.fixture(scope="module")
def mura(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of the download: 40 normal patients, 5 with a fracture; one patient in both parts."""
    root = tmp_path_factory.mktemp("downloads") / "MURA-v1.1"
    for number in range(45):
        verdict = "positive" if number % 9 == 0 else "negative"
        study = root / "train" / "XR_HAND" / f"patient{number:05d}" / f"study1_{verdict}"
        draw(study / "image1.png", number)
        draw(study / "image2.png", number + 1)
    draw(root / "train" / "XR_HAND" / "patient00000" / "study2_negative" / "image1.png", 3)
    draw(root / "valid" / "XR_HAND" / "patient00001" / "study1_negative" / "image1.png", 4)
    draw(root / "train" / "XR_ELBOW" / "patient09999" / "study1_negative" / "image1.png", 5)
    (root / "train" / "XR_HAND" / "patient00001" / "study1_negative" / "._image1.png").write_bytes(b"\0")
    return root


def test_mura_as_downloaded(mura: Path) -> None:
    samples = read_source(mura)
    # 40 normal patients: 70 % train, 15 % validate, the rest is for a test nobody has seen.
    assert 50 < len(samples) < 92
    assert not any("XR_ELBOW" in sample.path.parts for sample in samples)
    assert 0 < sum(sample.abnormal for sample in samples) < 10
    assert all(sample.split == "val" for sample in samples if sample.abnormal)
    sides: dict[str, set[str]] = {}
    for sample in samples:
        sides.setdefault(sample.group, set()).add(sample.split)
    assert all(len(splits) == 1 for splits in sides.values())
    normals = [sample for sample in samples if not sample.abnormal]
    assert {sample.split for sample in normals} == {"train", "val"}
    assert 0.6 < len([sample for sample in normals if sample.split == "train"]) / len(normals) < 0.95


def test_mura_is_found_from_each_of_its_folders(mura: Path) -> None:
    whole = {sample.path for sample in read_source(mura)}
    assert {sample.path for sample in read_source(mura.parent)} == whole
    only_train = {sample.path for sample in read_source(mura / "train")}
    assert only_train == {sample.path for sample in read_source(mura / "train" / "XR_HAND")} < whole


def test_a_seed_draws_other_patients_and_the_same_seed_the_same(mura: Path) -> None:
    one, same, other = ([s.split for s in read_source(mura, seed=seed)] for seed in (1, 1, 2))
    assert one == same != other


def test_mura_goes_through_the_geometry(mura: Path) -> None:
    inputs = load_inputs(validation(read_source(mura))[:2], input_px=64, spec=GeometrySpec())
    assert inputs.tensors.shape == (2, 2, 64, 64)


def test_a_plain_folder_is_normals(tmp_path: Path) -> None:
    for number in range(30):
        draw(tmp_path / f"ward{number % 2}" / f"{number}.jpg", number)
    samples = read_source(tmp_path)
    assert len(samples) == 30
    assert {sample.split for sample in samples} == {"train", "val"}
    (tmp_path / "copy.jpg").write_bytes(samples[0].path.read_bytes())
    splits = {s.split for s in read_source(tmp_path) if s.group == samples[0].group}
    assert len(splits) == 1
    with pytest.raises(DataError, match=r"none of the .* held-out radiographs is abnormal"):
        validation(samples)


def test_fracatlas_is_recognised(tmp_path: Path) -> None:
    samples = read_source(write_fracatlas(tmp_path / "fracatlas", normals=3, validation=2))
    assert [sample.split for sample in samples].count("train") == 3


def test_anything_else_is_told_the_three_layouts(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    with pytest.raises(DataError, match=r"labels\.csv.*XR_HAND.*plain folder"):
        read_source(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_file_is_named_and_not_skipped(tmp_path: Path, damage: str) -> None:
    for number in range(3):
        draw(tmp_path / f"{number}.png", number)
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(
        {"truncated": content[: len(content) // 2], "empty": b"", "text": b"no picture at all"}[damage]
    )
    with pytest.raises(DataError, match=r"1 of 3 files cannot be read as pictures: .*1\.png"):
        read_source(tmp_path)
