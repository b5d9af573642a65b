"""Ledger: what becomes of a revision and of its deliveries; every change is guarded by its starting state."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, insert, or_, select, update

from dicom_listener.errors import ImpossibleTransitionError
from dicom_listener.ledger import journal
from dicom_listener.ledger.purge import PURGED
from dicom_listener.ledger.records import Delivery, OutgoingObject, Revision
from dicom_listener.ledger.states import (
    GIVEN_UP,
    UNDELIVERED,
    DeliveryState,
    RevisionEvent,
    RevisionState,
    after,
)
from dicom_listener.ledger.tables import deliveries, instances, objects, revisions
from skiagraph import log

_log = log.get(__name__)
_ENDS = frozenset(
    {
        RevisionState.DELIVERED,
        RevisionState.REJECTED,
        RevisionState.SUPERSEDED,
        RevisionState.DEAD_LETTER,
        RevisionState.DISCARDED,
    }
)


def revision_from(values: Mapping[str, Any] | RowMapping) -> Revision:
    known = {name: values[name] for name in Revision.__dataclass_fields__}
    known["state"] = RevisionState(values["state"])
    known["destinations"] = tuple(values["destinations"])
    return Revision(**known)


def delivery_from(values: Mapping[str, Any] | RowMapping) -> Delivery:
    known = {name: values[name] for name in Delivery.__dataclass_fields__}
    known["state"] = DeliveryState(values["state"])
    known["accepted"] = tuple(values["accepted"])
    return Delivery(**known)


def get(connection: Connection, study_instance_uid: str, revision: int) -> Revision:
    row = connection.execute(select(revisions).where(*this(revisions, study_instance_uid, revision))).one()
    return revision_from(row._mapping)


def latest(connection: Connection, study_instance_uid: str) -> Revision | None:
    row = connection.execute(
        select(revisions)
        .where(revisions.c.study_instance_uid == study_instance_uid)
        .order_by(revisions.c.revision.desc())
        .limit(1)
    ).first()
    return None if row is None else revision_from(row._mapping)


def transition(
    connection: Connection, study_instance_uid: str, revision: int, event: RevisionEvent, **detail: object
) -> RevisionState:
    """Apply one event to a revision; raises ImpossibleTransitionError when its state does not know it."""
    where = this(revisions, study_instance_uid, revision)
    state = RevisionState(
        connection.execute(select(revisions.c.state).where(*where).with_for_update()).scalar_one()
    )
    following = after(state, event)
    at = journal.now()
    connection.execute(
        update(revisions)
        .where(*where)
        .values(state=following.value, finished_at=at if following in _ENDS else None)
    )
    if following in (RevisionState.DISCARDED, RevisionState.SUPERSEDED):
        connection.execute(
            update(deliveries)
            .where(
                *this(deliveries, study_instance_uid, revision),
                deliveries.c.state != DeliveryState.DELIVERED.value,
            )
            .values(state=DeliveryState.DISCARDED.value, finished_at=at)
        )
    journal.note(connection, f"revision_{following}", study_instance_uid, revision, **detail)
    _log.info(
        "revision moved",
        study=study_instance_uid,
        revision=revision,
        before=state.value,
        event_=event.value,
        after=following.value,
        **{key: value for key, value in detail.items() if key in ("reason", "code", "by")},
    )
    return following


def due(connection: Connection, *, at: datetime, longest_seconds: float, most: int) -> list[Revision]:
    """Revisions to be scored now, most urgent first.

    One that is due later than any backoff can explain is due now: the clock was set back.
    """
    rows = connection.execute(
        select(revisions)
        .where(revisions.c.state == RevisionState.READY.value, is_due(revisions, at, longest_seconds))
        .order_by(revisions.c.priority, revisions.c.next_attempt_at)
        .limit(most)
    )
    return [revision_from(row._mapping) for row in rows]


def predecessor(connection: Connection, study_instance_uid: str, revision: int) -> OutgoingObject | None:
    """The report of the last earlier revision that a destination has or will get.

    None when the instances of that one have left the spool: what is made of later ones replaces nothing.
    """
    sent = connection.execute(
        select(revisions.c.revision, instances.c.ignored)
        .join(instances, instances.c.id == revisions.c.last_instance_id)
        .where(
            revisions.c.study_instance_uid == study_instance_uid,
            revisions.c.revision < revision,
            revisions.c.state.in_([RevisionState.SCORED.value, RevisionState.DELIVERED.value]),
        )
        .order_by(revisions.c.revision.desc())
        .limit(1)
    ).first()
    if sent is None or sent.ignored == PURGED:
        return None
    made = objects_of(connection, study_instance_uid, sent.revision)
    return next((one for one in made if one.kind == "structured_report"), None)


def objects_of(connection: Connection, study_instance_uid: str, revision: int) -> list[OutgoingObject]:
    columns = [objects.c[name] for name in OutgoingObject.__dataclass_fields__]
    rows = connection.execute(
        select(*columns).where(*this(objects, study_instance_uid, revision)).order_by(objects.c.position)
    )
    return [OutgoingObject(**row._mapping) for row in rows]


def scored(
    connection: Connection,
    study_instance_uid: str,
    revision: int,
    *,
    result: dict[str, Any],
    made: Iterable[OutgoingObject],
) -> RevisionState:
    """Enter a result whose bytes are on disk, and what is to be delivered.

    Called again for the same revision it changes nothing: the first result stands. Returns the state then.
    """
    current = get(connection, study_instance_uid, revision)
    if current.state is not RevisionState.READY:
        return current.state
    state = transition(connection, study_instance_uid, revision, RevisionEvent.SCORE)
    connection.execute(
        update(revisions)
        .where(*this(revisions, study_instance_uid, revision))
        .values(result=result, error=None)
    )
    key = {"study_instance_uid": study_instance_uid, "revision": revision}
    rows = [
        {**key, **{name: getattr(item, name) for name in OutgoingObject.__dataclass_fields__}}
        for item in made
    ]
    if rows:
        connection.execute(insert(objects), rows)
    at = journal.now()
    for destination in current.destinations if rows else ():
        connection.execute(
            insert(deliveries).values(
                **key,
                destination=destination,
                state=DeliveryState.PENDING.value,
                attempts=0,
                retry_since=at,
                next_attempt_at=at,
                accepted=[],
            )
        )
    if not rows or not current.destinations:
        state = transition(connection, study_instance_uid, revision, RevisionEvent.DELIVER, destinations=0)
    return state


def failed_scoring(
    connection: Connection,
    tried: Revision,
    *,
    error: str,
    fault: bool,
    next_attempt_at: datetime | None,
) -> None:
    """Enter a failed attempt; next_attempt_at None gives the revision up."""
    current = get(connection, tried.study_instance_uid, tried.revision)
    if current.state is not RevisionState.READY or current.attempts != tried.attempts:
        return
    values: dict[str, object] = {
        "attempts": current.attempts + 1,
        "faults": current.faults + fault,
        "error": error,
    }
    if next_attempt_at is not None:
        values["next_attempt_at"] = next_attempt_at
    connection.execute(
        update(revisions).where(*this(revisions, tried.study_instance_uid, tried.revision)).values(**values)
    )
    journal.note(
        connection,
        "scoring_failed",
        tried.study_instance_uid,
        tried.revision,
        attempt=current.attempts + 1,
        error=error,
        fault=fault,
    )
    if next_attempt_at is None:
        transition(connection, tried.study_instance_uid, tried.revision, RevisionEvent.GIVE_UP, reason=error)


def rejected(connection: Connection, tried: Revision, *, code: str, reason: str) -> None:
    """Enter that the service can never answer this revision."""
    current = get(connection, tried.study_instance_uid, tried.revision)
    if current.state is not RevisionState.READY or current.attempts != tried.attempts:
        return
    connection.execute(
        update(revisions)
        .where(*this(revisions, tried.study_instance_uid, tried.revision))
        .values(attempts=current.attempts + 1, error=f"{code}: {reason}")
    )
    transition(
        connection, tried.study_instance_uid, tried.revision, RevisionEvent.REJECT, code=code, reason=reason
    )


def again(connection: Connection, revision: Revision) -> str:
    """Take what was given up, held or rejected back to work; raises ImpossibleTransitionError."""
    uid, number, at = revision.study_instance_uid, revision.revision, journal.now()
    fresh = {"retry_since": at, "next_attempt_at": at}
    has_result = bool(objects_of(connection, uid, number))
    if revision.state is RevisionState.SCORED or (revision.state is RevisionState.DEAD_LETTER and has_result):
        if revision.state is RevisionState.DEAD_LETTER:
            transition(connection, uid, number, RevisionEvent.DELIVER_AGAIN)
        connection.execute(
            update(deliveries)
            .where(
                *this(deliveries, uid, number),
                deliveries.c.state.in_([state.value for state in (DeliveryState.DEAD_LETTER, *UNDELIVERED)]),
            )
            .values(state=DeliveryState.PENDING.value, finished_at=None, **fresh)
        )
        return "delivering again"
    if revision.state is RevisionState.HELD:
        transition(connection, uid, number, RevisionEvent.PROCEED)
    elif revision.state in GIVEN_UP:
        transition(connection, uid, number, RevisionEvent.SCORE_AGAIN)
    elif revision.state is not RevisionState.READY:
        raise ImpossibleTransitionError(
            f"revision {number} is {revision.state}: there is nothing to retry; replay makes a new one"
        )
    connection.execute(update(revisions).where(*this(revisions, uid, number)).values(faults=0, **fresh))
    return "scoring"


def this(table: Table, study_instance_uid: str, revision: int) -> tuple[Any, Any]:
    return (table.c.study_instance_uid == study_instance_uid, table.c.revision == revision)


def is_due(table: Table, at: datetime, longest_seconds: float) -> Any:
    beyond = at + timedelta(seconds=2 * longest_seconds)
    return or_(table.c.next_attempt_at <= at, table.c.next_attempt_at > beyond)
