"""The check before the wire: each object is read back and must hold what its IOD and we require.

What merely repeats the source's own fault (an invalid UID, a name too long) is counted apart and let through:
the PACS knows the study by those values.
"""

import io
from collections.abc import Iterable, Iterator
from typing import Final

import pydicom
from pydicom import config
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage

from service.contract import ObjectKind, Reference
from service.report.codes import PRIVATE_SCHEME
from service.report.envelope import COPIED, TYPE_2_COPIED
from service.report.errors import ReportFault
from service.report.source import is_valid

# PS3.3: type 1 attributes must have a value, type 2 attributes must be there.
_TYPE_1: Final = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "InstanceNumber",
    "ContributingEquipmentSequence",
    "TimezoneOffsetFromUTC",
)
_TYPE_1_REPORT: Final = (
    "ContentDate",
    "ContentTime",
    "CompletionFlag",
    "VerificationFlag",
    "ValueType",
    "ConceptNameCodeSequence",
    "ContinuityOfContent",
    "ContentTemplateSequence",
    "ContentSequence",
)
_TYPE_2_REPORT: Final = (
    "ReferencedPerformedProcedureStepSequence",
    "PerformedProcedureCodeSequence",
    "SeriesNumber",
)
_TYPE_1_PICTURE: Final = (
    "ConversionType",
    "ImageType",
    "BurnedInAnnotation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelData",
)
_TYPE_2_PICTURE: Final = ("PatientOrientation", "Laterality", "SeriesNumber", "PixelRepresentation")
# What a content item of each value type must hold (PS3.3 C.17.3.2).
_VALUE_OF: Final = {
    "TEXT": "TextValue",
    "CODE": "ConceptCodeSequence",
    "NUM": "MeasuredValueSequence",
    "UIDREF": "UID",
    "IMAGE": "ReferencedSOPSequence",
    "COMPOSITE": "ReferencedSOPSequence",
    "SCOORD": "GraphicData",
    "CONTAINER": "ContinuityOfContent",
}


def check_report(data: bytes, evidence: Iterable[Reference]) -> tuple[str, ...]:
    """Check a Structured Report; returns the keywords of copied attributes that repeat a fault of the source.

    evidence: every instance that the report must list. Raises ReportFault.
    """
    kind = ObjectKind.STRUCTURED_REPORT
    with config.disable_value_validation():
        return _check_report(data, kind, evidence)


def _check_report(data: bytes, kind: ObjectKind, evidence: Iterable[Reference]) -> tuple[str, ...]:
    dataset = _read_back(data, kind)
    faults = [*_common(dataset, Comprehensive3DSRStorage, (*_TYPE_1, *_TYPE_1_REPORT), _TYPE_2_REPORT)]
    listed = _listed(dataset)
    expected = {(one.sop_class_uid, one.sop_instance_uid) for one in evidence}
    if listed != expected:
        faults.append(
            f"evidence lists {len(listed)} instances, {len(listed ^ expected)} of them other than it must"
        )
    faults.extend(_tree(dataset, listed))
    return _judge(kind, faults, dataset)


def check_secondary_capture(data: bytes, kind: ObjectKind) -> tuple[str, ...]:
    """Check a heatmap or overview; returns the copied attributes that repeat a fault of the source.

    Raises ReportFault.
    """
    with config.disable_value_validation():
        return _check_secondary_capture(data, kind)


def _check_secondary_capture(data: bytes, kind: ObjectKind) -> tuple[str, ...]:
    dataset = _read_back(data, kind)
    faults = [*_common(dataset, SecondaryCaptureImageStorage, (*_TYPE_1, *_TYPE_1_PICTURE), _TYPE_2_PICTURE)]
    if not faults:
        faults.extend(_pixels(dataset))
    return _judge(kind, faults, dataset)


def _read_back(data: bytes, kind: ObjectKind) -> Dataset:
    try:
        return pydicom.dcmread(io.BytesIO(data))
    except (InvalidDicomError, EOFError, ValueError) as error:
        raise ReportFault(kind, (f"it cannot be read back: {error}",)) from error


def _judge(kind: ObjectKind, faults: list[str], dataset: Dataset) -> tuple[str, ...]:
    if faults:
        raise ReportFault(kind, tuple(faults))
    return tuple(
        sorted(keyword for keyword in COPIED if keyword in dataset and not is_valid(dataset[keyword]))
    )


def _common(
    dataset: Dataset, sop_class_uid: str, type_1: Iterable[str], type_2: Iterable[str]
) -> Iterator[str]:
    meta = dataset.file_meta
    if dataset.get("SOPClassUID") != sop_class_uid or meta.get("MediaStorageSOPClassUID") != sop_class_uid:
        yield "SOP Class UID is not the one of its IOD"
    if meta.get("MediaStorageSOPInstanceUID") != dataset.get("SOPInstanceUID"):
        yield "Media Storage SOP Instance UID differs from SOP Instance UID"
    for keyword in type_1:
        if keyword not in dataset or dataset[keyword].is_empty:
            yield f"{keyword} (type 1) has no value"
    for keyword in (*TYPE_2_COPIED, *type_2):
        if keyword not in dataset:
            yield f"{keyword} (type 2) is absent"
    for element in dataset:
        if element.keyword not in COPIED and not is_valid(element):
            yield f"{element.keyword} is not a valid {element.VR}"
    yield from _codes(dataset)


def _codes(dataset: Dataset) -> Iterator[str]:
    """Private codes must be declared (PS3.3 C.12.1.1.6), code values and meanings must fit their VRs."""
    declared = {
        item.get("CodingSchemeDesignator") for item in dataset.get("CodingSchemeIdentificationSequence", ())
    }
    undeclared = set()
    for item in _items(dataset):
        if "CodeValue" not in item:
            continue
        if len(item.CodeValue) > 16 or not 0 < len(item.get("CodeMeaning", "")) <= 64:
            yield f"code {item.CodeValue!r} or its meaning is of the wrong length"
        scheme = item.get("CodingSchemeDesignator", "")
        if not scheme or (scheme.startswith("99") and scheme not in declared):
            undeclared.add(scheme)
    for scheme in sorted(undeclared):
        yield f"coding scheme {scheme!r} is not declared, expected {PRIVATE_SCHEME} at most"


def _items(dataset: Dataset) -> Iterator[Dataset]:
    """Every item of every sequence of ours, at any depth; only sequences are unpacked."""
    for tag in dataset.keys():  # noqa: SIM118 - a data set iterates over converted elements
        element = dataset.get_item(tag)
        if element.VR == "SQ" and keyword_for_tag(tag) not in COPIED:
            for item in dataset[tag].value:
                yield item
                yield from _items(item)


def _listed(dataset: Dataset) -> set[tuple[str, str]]:
    return {
        (instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID)
        for study in dataset.get("CurrentRequestedProcedureEvidenceSequence", ())
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def _tree(dataset: Dataset, evidence: set[tuple[str, str]]) -> Iterator[str]:
    """Content items hold what their value type asks for, and point only at evidence."""
    pending = list(dataset.get("ContentSequence", ()))
    while pending:
        item = pending.pop()
        pending.extend(item.get("ContentSequence", ()))
        value_type = item.get("ValueType", "")
        keyword = _VALUE_OF.get(value_type)
        name = (
            item.ConceptNameCodeSequence[0].CodeMeaning if item.get("ConceptNameCodeSequence") else value_type
        )
        if keyword is None or keyword not in item or item[keyword].is_empty:
            yield f"content item {name!r} of value type {value_type!r} has no value"
            continue
        if "RelationshipType" not in item or not item.get("ConceptNameCodeSequence"):
            yield f"content item {name!r} has no relationship or no name"
        for referenced in item.get("ReferencedSOPSequence", ()):
            if (referenced.ReferencedSOPClassUID, referenced.ReferencedSOPInstanceUID) not in evidence:
                yield f"content item {name!r} refers to an instance that is not in the evidence"


def _pixels(dataset: Dataset) -> Iterator[str]:
    expected = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated // 8
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        frames = sum(1 for _ in generate_frames(dataset.PixelData, number_of_frames=1))
        if frames != 1:
            yield f"Pixel Data hold {frames} frames, expected 1"
    elif len(dataset.PixelData) != expected + expected % 2:
        yield f"Pixel Data hold {len(dataset.PixelData)} bytes, expected {expected + expected % 2}"
