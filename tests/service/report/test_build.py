"""One study: the same bytes when asked twice, other UIDs when anything about the answer differs."""

import hashlib
import io
from datetime import UTC, datetime

import pydicom
import pytest
from pydicom.dataset import Dataset

from models.rejection import Rejection, RejectionCode
from runners.decode import decode
from runners.decoded import DecodeLimits
from service.contract import ObjectKind, Reference
from service.report.build import build_study
from service.report.inputs import BuiltObject, SourceInstance
from skiagraph.settings.report import ReportSettings
from tests.service.report.studies import (
    MANIFEST,
    MODEL,
    NAMES,
    PDF,
    header,
    not_analysed,
    request,
    result,
    source,
)


def build(*sources: SourceInstance, **changes: object) -> list[BuiltObject]:
    arguments = {
        "request": request(),
        "model": MODEL,
        "manifest": MANIFEST,
        "settings": ReportSettings(),
    } | changes
    return build_study(sources=sources or (hand(),), **arguments)  # type: ignore[arg-type]


def hand(uid: str = "1.2.3.4.5.6", **changes: object) -> SourceInstance:
    return source(header(SOPInstanceUID=uid, **changes), result(uid))


def read(one: BuiltObject) -> Dataset:
    return pydicom.dcmread(io.BytesIO(one.data))


def uids(objects: list[BuiltObject]) -> set[str]:
    return {one.record.reference.sop_instance_uid for one in objects}


def test_one_report_and_one_heatmap_in_the_study_of_the_source() -> None:
    report, heatmap = build()
    assert (report.record.kind, heatmap.record.kind) == (ObjectKind.STRUCTURED_REPORT, ObjectKind.HEATMAP)
    assert {read(one).StudyInstanceUID for one in (report, heatmap)} == {"1.2.3.4"}
    assert heatmap.record.source_sop_instance_uid == "1.2.3.4.5.6"
    for one in (report, heatmap):
        assert one.record.sha256 == hashlib.sha256(one.data).hexdigest()
        assert one.record.size_bytes == len(one.data)


def test_the_same_question_gives_the_same_bytes() -> None:
    slower = result("1.2.3.4.5.6", seconds=99.0)
    again = source(header(), slower)
    assert [one.data for one in build()] == [one.data for one in build(again)]


@pytest.mark.parametrize(
    "changes",
    [
        {"model": MODEL.model_copy(update={"engine": "tensorrt"})},
        {"model": MODEL.model_copy(update={"precision": "fp16"})},
        {"model": MODEL.model_copy(update={"weights_sha256": "cd" * 32})},
        {"model": MODEL.model_copy(update={"parity": 2e-6})},
        {"settings": ReportSettings(research_use_only=False)},
        {"request": request(revision=2)},
    ],
    ids=["engine", "precision", "weights", "parity", "settings", "revision"],
)
def test_another_answer_has_other_uids_in_the_same_series(changes: dict[str, object]) -> None:
    before, after = build(), build(**changes)
    assert not uids(before) & uids(after)
    assert [one.record.reference.series_instance_uid for one in before] == [
        one.record.reference.series_instance_uid for one in after
    ]


def test_a_left_and_a_right_hand_are_two_series() -> None:
    _, right, left = build(hand("1.2.3.1", Laterality="R"), hand("1.2.3.2", Laterality="L"))
    assert right.record.reference.series_instance_uid != left.record.reference.series_instance_uid
    assert {read(right).Laterality, read(left).Laterality} == {"R", "L"}


def test_a_newer_version_of_an_instance_replaces_the_older_one() -> None:
    objects = build(hand(), hand(PatientName="Doe^Janet"))
    assert len(objects) == 2
    assert str(read(objects[0]).PatientName) == "Doe^Janet"


@pytest.mark.parametrize(("charset", "name"), NAMES)
def test_names_survive_in_the_character_set_of_the_source(charset: object, name: str) -> None:
    objects = build(hand(PatientName=name, SpecificCharacterSet=... if charset is None else charset))
    for one in objects:
        assert str(read(one).PatientName) == name
        assert read(one).get("SpecificCharacterSet") == charset


def test_a_study_where_nothing_is_analysable_gets_a_report() -> None:
    (report,) = build(source(header(), not_analysed("1.2.3.4.5.6")))
    dataset = read(report)
    evidence = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5.6"


def test_an_instance_without_any_header_is_reported_on() -> None:
    (report,) = build(source(Dataset(), not_analysed("1.2.9", "truncated", "the file ends too early")))
    dataset = read(report)
    assert dataset.StudyInstanceUID == "1.2.3.4"
    assert "CurrentRequestedProcedureEvidenceSequence" not in dataset


def test_an_instance_that_is_no_image_is_referenced_as_composite() -> None:
    (report,) = build(source(header(SOPClassUID=PDF), not_analysed("1.2.3.4.5.6", "unsupported_sop_class")))
    text = str(read(report))
    assert "COMPOSITE" in text
    assert "'IMAGE'" not in text


def test_an_amended_report_points_at_its_predecessor() -> None:
    predecessor = Reference(
        study_instance_uid="1.2.3.4",
        series_instance_uid="2.25.8",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        sop_instance_uid="2.25.9",
    )
    report = build(request=request(revision=2, predecessor=predecessor))[0]
    study = read(report).PredecessorDocumentsSequence[0]
    assert study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "2.25.9"
    assert read(report).InstanceNumber == 2


def test_study_time_keeps_its_meaning_in_the_zone_of_the_source() -> None:
    dataset = read(build(hand(TimezoneOffsetFromUTC="-0500"))[0])
    assert (dataset.TimezoneOffsetFromUTC, dataset.StudyTime) == ("-0500", "101500")
    assert (dataset.ContentDate, dataset.ContentTime) == ("20261122", "160000.123400")


@pytest.mark.parametrize("offset", ["+1400", "-1200", "+235959", "-235959"])
@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(999, 6, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    ],
    ids=str,
)
def test_any_moment_is_said_in_any_zone(moment: datetime, offset: str) -> None:
    asked = request().model_copy(update={"result_time": moment})
    for one in build(hand(TimezoneOffsetFromUTC=offset), request=asked):
        dataset = read(one)
        said = f"{dataset.ContentDate}{dataset.ContentTime}{dataset.TimezoneOffsetFromUTC}"
        assert datetime.strptime(said, "%Y%m%d%H%M%S.%f%z") == moment


@pytest.mark.parametrize(
    ("source_says", "is_said"),
    [
        (["R", "FP"], ["R", "FP"]),
        (["l", "f"], None),
        (["Left", "Foot"], None),
        (["L/R", "F"], None),
        (["X", "Y"], None),
    ],
)
def test_an_orientation_is_copied_where_it_is_one(source_says: list[str], is_said: list[str] | None) -> None:
    heatmap = read(build(hand(PatientOrientation=source_says))[1])
    assert (heatmap.PatientOrientation or None) == is_said


@pytest.mark.parametrize("ratio", ["11.9", "11.9047619047619047", "10:1", "1,5", ["10", "much"], ""])
@pytest.mark.parametrize("method", ["ISO_10918_1", "ISO 10918-1", "jpeg", ""])
def test_once_lossy_is_always_lossy_whatever_else_is_said_of_it(ratio: str | list[str], method: str) -> None:
    lossy = {"LossyImageCompressionRatio": ratio, "LossyImageCompressionMethod": method}
    heatmap = read(build(hand(LossyImageCompression="01", **lossy))[1])
    assert heatmap.LossyImageCompression == "01"
    assert heatmap.get("LossyImageCompressionRatio") == (11.9 if ratio == "11.9" else None)
    assert heatmap.get("LossyImageCompressionMethod") == ("ISO_10918_1" if method == "ISO_10918_1" else None)


@pytest.mark.parametrize("compression", ["none", "rle", "jpeg2000_lossless"])
def test_no_picture_of_ours_is_read_as_a_radiograph(compression: str) -> None:
    chosen = ReportSettings.model_validate({"compression": compression, "overview": True})
    _, heatmap, overview = build(settings=chosen)
    for picture in (heatmap, overview):
        refused = decode(picture.data, limits=DecodeLimits())
        assert isinstance(refused, Rejection)
        assert refused.code is RejectionCode.NOT_A_RADIOGRAPH


@pytest.mark.parametrize("compression", ["none", "rle", "jpeg2000_lossless"])
def test_compression_loses_nothing(compression: str) -> None:
    heatmap = build(settings=ReportSettings.model_validate({"compression": compression}))[1]
    assert heatmap.picture is not None
    assert (read(heatmap).pixel_array == heatmap.picture).all()


def test_the_overview_shows_all_and_is_evidence() -> None:
    rejected = source(header(SOPInstanceUID="1.2.3.7"), not_analysed("1.2.3.7"))
    objects = build(hand(), rejected, settings=ReportSettings(overview=True))
    assert [one.record.kind for one in objects] == ["structured_report", "heatmap", "overview"]
    assert objects[2].record.reference.sop_instance_uid in str(
        read(objects[0]).CurrentRequestedProcedureEvidenceSequence
    )


def test_another_result_on_the_overview_is_another_instance() -> None:
    settings = ReportSettings(overview=True)
    other = source(header(), result("1.2.3.4.5.6", score=4.5))
    assert not uids(build(settings=settings)) & uids(build(other, settings=settings))


def test_no_patient_identifier_is_drawn() -> None:
    named, unnamed = build()[1].picture, build(hand(PatientName="", PatientID=""))[1].picture
    assert named is not None
    assert unnamed is not None
    assert (named == unnamed).all()


def test_faults_of_the_source_are_told_beside_the_objects() -> None:
    assert [one.source_faults for one in build(hand(PatientSex="female"))] == [("PatientSex",)] * 2
    assert [one.source_faults for one in build()] == [(), ()]


def test_a_study_without_instances_is_refused() -> None:
    with pytest.raises(ValueError, match="no instances"):
        build_study(request=request(), sources=[], model=MODEL, manifest=MANIFEST, settings=ReportSettings())
