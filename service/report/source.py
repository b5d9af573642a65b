"""What is read from a source instance's header, which may lack anything and be wrong anywhere."""

import re
from copy import deepcopy
from dataclasses import dataclass
from typing import Final

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import validate_value

from service.contract import Reference, StudyRequest
from service.report.codes import LATERALITIES, VIEWS
from service.report.inputs import SourceInstance

_UID: Final = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_NOT_TEXT: Final = frozenset({"SQ", "OB", "OW", "US"})
_UID_SHAPE: Final = re.compile(r"[0-9]+(\.[0-9]+)*")


def element(dataset: Dataset, keyword: str) -> DataElement | None:
    """A copy of the element; None where it is absent, unreadable or of another VR than PS3.6 gives it."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in dataset:
        return None
    try:
        found = dataset[tag]
        return deepcopy(found) if dictionary_VR(tag) == found.VR else None
    except Exception:  # pydicom raises whatever the conversion of a broken value raises
        return None


def is_valid(element: DataElement) -> bool:
    """Whether every value fits the VR."""
    if element.VR in _NOT_TEXT or element.is_empty:
        return True
    values = element.value if element.VM > 1 else [element.value]
    if element.VR == "UI":
        return all(len(value) <= 64 and _UID.fullmatch(value) for value in values)
    try:
        for value in values:
            validate_value(element.VR, value if isinstance(value, str | bytes) else str(value), config.RAISE)
    except ValueError:
        return False
    return True


def text(dataset: Dataset, keyword: str) -> str:
    """A single string value, stripped; empty where there is none."""
    found = element(dataset, keyword)
    value = found.value if found is not None else None
    return str(value).strip() if value is not None and (found is None or found.VM <= 1) else ""


def uid(dataset: Dataset, keyword: str) -> str:
    """A UID that can be referenced: digits and dots of at most 64 characters; empty otherwise."""
    value = text(dataset, keyword)
    return value if len(value) <= 64 and _UID_SHAPE.fullmatch(value) else ""


def reference(source: SourceInstance, request: StudyRequest) -> Reference | None:
    """How other objects refer to the instance; None where its header lacks what a reference needs."""
    series = uid(source.dataset, "SeriesInstanceUID")
    sop_class = uid(source.dataset, "SOPClassUID")
    if not series or not sop_class:
        return None
    return Reference(
        study_instance_uid=uid(source.dataset, "StudyInstanceUID") or request.study_instance_uid,
        series_instance_uid=series,
        sop_class_uid=sop_class,
        sop_instance_uid=source.result.sop_instance_uid,
    )


def is_image(reference: Reference) -> bool:
    """Whether a content item refers to it as IMAGE, or else as COMPOSITE (PS3.3 C.17.3)."""
    return "Image Storage" in UID(reference.sop_class_uid).name


def laterality(dataset: Dataset) -> str:
    """R, L, B or empty: Image Laterality (0020,0062) before the series' Laterality (0020,0060)."""
    for keyword in ("ImageLaterality", "Laterality"):
        value = text(dataset, keyword).upper()
        if value in LATERALITIES:
            return value
    return ""


def view(dataset: Dataset) -> str:
    """View Position (0018,5101) where it is one of the defined terms, else empty."""
    value = text(dataset, "ViewPosition").upper()
    return value if value in VIEWS else ""


@dataclass(frozen=True, kw_only=True)
class Label:
    """How a radiograph is called in the report: its number in report order, and what its header says."""

    number: int
    view: str
    laterality: str
    instance_number: str

    @property
    def title(self) -> str:
        side = {"R": "right", "L": "left", "B": "both hands"}.get(self.laterality, "")
        instance = f"instance {self.instance_number}" if self.instance_number else ""
        details = ", ".join(part for part in (self.view, side, instance) if part)
        return f"Radiograph {self.number}" + (f" ({details})" if details else "")


def label(source: SourceInstance, number: int) -> Label:
    instance_number = text(source.dataset, "InstanceNumber")
    return Label(
        number=number,
        view=view(source.dataset),
        laterality=laterality(source.dataset),
        instance_number=instance_number if instance_number.isdecimal() and len(instance_number) <= 8 else "",
    )
