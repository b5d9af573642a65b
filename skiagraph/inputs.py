"""Which files a command line means: named files as they are, folders searched for DICOM, PNG and JPEG."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PICTURE_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg"})
_SUFFIXES: Final = PICTURE_SUFFIXES | {".dcm", ".dicom"}
_PREAMBLE_BYTES: Final = 128


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """files: in the order given, folders sorted. problems: one line for each path that gave nothing."""

    files: tuple[Path, ...]
    problems: tuple[str, ...]


def find(paths: Iterable[Path]) -> Inputs:
    """Expand folders; a path named twice is taken once."""
    files: dict[Path, None] = {}
    problems: list[str] = []
    for path in paths:
        if not path.is_dir():
            # A named file is always taken: if it cannot be read, its own result says why.
            if path.is_file():
                files[path] = None
            else:
                problems.append(f"{path} {'is not a file' if path.exists() else 'does not exist'}")
            continue
        try:
            found = sorted(_radiographs_below(path))
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}")
            continue
        if not found:
            problems.append(f"{path} holds no DICOM, PNG or JPEG file")
        files.update(dict.fromkeys(found))
    return Inputs(files=tuple(files), problems=tuple(problems))


def written_over(files: Iterable[Path], targets: Iterable[Path]) -> Path | None:
    """The first target that is one of the files, whatever link or name leads to it."""
    taken = {_identity(path) for path in files}
    return next((target for target in targets if target.exists() and _identity(target) in taken), None)


def shown(text: Path | str) -> str:
    """Text for people and JSON: bytes of a file name that the locale cannot read become escapes."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def is_dicom(path: Path) -> bool:
    """True for a file with the DICOM prefix (PS3.10 7.1)."""
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE_BYTES + 4)[_PREAMBLE_BYTES:] == b"DICM"
    except OSError:
        return False


def _identity(path: Path) -> tuple[int, int] | Path:
    try:
        found = path.stat()
    except OSError:
        return path
    return found.st_dev, found.st_ino


def _radiographs_below(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not path.is_symlink():  # a link upwards would never end
                yield from _radiographs_below(path)
        elif path.suffix.lower() in _SUFFIXES or (path.name.upper() != "DICOMDIR" and is_dicom(path)):
            yield path
