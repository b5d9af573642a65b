"""The loop that moves studies on: cuts what is complete, serves requests, hands out what is due."""

import threading
import time
from collections import deque
from dataclasses import replace
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from dicom_listener import headers, metrics, retry
from dicom_listener.assembly import Assembly
from dicom_listener.errors import ImpossibleTransitionError, UnreadableInstanceError
from dicom_listener.ledger import arrivals, commitments, inbox, journal, outbox, revisions
from dicom_listener.ledger.connection import Database
from dicom_listener.ledger.records import Delivery, Request, RequestKind, Revision, Trigger
from dicom_listener.ledger.states import RevisionEvent, RevisionState
from dicom_listener.routing import route, rule_for, timing
from dicom_listener.spool import Spool
from dicom_listener.workflow import Work, WorkflowEngine, key_of
from skiagraph import log
from skiagraph.settings.listener import ListenerSettings

_log = log.get(__name__)
_TICK_SECONDS: Final = 0.2
_AFTER_ERROR_SECONDS: Final = 1.0
_REQUESTS_EVERY_SECONDS: Final = 1.0
_HANDED_OUT_AT_ONCE: Final = 50
_LOST_AFTER_SECONDS: Final = 10.0
_REPORT_PRIORITY: Final = 5


class Dispatcher:
    """`run` is one thread; `wake` may be called from any."""

    def __init__(
        self, settings: ListenerSettings, *, database: Database, spool: Spool, assembly: Assembly
    ) -> None:
        self._settings = settings
        self._database = database
        self._spool = spool
        self._assembly = assembly
        self._woken = threading.Event()
        self._handed_out: dict[str, float] = {}

    def wake(self) -> None:
        self._woken.set()

    def resume(self) -> None:
        """Open studies of an earlier process wait one more quiet period."""
        with self._database.read() as connection:
            left = arrivals.open_studies(connection)
        for study in left:
            seen = self._attributes(study)
            rule = rule_for(self._settings.rules_in_order, seen)
            views = [one.get("ViewPosition", "") for one in seen]
            self._assembly.arrived(study, timing(self._settings, rule), views)
        if left:
            _log.info("open studies taken over", studies=len(left))

    def run(self, engine: WorkflowEngine, stopping: threading.Event) -> None:
        requests_at = stalled_at = 0.0
        while not stopping.is_set():
            try:
                self._cut_complete()
                if time.monotonic() >= requests_at:
                    self._serve_requests()
                    requests_at = time.monotonic() + _REQUESTS_EVERY_SECONDS
                self._hand_out(engine)
                if time.monotonic() >= stalled_at:
                    engine.cancel_stalled()
                    stalled_at = time.monotonic() + _LOST_AFTER_SECONDS
            except SQLAlchemyError as error:  # a full disk, a database that restarts: waiting loses nothing
                _log.error("the ledger cannot be used", reason=type(error).__name__)
                stopping.wait(_AFTER_ERROR_SECONDS)
            self._woken.wait(_TICK_SECONDS)
            self._woken.clear()

    def _cut_complete(self) -> None:
        waiting = deque(self._assembly.take_complete())
        try:
            while waiting:
                study, trigger = waiting[0]
                if self._cut(study.study_instance_uid, trigger):
                    metrics.study_assembly_seconds.observe(self._assembly.age_seconds(study))
                waiting.popleft()
        finally:
            for study, _ in waiting:
                self._assembly.put_back(study)

    def _cut(self, study: str, trigger: Trigger, model: str | None = None) -> Revision | None:
        chosen = route(self._settings, rule_for(self._settings.rules_in_order, self._attributes(study)))
        if model is not None:
            chosen = replace(chosen, state=RevisionState.READY, model=model)
        with self._database.write() as connection:
            revision = arrivals.cut(connection, study, trigger=trigger, route=chosen, at=journal.now())
        if revision is not None:
            metrics.studies_completed_total.labels(trigger.value).inc()
            _log.info(
                "revision cut",
                study=study,
                revision=revision.revision,
                trigger=trigger.value,
                rule=revision.rule,
                state=revision.state.value,
            )
        return revision

    def _attributes(self, study: str) -> list[dict[str, str]]:
        """What the rules look at, per instance, from the spool; nothing where there are no rules."""
        if not self._settings.rules_in_order:
            return []
        with self._database.read() as connection:
            instances = arrivals.instances_of(connection, study)
        seen = []
        for instance in instances:
            try:
                attributes = headers.read(self._spool.path(instance.path)).attributes
            except (
                UnreadableInstanceError
            ):  # readable when it came: the disk has lost it; the service will say so
                attributes = {}
            seen.append(
                {**attributes, "CallingAETitle": instance.calling_ae, "CalledAETitle": instance.called_ae}
            )
        return seen

    def _serve_requests(self) -> None:
        with self._database.read() as connection:
            waiting = inbox.waiting(connection)
        for request in waiting:
            outcome = self._serve(request)
            with self._database.write() as connection:
                inbox.done(connection, request, outcome)
            _log.info(
                "request served", kind=request.kind.value, study=request.study_instance_uid, outcome=outcome
            )

    def _serve(self, request: Request) -> str:
        study = request.study_instance_uid
        if request.kind is RequestKind.FORCE:
            forced = self._cut(study, Trigger.FORCED)
            return "nothing is open" if forced is None else f"revision {forced.revision}"
        if request.kind is RequestKind.REPLAY:
            revision = self._cut(study, Trigger.REPLAY, request.model)
            return "nothing to replay" if revision is None else f"revision {revision.revision}"
        try:
            with self._database.write() as connection:
                latest = revisions.latest(connection, study)
                if latest is None:
                    return "no revision yet"
                if request.kind is RequestKind.PROCEED and latest.state is not RevisionState.HELD:
                    return f"refused: revision {latest.revision} is {latest.state}, not held"
                if request.kind is not RequestKind.DISCARD:
                    return revisions.again(connection, latest)
                revisions.transition(connection, study, latest.revision, RevisionEvent.DISCARD)
                return "discarded"
        except ImpossibleTransitionError as error:
            return f"refused: {error}"

    def _hand_out(self, engine: WorkflowEngine) -> None:
        at, longest = journal.now(), self._settings.retry.longest_seconds
        with self._database.read() as connection:
            to_score = revisions.due(connection, at=at, longest_seconds=longest, most=_HANDED_OUT_AT_ONCE)
            to_deliver = [
                tried
                for destination in self._settings.destinations
                for tried in outbox.due_deliveries(
                    connection, destination.name, at=at, longest_seconds=longest, most=_HANDED_OUT_AT_ONCE
                )
            ]
            to_report = commitments.due_reports(
                connection, at=at, longest_seconds=longest, most=_HANDED_OUT_AT_ONCE
            )
        seen: dict[str, float] = {}
        work: list[tuple[Work, int]] = [
            *((revision, revision.priority) for revision in to_score),
            *to_deliver,
            *((report, _REPORT_PRIORITY) for report in to_report),
        ]
        for item, priority in work:
            self._hand_out_one(engine, item, priority, seen)
        self._handed_out = seen

    def _hand_out_one(
        self, engine: WorkflowEngine, item: Work, priority: int, seen: dict[str, float]
    ) -> None:
        name = key_of(item)
        since = self._handed_out.get(name)
        if since is not None and time.monotonic() - since < _LOST_AFTER_SECONDS:
            seen[name] = since
            return
        engine.hand_out(item, priority)
        seen[name] = time.monotonic()
        if since is not None and engine.is_over(name):
            self._lost(item)

    def _lost(self, item: Work) -> None:
        """An attempt that ended without a word in the ledger (a full disk, say) counts as failed."""
        error = "the attempt was lost"
        at = retry.next_attempt(
            self._settings.retry, attempts=item.attempts, since=item.retry_since, now=journal.now()
        )
        _log.error(error, attempt=key_of(item), again=at is not None)
        with self._database.write() as connection:
            if isinstance(item, Revision):
                revisions.failed_scoring(connection, item, error=error, fault=False, next_attempt_at=at)
            elif isinstance(item, Delivery):
                outbox.failed_delivery(connection, item, error=error, next_attempt_at=at)
            else:
                commitments.not_reported(connection, item, error=error, next_attempt_at=at)
