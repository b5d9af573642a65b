"""Where radiographs come from: FracAtlas as laid out here, MURA as downloaded, or a folder of normals."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from models.train.data import Sample, read_fracatlas
from models.train.errors import DataError

_PICTURES = frozenset({".png", ".jpg", ".jpeg"})
_HAND = "XR_HAND"
_NAMED = 5  # damaged files in an error message
_TRAIN, _VALIDATION = 0.70, 0.15  # of normal patients, or of the pictures of a plain folder
_LAYOUTS = (
    "FracAtlas (labels.csv, boxes.csv, images/), "
    "MURA as downloaded (MURA-v1.1/train/XR_HAND/patient…/study…_positive or _negative/image….png), "
    "or a plain folder of PNG or JPEG radiographs of normal hands"
)
Split = Literal["train", "val"]


def read_source(folder: Path, *, seed: int = 0) -> list[Sample]:
    """The radiographs of a folder in any known layout, split by patient or file with `seed`.

    DataError names the layouts when it is none of them, and files that are no whole pictures.
    """
    if is_fracatlas(folder):
        return read_fracatlas(folder)
    hands = _mura_hands(folder)
    samples = _mura(hands, seed) if hands else _plain(folder)
    if not samples:
        raise DataError(f"{folder} holds no radiographs that training can read: give --data {_LAYOUTS}")
    _check_readable(samples)
    return samples


def is_fracatlas(folder: Path) -> bool:
    """Whether a folder is laid out as FracAtlas is here."""
    return (folder / "labels.csv").is_file()


def _mura_hands(folder: Path) -> list[Path]:
    """The XR_HAND folders: below MURA's root, its parent, one of its parts, or the folder itself."""
    if folder.name == _HAND and folder.is_dir():
        return [folder]
    return sorted(
        path for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}{_HAND}") if path.is_dir()
    )


def _mura(hands: list[Path], seed: int) -> list[Sample]:
    """By patient, over all parts of the download: 70 % of those without an abnormal study train, 15 % of them
    and half of the others validate. The rest, a test split, is left out."""
    studies = [study for hand in hands for study in sorted(hand.glob("patient*/study*_*")) if study.is_dir()]
    abnormal = {study.parent.name for study in studies if study.name.endswith("_positive")}

    def split(patient: str) -> Split | None:
        drawn = _drawn(patient, seed)
        if patient in abnormal:
            return "val" if drawn < 0.5 else None
        return "train" if drawn < _TRAIN else "val" if drawn < _TRAIN + _VALIDATION else None

    return [
        _hand(path, side, study.parent.name, abnormal=study.name.endswith("_positive"))
        for study in studies
        if (side := split(study.parent.name))
        for path in _pictures(study.iterdir())
    ]


def _plain(folder: Path) -> list[Sample]:
    """Normals only; a share is held out by the hash of each file, so that copies stay on one side."""
    samples = []
    for path in _pictures(folder.rglob("*")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        split: Split = "val" if _drawn(content, 0) < _VALIDATION else "train"
        samples.append(_hand(path, split, content, abnormal=False))
    return samples


def _hand(path: Path, split: Split, group: str, *, abnormal: bool) -> Sample:
    # The view is unknown: all are taken for the ordinary one.
    return Sample(path=path, split=split, view="hand_pa", abnormal=abnormal, group=group)


def _pictures(paths: Iterable[Path]) -> list[Path]:
    # macOS leaves files that start with "._" beside each picture of an archive.
    return sorted(p for p in paths if p.suffix.lower() in _PICTURES and not p.name.startswith("."))


def _drawn(name: str, seed: int) -> float:
    """0..1, always the same for a name and a seed."""
    return int(hashlib.sha256(f"{seed} {name}".encode()).hexdigest()[:8], 16) / 0x1_0000_0000


def _check_readable(samples: list[Sample]) -> None:
    """Before hours of training: each file is a picture by its first bytes and complete by its last ones."""
    damaged = [str(sample.path) for sample in samples if not _is_whole(sample.path)]
    if damaged:
        shown = ", ".join(damaged[:_NAMED]) + (" …" if len(damaged) > _NAMED else "")
        raise DataError(
            f"{len(damaged)} of {len(samples)} files cannot be read as pictures: {shown}; "
            "remove or replace them"
        )


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(8)
            file.seek(-min(64, path.stat().st_size), 2)
            tail = file.read()
    except OSError:
        return False
    return (head == b"\x89PNG\r\n\x1a\n" and b"IEND" in tail) or (
        head.startswith(b"\xff\xd8\xff") and b"\xff\xd9" in tail
    )
