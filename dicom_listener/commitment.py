"""Storage Commitment Push Model (PS3.4 annex J): its data sets, and what is true of an instance."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pydicom import Dataset
from pydicom.sequence import Sequence as DicomSequence

from dicom_listener.errors import UnfitRequestError
from dicom_listener.headers import is_uid
from dicom_listener.ledger.records import ReportDue, SopReference, StoredInstance
from skiagraph.settings.listener import Destination, ListenerSettings

SOP_CLASS: Final = "1.2.840.10008.1.20.1"
SOP_INSTANCE: Final = "1.2.840.10008.1.20.1.1"  # well-known
REQUEST: Final = 1  # Action Type ID
ALL_COMMITTED: Final = 1  # Event Type IDs
FAILURES_EXIST: Final = 2
PROCESSING_FAILURE: Final = 0x0110  # Failure Reasons (PS3.3 C.14.1.1)
NO_SUCH_INSTANCE: Final = 0x0112
CLASS_INSTANCE_CONFLICT: Final = 0x0119
_MOST_ITEMS: Final = 10_000


class Result(StrEnum):
    """How a transaction ends; metrics use these words."""

    COMMITTED = "committed"
    FAILED = "failed"  # not for every instance
    UNANSWERED = "unanswered"  # no report came in time, or the peer did not take ours


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """What a request or a report says. failed: instance to Failure Reason."""

    transaction_uid: str
    items: tuple[SopReference, ...] = ()
    failed: Mapping[SopReference, int]


def read(information: Dataset) -> Transaction:
    """Read an Action Information or an Event Information; raises UnfitRequestError."""
    transaction = str(information.get("TransactionUID") or "")
    if not is_uid(transaction):
        raise UnfitRequestError("Transaction UID is missing or no UID")
    items = [_reference(item) for item in _sequence(information, "ReferencedSOPSequence")]
    failed = {
        _reference(item): int(item.get("FailureReason") or PROCESSING_FAILURE)
        for item in _sequence(information, "FailedSOPSequence")
    }
    if not items and not failed:
        raise UnfitRequestError("Referenced SOP Sequence is missing or empty")
    if len(items) + len(failed) > _MOST_ITEMS:
        raise UnfitRequestError(f"more than {_MOST_ITEMS} instances in one request")
    return Transaction(transaction_uid=transaction, items=tuple(items), failed=failed)


def action(transaction_uid: str, items: Iterable[SopReference]) -> Dataset:
    """Action Information: a request to commit."""
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [_item(one) for one in items]
    return information


def report(answer: Transaction) -> tuple[int, Dataset]:
    """Event Type ID and Event Information."""
    information = Dataset()
    information.TransactionUID = answer.transaction_uid
    if answer.items:
        information.ReferencedSOPSequence = [_item(one) for one in answer.items]
    if not answer.failed:
        return ALL_COMMITTED, information
    information.FailedSOPSequence = [_item(one) for one in answer.failed]
    for item, reason in zip(information.FailedSOPSequence, answer.failed.values(), strict=True):
        item.FailureReason = reason
    return FAILURES_EXIST, information


def judge(
    asked: ReportDue, known: Mapping[str, StoredInstance], is_kept: Callable[[StoredInstance], bool]
) -> Transaction:
    """What we can truthfully commit to: instances that the ledger knows and whose bytes are on disk."""
    reasons = {item: _failure(item, known.get(item.sop_instance_uid), is_kept) for item in asked.items}
    return Transaction(
        transaction_uid=asked.transaction_uid,
        items=tuple(item for item, reason in reasons.items() if reason is None),
        failed={item: reason for item, reason in reasons.items() if reason is not None},
    )


def requester(settings: ListenerSettings, asked: ReportDue) -> Destination | None:
    """Where a report goes when the association of its request is gone; None: no port is known."""
    for destination in settings.destinations:
        if destination.ae_title == asked.calling_ae:
            return destination
    for peer in settings.peers:
        if peer.ae_title == asked.calling_ae and peer.port is not None:
            host = asked.peer_address if peer.host is None or "/" in peer.host else peer.host
            return Destination(
                name="requester", ae_title=peer.ae_title, host=host, port=peer.port, tls=peer.tls
            )
    return None


def _failure(
    item: SopReference, found: StoredInstance | None, is_kept: Callable[[StoredInstance], bool]
) -> int | None:
    if found is None:
        return NO_SUCH_INSTANCE
    if found.sop_class_uid != item.sop_class_uid:
        return CLASS_INSTANCE_CONFLICT
    return None if is_kept(found) else NO_SUCH_INSTANCE


def _sequence(dataset: Dataset, keyword: str) -> Sequence[Dataset]:
    found = dataset.get(keyword)
    return found if isinstance(found, DicomSequence) else ()


def _reference(item: Dataset) -> SopReference:
    found = SopReference(
        sop_class_uid=str(item.get("ReferencedSOPClassUID") or ""),
        sop_instance_uid=str(item.get("ReferencedSOPInstanceUID") or ""),
    )
    if not is_uid(found.sop_class_uid) or not is_uid(found.sop_instance_uid):
        raise UnfitRequestError("a Referenced SOP Class UID or Referenced SOP Instance UID is no UID")
    return found


def _item(reference: SopReference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return item
