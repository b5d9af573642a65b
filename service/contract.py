"""The wire types between the listener, the HTTP API and its clients, and who we are in DICOM.

This module and `service.client` are all of the service that the listener may import: no numpy, no bentoml.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

MANUFACTURER: Final = "Skiagraph"
IMPLEMENTATION_VERSION_NAME: Final = "SKIAGRAPH_01"
# UUID-derived UIDs (PS3.5 B.2), made once for this project.
IMPLEMENTATION_CLASS_UID: Final = "2.25.169231491554929739403378190717377802286"
DEVICE_UID: Final = "2.25.139816023965673135483145223674536176030"
UID_NAMESPACE: Final = "2.25.252099865121061449378648387468147773177"

# The report says it in local time: what lies between has a date in every time zone.
_EARLIEST: Final = datetime(1900, 1, 1, tzinfo=UTC)
_TOO_LATE: Final = datetime(9999, 1, 1, tzinfo=UTC)

Uid = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)*$", max_length=64)]


class Wire(BaseModel):
    """Frozen and closed: an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Status(StrEnum):
    SCORED = "scored"
    NOT_ANALYSABLE = "not_analysable"
    ERROR = "error"


class Region(Wire):
    """A rectangle in source pixels, origin top left."""

    x: float
    y: float
    width: float
    height: float
    score: float


class ModelIdentity(Wire):
    """Which arithmetic answered. parity: largest deviation from the golden outputs at start-up."""

    name: str
    version: str
    engine: str
    precision: str
    parity: float
    weights_sha256: str


class OperatingPoint(Wire):
    """A threshold named by its specificity on normals, with what it was measured to find."""

    name: str
    specificity: float
    threshold: float
    sensitivity: float | None = None
    sensitivity_low: float | None = None
    sensitivity_high: float | None = None
    sensitivity_statement: str = ""


class RadiographResult(Wire):
    """What is said of one radiograph: by the command line, the HTTP API and the DICOM path alike.

    reason_code and reason are set unless status is `scored`; score (local finding), percentile (0–100 among
    held-out normals), novelty (unusual positioning or technique), abnormal and regions only when it is.
    `percentile` is of `score`; `novelty` never changes the verdict.
    """

    file: str = ""
    status: Status
    reason_code: str | None = None
    reason: str | None = None
    score: float | None = None
    percentile: float | None = None
    novelty: float | None = None
    abnormal: bool | None = None
    regions: tuple[Region, ...] = ()
    model: ModelIdentity
    operating_point: OperatingPoint | None = None
    seconds: float


class InstanceResult(RadiographResult):
    """A `RadiographResult` of one instance of a study."""

    sop_instance_uid: Uid


class ObjectKind(StrEnum):
    STRUCTURED_REPORT = "structured_report"
    HEATMAP = "heatmap"
    OVERVIEW = "overview"


class Reference(Wire):
    """A composite object referenced by its UIDs (PS3.3 C.17.2)."""

    study_instance_uid: Uid
    series_instance_uid: Uid
    sop_class_uid: Uid
    sop_instance_uid: Uid


class StudyRequest(Wire):
    """What goes with the instances of one study.

    result_time: set once by whoever asks (the listener's ledger; the clock on the command line), so that
    asking twice gives the same bytes. predecessor: the report that this one amends.
    """

    study_instance_uid: Uid
    result_time: Annotated[AwareDatetime, Field(ge=_EARLIEST, lt=_TOO_LATE)]
    revision: Annotated[int, Field(ge=1)] = 1
    predecessor: Reference | None = None
    model: str | None = None
    operating_point: str | None = None
    gate: bool = True  # off only by a rule for test patients; the report says so


class ProducedObject(Wire):
    """One DICOM object made for the study; its bytes travel beside this record, in the same order."""

    kind: ObjectKind
    reference: Reference
    source_sop_instance_uid: Uid | None = None
    sha256: str
    size_bytes: int


class StudyResult(Wire):
    """The answer for one study: one result per instance, and the objects for the PACS."""

    study_instance_uid: Uid
    revision: int
    result_time: datetime
    model: ModelIdentity
    gate: bool = True  # False: scored without asking whether it is a hand, as the request said
    results: tuple[InstanceResult, ...]
    objects: tuple[ProducedObject, ...]
    stage_seconds: dict[str, float] = Field(default_factory=dict)


class Problem(BaseModel):
    """RFC 9457 problem details with our members: a stable code, the field, the value seen, the fix."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    value: str | None = None
    fix: str | None = None
