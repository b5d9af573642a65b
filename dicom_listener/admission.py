"""Who and what is let in: decisions, from values to a value (PS3.8 table 9-21, PS3.4 table B.2-1)."""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from dicom_listener.headers import Headers, is_uid
from service.contract import IMPLEMENTATION_CLASS_UID
from skiagraph.settings.listener import ListenerSettings

SOP_CLASSES: Final = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)
_NO_RADIOGRAPHS: Final = frozenset({"SR", "OT", "KO", "PR", "SEG"})

SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
DOES_NOT_MATCH: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000


class Reason(StrEnum):
    """Why somebody or something is not let in; metrics and the ledger use these words."""

    CALLED_AE = "called_ae_not_recognised"
    CALLING_AE = "calling_ae_not_recognised"
    ADDRESS = "address_not_recognised"
    OURSELVES = "own_implementation"
    NO_SPACE = "out_of_resources"
    TOO_MANY = "too_many_associations"
    STOPPING = "shutting_down"
    INVALID_UID = "invalid_uid"
    SOP_CLASS = "sop_class_does_not_match"
    SOP_INSTANCE = "sop_instance_does_not_match"
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"
    NOT_KEPT = "storage_failed"


class Fault(StrEnum):
    """What was wrong with a connection; metrics use these words."""

    NOTHING_SENT = "nothing_sent"
    NOT_DICOM = "not_dicom"
    TLS_ON_PLAIN_PORT = "tls_on_plain_port"
    TOO_LONG = "pdu_too_long"
    CUT_SHORT = "pdu_cut_short"
    STALLED = "stalled"
    INVALID = "invalid_pdu"


@dataclass(frozen=True, kw_only=True)
class AssociationRefusal:
    """A-ASSOCIATE-RJ: result, source, diagnostic."""

    reason: Reason
    result: int
    source: int
    diagnostic: int


@dataclass(frozen=True, kw_only=True)
class StoreRefusal:
    """A C-STORE response that is not a success. text: for people, free of PHI."""

    reason: Reason
    status: int
    text: str


def associate(
    settings: ListenerSettings,
    *,
    calling_ae: str,
    called_ae: str,
    address: str,
    implementation_class_uid: str,
    free_bytes: int,
    active: int,
    stopping: bool,
) -> AssociationRefusal | None:
    """Whether an association is refused. active: associations open beside this one."""
    if stopping:
        return AssociationRefusal(reason=Reason.STOPPING, result=2, source=3, diagnostic=1)
    if called_ae not in (settings.ae_title, *settings.other_ae_titles):
        return AssociationRefusal(reason=Reason.CALLED_AE, result=1, source=1, diagnostic=7)
    if implementation_class_uid == IMPLEMENTATION_CLASS_UID:
        return AssociationRefusal(reason=Reason.OURSELVES, result=1, source=1, diagnostic=1)
    if settings.peers:
        hosts = [peer.host for peer in settings.peers if peer.ae_title == calling_ae]
        if not hosts:
            return AssociationRefusal(reason=Reason.CALLING_AE, result=1, source=1, diagnostic=3)
        if not any(host is None or _same_address(host, address) for host in hosts):
            return AssociationRefusal(reason=Reason.ADDRESS, result=1, source=1, diagnostic=3)
    if active >= settings.max_associations:
        return AssociationRefusal(reason=Reason.TOO_MANY, result=2, source=3, diagnostic=2)
    if free_bytes < settings.reserve_bytes:
        return AssociationRefusal(reason=Reason.NO_SPACE, result=2, source=3, diagnostic=1)
    return None


def before_reading(
    settings: ListenerSettings, *, sop_class_uid: str, sop_instance_uid: str, size_bytes: int, free_bytes: int
) -> StoreRefusal | None:
    """What the C-STORE request itself rules out, before the data set is looked at."""
    if not is_uid(sop_instance_uid) or not is_uid(sop_class_uid):
        return StoreRefusal(
            reason=Reason.INVALID_UID,
            status=CANNOT_UNDERSTAND,
            text="Affected SOP Instance UID is not a valid UID",
        )
    if size_bytes > settings.max_instance_bytes:
        return StoreRefusal(
            reason=Reason.TOO_LARGE,
            status=OUT_OF_RESOURCES,
            text=f"{size_bytes} bytes are more than max_instance_bytes",
        )
    if free_bytes < settings.reserve_bytes:
        return StoreRefusal(
            reason=Reason.NO_SPACE, status=OUT_OF_RESOURCES, text="free space is below reserve_bytes"
        )
    return None


def after_reading(headers: Headers, *, sop_class_uid: str, sop_instance_uid: str) -> StoreRefusal | None:
    """The data set must be what the request says it is."""
    if headers.sop_class_uid != sop_class_uid:
        return StoreRefusal(
            reason=Reason.SOP_CLASS, status=DOES_NOT_MATCH, text="SOP Class UID differs from the request"
        )
    if headers.sop_instance_uid != sop_instance_uid:
        return StoreRefusal(
            reason=Reason.SOP_INSTANCE,
            status=DOES_NOT_MATCH,
            text="SOP Instance UID differs from the request",
        )
    return None


def ignored(headers: Headers) -> str | None:
    """Why an instance is kept but never scored: our own work that came back, or no kind of radiograph."""
    if headers.made_by_us:
        return "made_by_us"
    if headers.modality in _NO_RADIOGRAPHS and headers.sop_class_uid != SecondaryCaptureImageStorage:
        return "modality"
    if headers.modality in _NO_RADIOGRAPHS - {"OT"}:
        return "modality"
    return None if headers.sop_class_uid in SOP_CLASSES else "sop_class"


def _same_address(configured: str, seen: str) -> bool:
    try:
        return ipaddress.ip_address(seen) in ipaddress.ip_network(configured, strict=False)
    except ValueError:
        return configured == seen
