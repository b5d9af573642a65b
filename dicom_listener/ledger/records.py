"""What the ledger takes and gives: frozen values."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dicom_listener.ledger.states import DeliveryState, ReportState, RevisionState


class Trigger(StrEnum):
    """Why a revision was cut."""

    QUIET_PERIOD = "quiet_period"
    MAX_WAIT = "max_wait"
    EXPECTED_VIEWS = "expected_views"
    REPLAY = "replay"
    FORCED = "forced"


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One instance that is safely on disk. path is relative to the spool."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    modality: str
    calling_ae: str
    called_ae: str
    peer_address: str
    path: str
    size_bytes: int
    received_at: datetime
    ignored: str | None = None


@dataclass(frozen=True, kw_only=True)
class StoredInstance(Arrival):
    """An `Arrival` that the ledger knows; a larger id came later."""

    id: int


@dataclass(frozen=True, kw_only=True)
class Route:
    """What is to be done with a study; `state` is where its revision starts."""

    state: RevisionState = RevisionState.READY
    rule: str | None = None
    reason: str | None = None  # of the rule, for what it drops or holds
    gate: bool = True
    model: str | None = None
    operating_point: str | None = None
    priority: int = 5
    destinations: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Revision:
    study_instance_uid: str
    revision: int
    state: RevisionState
    trigger: str
    rule: str | None
    last_instance_id: int
    result_time: datetime
    last_received_at: datetime
    model: str | None
    operating_point: str | None
    gate: bool
    priority: int
    destinations: tuple[str, ...]
    attempts: int
    faults: int
    retry_since: datetime
    next_attempt_at: datetime
    error: str | None
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Delivery:
    study_instance_uid: str
    revision: int
    destination: str
    state: DeliveryState
    attempts: int
    retry_since: datetime
    next_attempt_at: datetime
    error: str | None
    accepted: tuple[int, ...]
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class OutgoingObject:
    """One object of a result; path is relative to the spool."""

    position: int
    kind: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class SopReference:
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class ReportDue:
    """A Storage Commitment request of a peer, to be answered with what we have."""

    id: int
    transaction_uid: str
    calling_ae: str
    called_ae: str
    peer_address: str
    items: tuple[SopReference, ...]
    state: ReportState
    attempts: int
    retry_since: datetime
    next_attempt_at: datetime


class RequestKind(StrEnum):
    FORCE = "force"
    PROCEED = "proceed"
    RETRY = "retry"
    REPLAY = "replay"
    DISCARD = "discard"


@dataclass(frozen=True, kw_only=True)
class Request:
    """Something that somebody asked of the node from another process."""

    id: int
    kind: RequestKind
    study_instance_uid: str
    model: str | None


@dataclass(frozen=True, kw_only=True)
class Event:
    at: datetime
    kind: str
    study_instance_uid: str | None
    revision: int | None
    detail: dict[str, object]
