"""The check before the wire: good objects pass, broken ones are faults, the source keeps its own faults."""

import io
from collections.abc import Callable

import pydicom
import pytest
from pydicom.dataset import Dataset

from service.contract import ObjectKind, Reference
from service.report.build import build_study
from service.report.check import check_report, check_secondary_capture
from service.report.errors import ReportFault
from skiagraph.settings.report import ReportSettings
from tests.service.report.studies import CR, MANIFEST, MODEL, header, request, result, source

Breaking = Callable[[Dataset], None]


def objects(compression: str = "none", **changes: object) -> tuple[bytes, bytes, list[Reference]]:
    hand = source(header(**changes), result("1.2.3.4.5.6"))
    study_uid = str(changes.get("StudyInstanceUID", "1.2.3.4"))
    report, heatmap = build_study(
        request=request(study_uid),
        sources=[hand],
        model=MODEL,
        manifest=MANIFEST,
        settings=ReportSettings.model_validate({"compression": compression}),
    )
    reference = Reference(
        study_instance_uid=study_uid,
        series_instance_uid="1.2.3.4.5",
        sop_class_uid=CR,
        sop_instance_uid="1.2.3.4.5.6",
    )
    return report.data, heatmap.data, [reference, heatmap.record.reference]


def broken(data: bytes, how: Breaking) -> bytes:
    with pydicom.config.disable_value_validation():
        dataset = pydicom.dcmread(io.BytesIO(data))
        how(dataset)
        buffer = io.BytesIO()
        dataset.save_as(buffer)
    return buffer.getvalue()


def _drop(keyword: str) -> Breaking:
    return lambda dataset: delattr(dataset, keyword)


def _set(keyword: str, value: object) -> Breaking:
    return lambda dataset: setattr(dataset, keyword, value)


def _first_image(dataset: Dataset) -> Dataset:
    pending = list(dataset.ContentSequence)
    while pending:
        item = pending.pop(0)
        if item.ValueType == "IMAGE":
            return item
        pending.extend(item.get("ContentSequence", []))
    raise AssertionError("the report refers to no image")


def _refer_elsewhere(dataset: Dataset) -> None:
    _first_image(dataset).ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3.99"


def _empty_a_text(dataset: Dataset) -> None:
    next(item for item in dataset.ContentSequence if item.ValueType == "TEXT").TextValue = ""


def _forget_evidence(dataset: Dataset) -> None:
    dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence.pop()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (_drop("ContentDate"), "ContentDate (type 1) has no value"),
        (_drop("PatientID"), "PatientID (type 2) is absent"),
        (_set("SOPInstanceUID", "2.25.1"), "Media Storage SOP Instance UID differs"),
        (_set("SeriesInstanceUID", "2.25.007"), "SeriesInstanceUID is not a valid UI"),
        (_set("SeriesDescription", "x" * 65), "SeriesDescription is not a valid LO"),
        (_drop("CodingSchemeIdentificationSequence"), "coding scheme '99SKIAGRAPH' is not declared"),
        (_refer_elsewhere, "refers to an instance that is not in the evidence"),
        (_empty_a_text, "has no value"),
        (_forget_evidence, "evidence lists 1 instances"),
        (_set("SOPClassUID", "1.2.840.10008.5.1.4.1.1.88.33"), "SOP Class UID is not the one of its IOD"),
    ],
)
def test_a_broken_report_is_a_fault(how: Breaking, says: str) -> None:
    report, _, evidence = objects()
    with pytest.raises(ReportFault, match="structured_report failed the check") as raised:
        check_report(broken(report, how), evidence)
    assert any(says in fault for fault in raised.value.faults), raised.value.faults


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (_drop("ConversionType"), "ConversionType (type 1) has no value"),
        (_drop("Laterality"), "Laterality (type 2) is absent"),
        (_set("PixelData", b"\x00" * 12), "Pixel Data hold 12 bytes"),
        (_set("Rows", 3), "Pixel Data hold"),
        (_set("ImageType", "derived"), "ImageType is not a valid CS"),
    ],
)
def test_a_broken_heatmap_is_a_fault(how: Breaking, says: str) -> None:
    _, heatmap, _ = objects()
    with pytest.raises(ReportFault, match="heatmap failed the check") as raised:
        check_secondary_capture(broken(heatmap, how), ObjectKind.HEATMAP)
    assert any(says in fault for fault in raised.value.faults), raised.value.faults


def test_bytes_that_cannot_be_read_back_are_a_fault() -> None:
    with pytest.raises(ReportFault, match="cannot be read back"):
        check_report(b"not DICOM", [])


def test_a_fault_names_no_patient() -> None:
    report, _, evidence = objects(PatientName="Nobody^Knows", PatientID="secret-17")
    with pytest.raises(ReportFault) as raised:
        check_report(broken(report, _drop("ContentTime")), evidence)
    assert "Nobody" not in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("compression", ["none", "rle", "jpeg2000_lossless"])
def test_what_we_build_passes(compression: str) -> None:
    report, heatmap, evidence = objects(compression)
    assert check_report(report, evidence) == ()
    assert check_secondary_capture(heatmap, ObjectKind.HEATMAP) == ()


def test_faults_of_the_source_are_counted_apart() -> None:
    report, heatmap, evidence = objects(
        StudyInstanceUID="1.2.3.04", PatientSex="female", StudyDate="yesterday", PatientID="x" * 70
    )
    repeated = ("PatientID", "PatientSex", "StudyDate", "StudyInstanceUID")
    assert check_report(report, evidence) == repeated
    assert check_secondary_capture(heatmap, ObjectKind.HEATMAP) == repeated
