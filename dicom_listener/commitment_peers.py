"""Storage Commitment with peers: their requests and reports come in, our reports go out (PS3.4 J.3)."""

import threading
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from pydicom import Dataset
from pynetdicom import build_role
from pynetdicom.association import Association
from sqlalchemy.exc import SQLAlchemyError

from dicom_listener import commitment, delivery, metrics, retry
from dicom_listener.commitment import Result
from dicom_listener.errors import UnfitRequestError, UnreachablePeerError
from dicom_listener.ledger import commitments, journal
from dicom_listener.ledger.connection import Database
from dicom_listener.ledger.records import ReportDue, StoredInstance
from dicom_listener.ledger.states import ReportState
from dicom_listener.spool import Spool
from skiagraph import log
from skiagraph.settings.listener import ListenerSettings

_log = log.get(__name__)
SUCCESS: Final = 0x0000
INVALID_ARGUMENT: Final = 0x0115
NO_SUCH_ACTION: Final = 0x0123
RESOURCE_LIMITATION: Final = 0x0213
# The requester may release its association at once; a report that meets the release would be lost.
_MAY_RELEASE_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 10.0


class CommitmentPeers:
    """Handlers for associations, and the sending of reports; safe to use from any thread."""

    def __init__(self, settings: ListenerSettings, *, database: Database, spool: Spool) -> None:
        self._settings = settings
        self._database = database
        self._spool = spool
        self._lock = threading.Lock()
        self._requesters: dict[tuple[str, str], Association] = {}  # by AE title and transaction

    def requested(self, event: Any) -> tuple[int, None]:
        """Answer an N-ACTION: 0x0000 once the request is durable."""
        return self._requested(event), None

    def reported(self, event: Any) -> tuple[int, None]:
        """Answer an N-EVENT-REPORT: what a destination says of our results."""
        return self._reported(event), None

    def _requested(self, event: Any) -> int:
        if event.action_type != commitment.REQUEST:
            return NO_SUCH_ACTION
        try:
            asked = commitment.read(event.action_information)
        except UnfitRequestError as error:
            _log.warning("storage commitment request refused", reason=str(error))
            return INVALID_ARGUMENT
        calling = str(event.assoc.requestor.ae_title).strip()
        try:
            with self._database.write() as connection:
                commitments.requested(
                    connection,
                    transaction_uid=asked.transaction_uid,
                    calling_ae=calling,
                    called_ae=str(event.assoc.requestor.primitive.called_ae_title).strip(),
                    peer_address=event.assoc.requestor.address,
                    items=asked.items,
                    due_at=journal.now() + timedelta(seconds=_MAY_RELEASE_SECONDS),
                )
        except SQLAlchemyError as error:
            _log.error("a storage commitment request could not be kept", reason=type(error).__name__)
            return RESOURCE_LIMITATION
        with self._lock:
            self._requesters[calling, asked.transaction_uid] = event.assoc
        return SUCCESS

    def _reported(self, event: Any) -> int:
        try:
            answer = commitment.read(event.event_information)
            with self._database.write() as connection:
                asked = commitments.delivery_of(connection, answer.transaction_uid)
                if asked is None:
                    raise UnfitRequestError("the transaction is not ours")
                complete, ended = commitments.answered(
                    connection,
                    asked,
                    answer.transaction_uid,
                    answer.items,
                    next_attempt_at=retry.next_attempt(
                        self._settings.retry,
                        attempts=asked.attempts,
                        since=asked.retry_since,
                        now=journal.now(),
                    ),
                )
        except UnfitRequestError as error:
            _log.warning("storage commitment report refused", reason=str(error))
            return INVALID_ARGUMENT
        except SQLAlchemyError as error:
            _log.error("a storage commitment report could not be kept", reason=type(error).__name__)
            return RESOURCE_LIMITATION
        result = Result.COMMITTED if complete else Result.FAILED
        metrics.storage_commitment_total.labels("scu", result.value).inc()
        _log.info(
            "destination answered for our objects",
            study=asked.study_instance_uid,
            destination=asked.destination,
            result=result.value,
        )
        if ended:
            metrics.observe_turnaround(ended.last_received_at)
        return SUCCESS

    def report(self, number: int, attempt: int) -> str:
        """One attempt at telling a peer what we have of its instances."""
        with self._database.read() as connection:
            asked = commitments.get_report(connection, number)
            known = commitments.newest_of(connection, asked.items)
        if asked.state is not ReportState.PENDING or asked.attempts != attempt:
            return "nothing to do"
        answer = commitment.judge(asked, known, self._is_kept)
        event_type, information = commitment.report(answer)
        following = retry.next_attempt(
            self._settings.retry, attempts=attempt, since=asked.retry_since, now=journal.now()
        )
        try:
            if not self._on_its_association(asked, event_type, information):
                self._on_a_new_association(asked, event_type, information)
        except _NotTakenError as error:
            return self._not_reported(asked, str(error), following if error.again else None)
        by_study = Counter(
            (
                found.study_instance_uid if (found := known.get(item.sop_instance_uid)) else None,
                item in answer.failed,
            )
            for item in asked.items
        )
        with self._database.write() as connection:
            commitments.reported(
                connection,
                asked,
                {study: (by_study[study, False], by_study[study, True]) for study, _ in by_study},
            )
        result = Result.FAILED if answer.failed else Result.COMMITTED
        metrics.storage_commitment_total.labels("scp", result.value).inc()
        return result.value

    def _is_kept(self, instance: StoredInstance) -> bool:
        path = self._spool.path(instance.path)
        return path.is_file() and path.stat().st_size == instance.size_bytes

    def _on_its_association(self, asked: ReportDue, event_type: int, information: Dataset) -> bool:
        with self._lock:
            association = self._requesters.pop((asked.calling_ae, asked.transaction_uid), None)
            self._requesters = {key: one for key, one in self._requesters.items() if one.is_alive()}
        if association is None or not association.is_established:
            return False
        association.dimse_timeout = _ANSWER_SECONDS
        with suppress(_NotTakenError):
            _event_report(association, event_type, information)
            return True
        return False

    def _on_a_new_association(self, asked: ReportDue, event_type: int, information: Dataset) -> None:
        requester = commitment.requester(self._settings, asked)
        if requester is None:
            raise _NotTakenError(
                f"{asked.calling_ae} has ended its association, and listener.peers has no port for it",
                again=False,
            )
        entity = delivery.new_entity(self._settings, asked.called_ae)
        entity.add_requested_context(commitment.SOP_CLASS)
        role = build_role(commitment.SOP_CLASS, scp_role=True)
        try:
            association = delivery.associate(entity, requester, ext_neg=[role])
        except UnreachablePeerError as error:
            raise _NotTakenError(str(error)) from error
        if not association.is_established:
            raise _NotTakenError(f"{asked.calling_ae} {delivery.why_not(association)}")
        try:
            _event_report(association, event_type, information)
        finally:
            association.release()

    def _not_reported(self, asked: ReportDue, error: str, following: datetime | None) -> str:
        _log.warning("storage commitment report not taken", calling_ae=asked.calling_ae, reason=error)
        with self._database.write() as connection:
            commitments.not_reported(connection, asked, error=error, next_attempt_at=following)
        if following is None:
            metrics.storage_commitment_total.labels("scp", Result.UNANSWERED.value).inc()
        return "not taken"


class _NotTakenError(Exception):
    """The peer has not taken a report; again: whether another attempt can help."""

    def __init__(self, reason: str, *, again: bool = True) -> None:
        super().__init__(reason)
        self.again = again


def _event_report(association: Association, event_type: int, information: Dataset) -> None:
    try:
        status, _ = association.send_n_event_report(
            information, event_type, commitment.SOP_CLASS, commitment.SOP_INSTANCE
        )
    except (RuntimeError, ValueError) as error:
        raise _NotTakenError(f"the association ended: {type(error).__name__}") from error
    code = getattr(status, "Status", None)
    if code != 0x0000:
        said = "no answer" if code is None else f"0x{int(code):04X}"
        raise _NotTakenError(f"{said} to N-EVENT-REPORT")
