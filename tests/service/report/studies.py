"""Studies as PACS systems hold them: made by hypothesis, through real DICOM bytes, with every kind of gap."""

import io
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import cv2
import numpy as np
import pydicom
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian

from models.package import Calibration, Gate, GateClass, Golden, Manifest
from models.package import OperatingPoint as PackagePoint
from models.rejection import RejectionCode
from service.contract import (
    InstanceResult,
    ModelIdentity,
    OperatingPoint,
    Reference,
    Region,
    Status,
    StudyRequest,
)
from service.report.inputs import SourceInstance
from skiagraph.settings.report import ReportSettings

CR = "1.2.840.10008.5.1.4.1.1.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"
RESULT_TIME = datetime(2026, 11, 22, 21, 0, 0, 123400, tzinfo=UTC)

MODEL = ModelIdentity(
    name="synthetic-defects",
    version="1.2.0",
    engine="onnxruntime",
    precision="fp32",
    parity=1.25e-6,
    weights_sha256="ab" * 32,
)
POINT = OperatingPoint(
    name="specificity-95",
    specificity=0.95,
    threshold=3.6,
    sensitivity=0.31,
    sensitivity_low=0.2,
    sensitivity_high=0.44,
    sensitivity_statement="49 fractured hands – validation",
)
_GOLDEN = Golden(file="golden.npz", tolerance=1e-3)
MANIFEST = Manifest(
    name=MODEL.name,
    version=MODEL.version,
    title="Local defects in hand radiographs",
    created="2026-11-22",
    input_px=384,
    files_sha256={"model.onnx": MODEL.weights_sha256},
    calibration=Calibration(
        score_quantiles=tuple(np.linspace(1.9, 4.8, 101).tolist()),
        novelty_quantiles=tuple(np.linspace(2.0, 8.0, 101).tolist()),
        map_floor=1.4,
        region_threshold=2.9,
        map_ceiling=6.6,
        normals=270,
        statement="FracAtlas, ≥ 18 years",
    ),
    operating_points=(PackagePoint(name=POINT.name, specificity=0.95, threshold=3.6),),
    default_operating_point=POINT.name,
    gate=Gate(thumbnail_px=96, classes=(GateClass(name="hand", accept=True),), threshold=0.5),
    golden=_GOLDEN,
    gate_golden=_GOLDEN,
    training_data="none: made for tests",
    licence="Apache-2.0",
)

# Specific Character Set and a name that needs it (PS3.3 C.12.1.1.2, PS3.5 H and I).
NAMES: list[tuple[Any, str]] = [
    (None, "Doe^Jane"),
    ("ISO_IR 100", "Müller^Jürgen"),
    ("ISO_IR 101", "Wałęsa^Łucja"),
    ("ISO_IR 144", "Люкceмбypг^Иван"),
    ("ISO_IR 126", "Διονυσιος"),
    ("ISO_IR 127", "قباني^لنزار"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
    ("GB18030", "Wang^XiaoDong=王^小东"),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
]


def _maybe(values: list[Any]) -> st.SearchStrategy[Any]:
    """One of the values, or `...` for an attribute that is absent."""
    return st.sampled_from([..., *values])


VALID_HEADERS: dict[str, st.SearchStrategy[Any]] = {
    "PatientID": _maybe(["4711", ""]),
    "PatientBirthDate": _maybe(["19700131", ""]),
    "PatientSex": _maybe(["M", "F", "O", ""]),
    "PatientAge": _maybe(["056Y"]),
    "StudyDate": _maybe(["20261122", ""]),
    "StudyTime": _maybe(["101500", "101500.123", ""]),
    "StudyID": _maybe(["1", ""]),
    "AccessionNumber": _maybe(["A123", ""]),
    "ReferringPhysicianName": _maybe(["Roe^Richard", ""]),
    "StudyDescription": _maybe(["Hand left 2 views"]),
    "TimezoneOffsetFromUTC": _maybe(["-0500", "+0530"]),
    "Laterality": _maybe(["R", "L", ""]),
    "ImageLaterality": _maybe(["R", "L", "B"]),
    "ViewPosition": _maybe(["PA", "AP", "LL", "RLO", ""]),
    "PatientOrientation": _maybe([["R", "F"], ["L", "FP"], ""]),
    "InstanceNumber": _maybe(["1", "12", ""]),
    "BodyPartExamined": _maybe(["HAND", "EXTREMITY"]),
    "LossyImageCompression": _maybe(["00", "01"]),
    "LossyImageCompressionRatio": _maybe(["11.9", ["10", "2.5"], ""]),
    "LossyImageCompressionMethod": _maybe(["ISO_10918_1", ["ISO_10918_1", "ISO_15444_1"], ""]),
}
# What is found in the wild and is against the standard: repeated as it is, counted apart.
INVALID_HEADERS: dict[str, st.SearchStrategy[Any]] = {
    **VALID_HEADERS,
    "PatientID": _maybe(["x" * 70, "back\\slash", "4711"]),
    "PatientBirthDate": _maybe(["01/31/1970", "1970"]),
    "PatientSex": _maybe(["female", "m"]),
    "StudyDate": _maybe(["2026.11.22", "yesterday"]),
    "StudyTime": _maybe(["10:15", "noon"]),
    "StudyID": _maybe(["a study id that is far too long"]),
    "AccessionNumber": _maybe(["accession number beyond sixteen"]),
    "TimezoneOffsetFromUTC": _maybe(["CET", "+9"]),
    "Laterality": _maybe(["left", "X"]),
    "ViewPosition": _maybe(["dorso palmar view"]),
    "PatientOrientation": _maybe(
        [["R", "F", "H"], "?", ["l", "f"], ["Left", "Foot"], ["L/R", "F"], ["X", "Y"]]
    ),
    "LossyImageCompressionRatio": _maybe(["11.9047619047619047", "10:1", "1,5", ["10", "much"]]),
    "LossyImageCompressionMethod": _maybe(["ISO 10918-1", "jpeg", ["ISO_10918_1", "x" * 17]]),
    "InstanceNumber": _maybe(["one", "-3"]),
}


def through_bytes(dataset: Dataset) -> Dataset:
    """As a receiver sees it: written, read back, nothing converted yet."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID") or CR
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or "1.2"
    dataset.file_meta = meta
    dataset.preamble = bytes(128)
    buffer = io.BytesIO()
    with pydicom.config.disable_value_validation():
        pydicom.dcmwrite(buffer, dataset)
    return pydicom.dcmread(io.BytesIO(buffer.getvalue()))


def radiograph(width: int, height: int) -> NDArray[np.uint8]:
    """A grey wedge with a bright bar: something to see, cheaply."""
    display = np.tile(np.linspace(10, 120, width).astype(np.uint8), (height, 1))
    display[height // 4 : -height // 4, width // 3 : -width // 3] += 100
    return display


def anomaly_map(width: int, height: int, peak: float) -> NDArray[np.float32]:
    small = np.zeros((24, 24), np.float32)
    small[10:13, 11:14] = peak
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def result(uid: str, **changes: Any) -> InstanceResult:
    scored = {
        "sop_instance_uid": uid,
        "status": Status.SCORED,
        "score": 4.123456789,
        "percentile": 97.5,
        "novelty": 5.25,
        "abnormal": True,
        "model": MODEL,
        "operating_point": POINT,
        "seconds": 0.2,
    }
    return InstanceResult.model_validate(scored | changes)


def not_analysed(
    uid: str, code: str = "not_a_hand", reason: str = "it shows a chest, not a hand"
) -> InstanceResult:
    readable = code in RejectionCode.__members__.values() and not RejectionCode(code).unreadable
    return InstanceResult(
        sop_instance_uid=uid,
        status=Status.NOT_ANALYSABLE if readable else Status.ERROR,
        reason_code=code,
        reason=reason,
        model=MODEL,
        seconds=0.1,
    )


def source(header: Dataset, answer: InstanceResult, width: int = 120, height: int = 150) -> SourceInstance:
    """A source instance whose pictures fit `answer`."""
    shown = answer.status is not Status.ERROR
    return SourceInstance(
        dataset=header,
        display=radiograph(width, height) if shown else None,
        source_width_px=2 * width if shown else 0,
        source_height_px=2 * height if shown else 0,
        result=answer,
        anomaly_map=anomaly_map(width, height, 5.0) if answer.status is Status.SCORED else None,
    )


def header(**changes: Any) -> Dataset:
    """A complete header of a CR hand; a value of `...` leaves the attribute out."""
    values = {
        "SOPClassUID": CR,
        "SOPInstanceUID": "1.2.3.4.5.6",
        "StudyInstanceUID": "1.2.3.4",
        "SeriesInstanceUID": "1.2.3.4.5",
        "Modality": "CR",
        "PatientName": "Doe^Jane",
        "PatientID": "4711",
        "StudyDate": "20261122",
        "StudyTime": "101500",
        "Laterality": "R",
        "ViewPosition": "PA",
        "InstanceNumber": "1",
    } | changes
    dataset = Dataset()
    with pydicom.config.disable_value_validation():
        for keyword, value in values.items():
            if value is not ...:
                # Implicit VR on the wire: a receiver takes this text for whatever the dictionary says it is.
                dataset.add_new(keyword, _as_text(keyword), value)
    return through_bytes(dataset)


def _as_text(keyword: str) -> str:
    vr = dictionary_VR(keyword)
    return "LO" if vr in ("IS", "DS") else vr


def request(study_instance_uid: str = "1.2.3.4", **changes: Any) -> StudyRequest:
    return StudyRequest(study_instance_uid=study_instance_uid, result_time=RESULT_TIME, **changes)


@st.composite
def regions(draw: st.DrawFn, width: int, height: int) -> tuple[Region, ...]:
    count = draw(st.sampled_from([0, 0, 1, 2, 5, 30]))
    made = []
    for _ in range(count):
        x, y = draw(st.floats(0, width - 1)), draw(st.floats(0, height - 1))
        wide, high = draw(st.floats(0.5, width - x)), draw(st.floats(0.5, height - y))
        made.append(Region(x=x, y=y, width=wide, height=high, score=draw(st.floats(2.9, 12))))
    return tuple(sorted(made, key=lambda region: -region.score))


@st.composite
def results(draw: st.DrawFn, uid: str, width: int, height: int) -> InstanceResult:
    kind = draw(st.sampled_from(["scored", "scored", "scored", "rejected"]))
    if kind == "rejected":
        code = draw(st.sampled_from([*(code.value for code in RejectionCode), "engine_fault"]))
        return not_analysed(uid, code, draw(st.sampled_from(["it shows a chest — not a hand.", "damaged"])))
    score = draw(st.floats(-5, 60, allow_nan=False))
    return result(
        uid,
        score=score,
        percentile=draw(st.floats(0, 100)),
        novelty=draw(st.one_of(st.none(), st.floats(0, 30))),
        abnormal=score > POINT.threshold,
        regions=draw(regions(2 * width, 2 * height)),
        operating_point=draw(st.sampled_from([POINT, POINT.model_copy(update={"sensitivity": None})])),
    )


@st.composite
def studies(
    draw: st.DrawFn, *, headers: dict[str, st.SearchStrategy[Any]]
) -> tuple[StudyRequest, list[SourceInstance], ReportSettings]:
    """A request, one to four source instances of one study and patient, and settings."""
    valid = headers is VALID_HEADERS
    root = f"1.2.826.0.1.{draw(st.integers(1, 10**9))}"
    study_uid = root if valid else draw(st.sampled_from([root, f"{root}.007", "999.999.1"]))
    charset, name = draw(st.sampled_from(NAMES))
    of_instance = {
        "Laterality",
        "ImageLaterality",
        "ViewPosition",
        "PatientOrientation",
        "InstanceNumber",
        "LossyImageCompression",
        "LossyImageCompressionRatio",
        "LossyImageCompressionMethod",
    }
    shared = {key: draw(values) for key, values in headers.items() if key not in of_instance}
    sources = []
    for index in range(draw(st.integers(1, 4))):
        uid = f"{root}.1.{index}"
        width, height = draw(st.integers(40, 160)), draw(st.integers(40, 160))
        own = {key: draw(values) for key, values in headers.items() if key in of_instance}
        uids: dict[str, Any] = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": f"{root}.2.{index % 2}"}
        uids["SOPClassUID"] = draw(st.sampled_from([CR, DX]))
        if not valid:
            missing = draw(
                st.sampled_from(["", "", "", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"])
            )
            uids |= {missing: ...} if missing else {}
        made = header(
            SpecificCharacterSet=... if charset is None else charset,
            PatientName=name,
            SOPInstanceUID=uid,
            **uids,
            **shared,
            **own,
        )
        sources.append(source(made, draw(results(uid, width, height)), width, height))
    revision = draw(st.integers(1, 3))
    predecessor = Reference(
        study_instance_uid=study_uid,
        series_instance_uid="2.25.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        sop_instance_uid="2.25.2",
    )
    settings = ReportSettings(
        research_use_only=draw(st.booleans()),
        overview=draw(st.sampled_from([False, False, True])),
        compression=draw(st.sampled_from(["none"] * 8 + ["rle", "jpeg2000_lossless"])),
    )
    asked = StudyRequest(
        study_instance_uid=study_uid,
        result_time=RESULT_TIME.astimezone(timezone(timedelta(minutes=draw(st.sampled_from([0, 60, -210]))))),
        revision=revision,
        predecessor=predecessor if revision > 1 else None,
        gate=draw(st.booleans()),
    )
    return asked, sources, settings
