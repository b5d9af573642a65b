"""What the demonstration sends: phantoms with a known truth and an ankle, or your own files."""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from skiagraph.inputs import PICTURE_SUFFIXES
from skiagraph.phantom import PhantomKind, as_dicom, draw
from skiagraph.wrap import NotAPictureError, wrap_picture

# Seeds picked to show one of each answer: of seeds 8 to 23 no plain phantom lies above the operating point,
# but neither do 13 of the 16 fractured ones. Nothing here measures detection.
_PHANTOMS: Final = (
    ("phantom, plain", PhantomKind.PLAIN, 21, "a drawn hand, nothing planted"),
    ("phantom, fracture", PhantomKind.FRACTURE, 12, "a drawn hand, one bone broken"),
    ("phantom, foreign body", PhantomKind.FOREIGN_BODY, 12, "a drawn hand, metal in soft tissue"),
)


@dataclass(kw_only=True)
class DemoStudy:
    """Instances of one study.

    shows: what it really shows, where that is known.
    planted: x, y, width, height in pixels of what was drawn into it.
    problem: why it is not sent.
    """

    name: str
    shows: str = ""
    study_instance_uid: str = ""
    instances: list[Dataset] = field(default_factory=list)
    planted: tuple[tuple[float, float, float, float], ...] = ()
    problem: str = ""


def built_in() -> list[DemoStudy]:
    """Phantoms, and a real ankle when the package `pydicom-data` is installed; never touches the network."""
    studies = []
    for name, kind, seed, shows in _PHANTOMS:
        phantom = draw(kind, seed=seed)
        instance = as_dicom(phantom)
        planted = tuple((box.x, box.y, box.width, box.height) for box in phantom.truth)
        studies.append(
            DemoStudy(
                name=name,
                shows=shows,
                study_instance_uid=instance.StudyInstanceUID,
                instances=[instance],
                planted=planted,
            )
        )
    ankle = _ankle()
    if ankle is not None:
        instance = pydicom.dcmread(ankle)
        studies.append(
            DemoStudy(
                name="RG3 of pydicom-data",
                shows="a real ankle, not a hand",
                study_instance_uid=instance.StudyInstanceUID,
                instances=[instance],
            )
        )
    return studies


def of_files(files: Iterable[Path]) -> list[DemoStudy]:
    """One study for each Study Instance UID; a PNG or JPEG is a study of its own."""
    studies: dict[str, DemoStudy] = {}
    broken: list[DemoStudy] = []
    for path in files:
        try:
            instance = _read(path)
        except (NotAPictureError, OSError, AttributeError, ValueError, EOFError) as error:
            broken.append(
                DemoStudy(name=path.name, problem=" ".join(str(error).split()) or type(error).__name__)
            )
            continue
        uid = str(instance.StudyInstanceUID)
        study = studies.setdefault(uid, DemoStudy(name=path.name, study_instance_uid=uid))
        study.instances.append(instance)
    for study in studies.values():
        if len(study.instances) > 1:
            study.name += f" and {len(study.instances) - 1} more"
    return [*studies.values(), *broken]


def _read(path: Path) -> Dataset:
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return wrap_picture(path)
    try:
        instance = pydicom.dcmread(path)
    except InvalidDicomError as error:
        raise ValueError("neither a DICOM file nor a PNG or JPEG picture") from error
    for keyword in ("StudyInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        if not instance.get(keyword):
            raise ValueError(f"no {keyword} in the data set")
    return instance


def _ankle() -> Path | None:
    found = importlib.util.find_spec("data_store")  # the module of pydicom-data; its import is not needed
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "data" / "RG3_UNCR.dcm"
    return path if path.is_file() else None
