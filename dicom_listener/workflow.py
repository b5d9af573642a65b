"""The durable workflow (DBOS): one attempt at scoring, or at one delivery, is one workflow with its own id.

The ledger is the truth and DBOS carries the work: an attempt that a crash interrupts is continued by DBOS,
every step looks at the ledger first, and an attempt that has ended there does nothing. Records hold UIDs and
paths only.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from dbos import DBOS, DBOSConfig, DBOSConfiguredInstance, SetEnqueueOptions, SetWorkflowID
from pydicom.uid import generate_uid
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import SQLAlchemyError

from dicom_listener import delivery, metrics, retry, scoring
from dicom_listener.commitment import Result
from dicom_listener.commitment_peers import CommitmentPeers
from dicom_listener.delivery import Outcome
from dicom_listener.ledger import commitments, journal, outbox, revisions
from dicom_listener.ledger.connection import Database
from dicom_listener.ledger.records import Delivery, OutgoingObject, ReportDue, Revision, SopReference
from dicom_listener.ledger.states import UNDELIVERED, DeliveryState, RevisionState
from dicom_listener.spool import Spool
from service.client import Client, RejectedByService, ServiceError, ServiceFault, TransientServiceError
from service.contract import Problem
from skiagraph import log
from skiagraph.settings.listener import ListenerSettings

_log = log.get(__name__)
# Fixed by us: with DBOS's own (a hash of the code) an upgrade would leave unfinished attempts behind.
# Change it only when workflows of an earlier version cannot be continued.
APPLICATION_VERSION: Final = "1"
_EXECUTOR: Final = "listener"
_SCORE_QUEUE: Final = "score"
_POLL_SECONDS: Final = 0.1
_DELIVERIES_AT_ONCE: Final = 2
_REPORT_QUEUE: Final = "report"
_REPORTS_AT_ONCE: Final = 4
_FORGOTTEN_AT_ONCE: Final = 200
_OVER: Final = frozenset({"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"})


Work = Revision | Delivery | ReportDue


@DBOS.dbos_class()
class StudyWorkflows(DBOSConfiguredInstance):
    """The workflows of one node. wake: called when there is new work to hand out."""

    def __init__(
        self,
        settings: ListenerSettings,
        *,
        database: Database,
        spool: Spool,
        client: Client,
        wake: Callable[[], None],
        commitment_peers: CommitmentPeers,
    ) -> None:
        super().__init__(config_name="node")
        self._settings = settings
        self._database = database
        self._spool = spool
        self._client = client
        self._wake = wake
        self._commitment_peers = commitment_peers
        self.running: set[str] = set()  # the workflows that a thread of this process is in
        self._destinations = {destination.name: destination for destination in settings.destinations}

    @contextmanager
    def _runs(self) -> Iterator[None]:
        key = DBOS.workflow_id or ""
        self.running.add(key)
        try:
            yield
        finally:
            self.running.discard(key)
            self._wake()

    @DBOS.workflow(name="score_revision")
    def score_revision(self, study_instance_uid: str, revision: int, attempt: int) -> str:
        with self._runs():
            path = self.score_step(study_instance_uid, revision, attempt)
            return self.enter_step(study_instance_uid, revision, path) if path else "not scored"

    @DBOS.step(name="score")
    def score_step(self, study_instance_uid: str, revision: int, attempt: int) -> str:
        """The path of the kept result; empty when there is none, and the ledger says why."""
        with self._database.read() as connection:
            tried = revisions.get(connection, study_instance_uid, revision)
        if tried.state is not RevisionState.READY or tried.attempts != attempt:
            return ""
        started = time.monotonic()
        try:
            return scoring.score(tried, database=self._database, spool=self._spool, client=self._client)
        except ServiceError as error:
            self._not_scored(tried, error)
        except Exception as error:
            _log.exception("scoring failed on our side", study=study_instance_uid, revision=revision)
            self._not_scored(tried, _ours(error))
        finally:
            metrics.stage_duration_seconds.labels("scoring").observe(time.monotonic() - started)
        return ""

    @DBOS.step(name="enter")
    def enter_step(self, study_instance_uid: str, revision: int, path: str) -> str:
        with self._database.read() as connection:
            scored = revisions.get(connection, study_instance_uid, revision)
        state = scoring.enter(scored, path, database=self._database, spool=self._spool)
        if state is RevisionState.DELIVERED:
            metrics.observe_turnaround(scored.last_received_at)
        return state.value

    @DBOS.workflow(name="deliver_result")
    def deliver_result(self, study_instance_uid: str, revision: int, destination: str, attempt: int) -> str:
        with self._runs():
            return self.send_step(study_instance_uid, revision, destination, attempt)

    @DBOS.step(name="send")
    def send_step(self, study_instance_uid: str, revision: int, destination: str, attempt: int) -> str:
        with self._database.read() as connection:
            tried = outbox.get_delivery(connection, study_instance_uid, revision, destination)
            objects = revisions.objects_of(connection, study_instance_uid, revision)
            scored = revisions.get(connection, study_instance_uid, revision)
        if tried.state not in UNDELIVERED or tried.attempts != attempt:
            return "nothing to do"
        if tried.state is DeliveryState.COMMITTING:
            _log.warning(
                "no storage commitment report in time",
                study=tried.study_instance_uid,
                destination=destination,
            )
            metrics.storage_commitment_total.labels("scu", Result.UNANSWERED.value).inc()
        started = time.monotonic()
        result = self._send(tried, objects)
        metrics.stage_duration_seconds.labels("delivery").observe(time.monotonic() - started)
        metrics.delivery_attempts_total.labels(destination, result.outcome.value).inc()
        if result.outcome is not Outcome.ACCEPTED:
            self._not_sent(tried, result)
        elif self._destinations[destination].storage_commitment:
            self._wait_for_commitment(tried)
        else:
            with self._database.write() as connection:
                if outbox.delivered(connection, tried):
                    metrics.observe_turnaround(scored.last_received_at)
        return result.outcome.value

    def _wait_for_commitment(self, tried: Delivery) -> None:
        """The destination is asked again when it has not answered in time, until we give up."""
        at, patience = journal.now(), self._settings.retry
        if retry.next_attempt(patience, attempts=tried.attempts, since=tried.retry_since, now=at) is None:
            self._not_sent(
                tried,
                delivery.Attempt(outcome=Outcome.PERMANENT, error=f"{tried.destination} never committed"),
            )
            return
        with self._database.write() as connection:
            outbox.committing(connection, tried, overdue_at=at + timedelta(seconds=patience.longest_seconds))

    def _send(self, tried: Delivery, objects: list[OutgoingObject]) -> delivery.Attempt:
        destination = self._destinations.get(tried.destination)
        if destination is None:
            return delivery.Attempt(
                outcome=Outcome.PERMANENT, error=f"destination {tried.destination} is no longer configured"
            )

        def accepted(made: OutgoingObject, status: int) -> None:
            with self._database.write() as connection:
                outbox.accepted(connection, tried, position=made.position, status=status)

        try:
            return delivery.send(
                self._settings,
                destination,
                [
                    (made, self._spool.path(made.path))
                    for made in objects
                    if made.position not in tried.accepted
                ],
                accepted,
                self._commitment_of(tried, objects) if destination.storage_commitment else None,
            )
        except Exception as error:
            _log.exception("delivery failed on our side", study=tried.study_instance_uid)
            return delivery.Attempt(
                outcome=Outcome.TRANSIENT, error=f"{type(error).__name__} in the listener: see its log"
            )

    def _commitment_of(self, tried: Delivery, objects: list[OutgoingObject]) -> delivery.CommitmentRequest:
        def begin() -> str:
            transaction = generate_uid(prefix=None)
            with self._database.write() as connection:
                commitments.asked(connection, tried, transaction)
            return transaction

        def is_answered(transaction: str) -> bool:
            with self._database.read() as connection:
                return commitments.is_answered(connection, transaction)

        return delivery.CommitmentRequest(
            items=tuple(
                SopReference(sop_class_uid=made.sop_class_uid, sop_instance_uid=made.sop_instance_uid)
                for made in objects
            ),
            begin=begin,
            is_answered=is_answered,
            on_report=self._commitment_peers.reported,
        )

    @DBOS.workflow(name="report_commitment")
    def report_commitment(self, number: int, attempt: int) -> str:
        with self._runs():
            return self.report_step(number, attempt)

    @DBOS.step(name="report")
    def report_step(self, number: int, attempt: int) -> str:
        return self._commitment_peers.report(number, attempt)

    def _not_scored(self, tried: Revision, error: ServiceError) -> None:
        code = error.problem.code if error.problem else type(error).__name__
        _log.warning(
            "not scored",
            study=tried.study_instance_uid,
            revision=tried.revision,
            code=code,
            attempt=tried.attempts + 1,
        )
        # Only a bug may be of this study alone. A wrong token, address or version is so for all of them.
        fault = isinstance(error, ServiceFault) and error.problem is not None and error.problem.status == 500
        with self._database.write() as connection:
            if isinstance(error, RejectedByService):
                revisions.rejected(connection, tried, code=code, reason=str(error))
                return
            at = journal.now()
            following = retry.next_attempt(
                self._settings.retry,
                attempts=tried.attempts,
                since=tried.retry_since,
                now=at,
                after_seconds=error.retry_after_seconds if isinstance(error, TransientServiceError) else None,
            )
            if fault and tried.faults + 1 >= self._settings.retry.faults:
                following = None
            revisions.failed_scoring(
                connection, tried, error=str(error), fault=fault, next_attempt_at=following
            )
        metrics.retries_total.labels("scoring").inc(following is not None)

    def _not_sent(self, tried: Delivery, result: delivery.Attempt) -> None:
        _log.warning(
            "not delivered",
            study=tried.study_instance_uid,
            destination=tried.destination,
            reason=result.error,
        )
        following = (
            None
            if result.outcome is Outcome.PERMANENT
            else retry.next_attempt(
                self._settings.retry, attempts=tried.attempts, since=tried.retry_since, now=journal.now()
            )
        )
        with self._database.write() as connection:
            outbox.failed_delivery(connection, tried, error=result.error, next_attempt_at=following)
        metrics.retries_total.labels("delivery").inc(following is not None)


class WorkflowEngine(AbstractContextManager["WorkflowEngine"]):
    """DBOS from `__enter__` to `__exit__`; one per process."""

    def __init__(self, settings: ListenerSettings, workflows: StudyWorkflows) -> None:
        self._settings = settings
        self._workflows = workflows
        self._suspected: set[str] = set()

    def __enter__(self) -> Self:
        config: DBOSConfig = {
            "name": "skiagraph-listener",
            "application_version": APPLICATION_VERSION,
            "executor_id": _EXECUTOR,
            "log_level": "WARNING",
            "enable_otlp": False,
        }
        url = self._settings.database_url
        if url is None:
            config["system_database_url"] = (
                f"sqlite:///{(self._settings.folder / 'workflow.sqlite').absolute()}"
            )
            config["system_database_engine"] = _sqlite(self._settings.folder / "workflow.sqlite")
        else:
            config["system_database_url"] = make_url(url.get_secret_value()).render_as_string(
                hide_password=False
            )
        DBOS(config=config)
        DBOS.launch()
        DBOS.register_queue(
            _SCORE_QUEUE,
            worker_concurrency=self._settings.scoring_concurrency,
            polling_interval_sec=_POLL_SECONDS,
            on_conflict="always_update",
        )
        for destination in self._settings.destinations:
            DBOS.register_queue(
                _delivery_queue(destination.name),
                worker_concurrency=_DELIVERIES_AT_ONCE,
                polling_interval_sec=_POLL_SECONDS,
                on_conflict="always_update",
            )
        DBOS.register_queue(
            _REPORT_QUEUE,
            worker_concurrency=_REPORTS_AT_ONCE,
            polling_interval_sec=_POLL_SECONDS,
            on_conflict="always_update",
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        DBOS.destroy(workflow_completion_timeout_sec=int(self._settings.drain_seconds))

    def hand_out(self, item: Work, priority: int) -> None:
        """Hand out one attempt, before those of a larger number; handed out again it is the same workflow."""
        with SetWorkflowID(key_of(item)), SetEnqueueOptions(priority=priority):
            if isinstance(item, ReportDue):
                DBOS.enqueue_workflow(
                    _REPORT_QUEUE, self._workflows.report_commitment, item.id, item.attempts
                )
            elif isinstance(item, Delivery):
                DBOS.enqueue_workflow(
                    _delivery_queue(item.destination),
                    self._workflows.deliver_result,
                    item.study_instance_uid,
                    item.revision,
                    item.destination,
                    item.attempts,
                )
            else:
                DBOS.enqueue_workflow(
                    _SCORE_QUEUE,
                    self._workflows.score_revision,
                    item.study_instance_uid,
                    item.revision,
                    item.attempts,
                )

    def forget(self, *, before: datetime) -> None:
        """Delete the records of attempts that ended before this: the ledger has their story."""
        while ended := DBOS.list_workflows(
            status=sorted(_OVER),
            completed_before=before.isoformat(),
            limit=_FORGOTTEN_AT_ONCE,
            load_input=False,
            load_output=False,
        ):
            DBOS.delete_workflows([one.workflow_id for one in ended])

    def cancel_stalled(self) -> None:
        """Cancel what DBOS holds for running and no thread is in, seen twice: its end went unrecorded."""
        pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        idle = {one.workflow_id for one in pending} - self._workflows.running
        stalled = sorted(idle & self._suspected)
        if stalled:
            _log.error("attempts ended without a record and are cancelled", attempts=stalled)
            DBOS.cancel_workflows(stalled)
        self._suspected = idle.difference(stalled)

    def is_over(self, key: str) -> bool:
        """Whether a workflow has ended, well or badly, or is not known at all."""
        status = DBOS.get_workflow_status(key)
        return status is None or status.status in _OVER


def key_of(item: Work) -> str:
    """The name of one attempt."""
    if isinstance(item, ReportDue):
        return f"report:{item.id}:{item.attempts}"
    if isinstance(item, Delivery):
        return f"deliver:{item.study_instance_uid}:{item.revision}:{item.destination}:{item.attempts}"
    return f"score:{item.study_instance_uid}:{item.revision}:{item.attempts}"


def _ours(error: Exception) -> ServiceError:
    """A disk or a ledger that fails does so for every study, until somebody sees to it; the rest is a bug."""
    said = f"{type(error).__name__} in the listener"
    # Instances that are gone are the study's own misfortune.
    if isinstance(error, OSError | SQLAlchemyError) and not isinstance(error, FileNotFoundError):
        return TransientServiceError(
            f"{said}: make room on the disk of listener.folder, and see that the ledger can be written"
        )
    problem = Problem(title="listener fault", status=500, detail=said, code="listener_fault")
    return ServiceFault(said, problem=problem)


def _delivery_queue(destination: str) -> str:
    return f"deliver-{destination}"


def _sqlite(path: Path) -> Engine:
    """DBOS's own SQLite discipline, and a write-ahead log: its readers never wait for its writers."""
    engine = create_engine(f"sqlite:///{path.absolute()}")

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: object) -> None:
        connection.isolation_level = "IMMEDIATE"
        for pragma in ("busy_timeout=30000", "foreign_keys=ON", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    return engine
