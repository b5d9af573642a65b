"""The durable workflow (DBOS): one attempt at scoring, or at one delivery, is one workflow with its own id.

The ledger is the truth and DBOS carries the work: an attempt that a crash interrupts is continued by DBOS,
every step looks at the ledger first, and an attempt that has ended there does nothing. Records hold UIDs and
paths only.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from dbos import DBOS, DBOSConfig, DBOSConfiguredInstance, SetWorkflowID
from sqlalchemy import Engine, create_engine, event, make_url

from dicom_listener import delivery, metrics, retry, scoring
from dicom_listener.delivery import Outcome
from dicom_listener.ledger import journal, outbox, revisions
from dicom_listener.ledger.connection import Database
from dicom_listener.ledger.records import Delivery, OutgoingObject, Revision
from dicom_listener.ledger.states import DeliveryState, RevisionState
from dicom_listener.spool import Spool
from service.client import Client, RejectedByService, ServiceError, ServiceFault, TransientServiceError
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
_OVER: Final = frozenset({"SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"})


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
    ) -> None:
        super().__init__(config_name="node")
        self._settings = settings
        self._database = database
        self._spool = spool
        self._client = client
        self._wake = wake
        self._destinations = {destination.name: destination for destination in settings.destinations}

    @DBOS.workflow(name="score_revision")
    def score_revision(self, study_instance_uid: str, revision: int, attempt: int) -> str:
        path = self.score_step(study_instance_uid, revision, attempt)
        state = self.enter_step(study_instance_uid, revision, path) if path else "not scored"
        self._wake()
        return state

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
            self._not_scored(tried, ServiceFault(f"{type(error).__name__} in the listener"))
        finally:
            metrics.stage_duration_seconds.labels("scoring").observe(time.monotonic() - started)
        return ""

    @DBOS.step(name="enter")
    def enter_step(self, study_instance_uid: str, revision: int, path: str) -> str:
        with self._database.read() as connection:
            scored = revisions.get(connection, study_instance_uid, revision)
        state = scoring.enter(scored, path, database=self._database, spool=self._spool)
        if state is RevisionState.DELIVERED:
            self._turned_around(scored)
        return state.value

    @DBOS.workflow(name="deliver_result")
    def deliver_result(self, study_instance_uid: str, revision: int, destination: str, attempt: int) -> str:
        outcome = self.send_step(study_instance_uid, revision, destination, attempt)
        self._wake()
        return outcome

    @DBOS.step(name="send")
    def send_step(self, study_instance_uid: str, revision: int, destination: str, attempt: int) -> str:
        with self._database.read() as connection:
            tried = outbox.get_delivery(connection, study_instance_uid, revision, destination)
            objects = revisions.objects_of(connection, study_instance_uid, revision)
            scored = revisions.get(connection, study_instance_uid, revision)
        if tried.state is not DeliveryState.PENDING or tried.attempts != attempt:
            return "nothing to do"
        started = time.monotonic()
        result = self._send(tried, [made for made in objects if made.position not in tried.accepted])
        metrics.stage_duration_seconds.labels("delivery").observe(time.monotonic() - started)
        metrics.delivery_attempts_total.labels(destination, result.outcome.value).inc()
        if result.outcome is Outcome.ACCEPTED:
            with self._database.write() as connection:
                if outbox.delivered(connection, tried):
                    self._turned_around(scored)
        else:
            self._not_sent(tried, result)
        return result.outcome.value

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
                [(made, self._spool.path(made.path)) for made in objects],
                accepted,
            )
        except Exception as error:
            _log.exception("delivery failed on our side", study=tried.study_instance_uid)
            return delivery.Attempt(
                outcome=Outcome.TRANSIENT, error=f"{type(error).__name__} in the listener: see its log"
            )

    def _not_scored(self, tried: Revision, error: ServiceError) -> None:
        code = error.problem.code if error.problem else type(error).__name__
        _log.warning(
            "not scored",
            study=tried.study_instance_uid,
            revision=tried.revision,
            code=code,
            attempt=tried.attempts + 1,
        )
        fault = isinstance(error, ServiceFault)
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

    def _turned_around(self, revision: Revision) -> None:
        metrics.turnaround_seconds.observe(
            max(0.0, (journal.now() - revision.last_received_at).total_seconds())
        )


class WorkflowEngine(AbstractContextManager["WorkflowEngine"]):
    """DBOS from `__enter__` to `__exit__`; one per process."""

    def __init__(self, settings: ListenerSettings, workflows: StudyWorkflows) -> None:
        self._settings = settings
        self._workflows = workflows

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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        DBOS.destroy(workflow_completion_timeout_sec=int(self._settings.drain_seconds))

    def score(self, revision: Revision) -> str:
        """Hand out one attempt; the same attempt again is the same workflow. Returns its id."""
        key = f"score:{revision.study_instance_uid}:{revision.revision}:{revision.attempts}"
        with SetWorkflowID(key):
            DBOS.enqueue_workflow(
                _SCORE_QUEUE,
                self._workflows.score_revision,
                revision.study_instance_uid,
                revision.revision,
                revision.attempts,
            )
        return key

    def deliver(self, tried: Delivery) -> str:
        """Hand out one attempt at a delivery, as `score` does."""
        key = f"deliver:{tried.study_instance_uid}:{tried.revision}:{tried.destination}:{tried.attempts}"
        with SetWorkflowID(key):
            DBOS.enqueue_workflow(
                _delivery_queue(tried.destination),
                self._workflows.deliver_result,
                tried.study_instance_uid,
                tried.revision,
                tried.destination,
                tried.attempts,
            )
        return key

    def is_over(self, key: str) -> bool:
        """Whether a workflow has ended, well or badly, or is not known at all."""
        status = DBOS.get_workflow_status(key)
        return status is None or status.status in _OVER


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
