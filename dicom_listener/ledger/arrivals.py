"""Ledger: instances come in, and studies become revisions."""

from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, bindparam, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from dicom_listener.ledger import journal
from dicom_listener.ledger.records import Arrival, Revision, Route, StoredInstance, Trigger
from dicom_listener.ledger.revisions import revision_from, transition
from dicom_listener.ledger.states import REPLACEABLE, RevisionEvent, RevisionState
from dicom_listener.ledger.tables import instances, revisions, studies

# Made once: one of each is run for every instance, and making them costs more than running them.
_NEWEST: Final = (
    select(instances)
    .where(
        instances.c.sop_instance_uid == bindparam("sop_instance"),
        instances.c.study_instance_uid == bindparam("study"),
    )
    .order_by(instances.c.id.desc())
    .limit(1)
)
_INSERT_INSTANCE: Final = insert(instances)
_ASK_BRIEFLY: Final = text("SET LOCAL statement_timeout = '3s'")


def newest(connection: Connection, study_instance_uid: str, sop_instance_uid: str) -> StoredInstance | None:
    """What we hold of this instance, if anything."""
    row = connection.execute(_NEWEST, {"sop_instance": sop_instance_uid, "study": study_instance_uid}).first()
    return None if row is None else StoredInstance(**row._mapping)


def record(connection: Connection, arrival: Arrival, *, replaces: bool) -> bool:
    """Enter one instance; returns whether it is late: a revision of its study was cut before it came."""
    # The study's row comes first: its lock puts arrivals and the cut of a revision into one order.
    revision = _enter_study(connection, arrival)
    connection.execute(_INSERT_INSTANCE, _columns(arrival))
    late = arrival.ignored is None and revision > 0
    journal.note(
        connection,
        "instance_replaced" if replaces else "instance_received",
        arrival.study_instance_uid,
        sop_instance_uid=arrival.sop_instance_uid,
        calling_ae=arrival.calling_ae,
        called_ae=arrival.called_ae,
        peer_address=arrival.peer_address,
        size_bytes=arrival.size_bytes,
        ignored=arrival.ignored,
        late=late,
    )
    return late


def is_entered(connection: Connection, arrival: Arrival) -> bool:
    """Whether an entry that failed is there all the same; the caller rolls back. Raises if it takes long."""
    if connection.dialect.name == "postgresql":
        # The lost transaction may still be under way: the lock of the study's row is had when it is over.
        connection.execute(_ASK_BRIEFLY)
        _enter_study(connection, arrival)
    known = newest(connection, arrival.study_instance_uid, arrival.sop_instance_uid)
    return known is not None and known.path == arrival.path


def open_studies(connection: Connection) -> list[str]:
    """Studies with instances that no revision covers yet."""
    return list(connection.execute(select(studies.c.study_instance_uid).where(studies.c.open)).scalars())


def instances_of(
    connection: Connection, study_instance_uid: str, up_to: int | None = None
) -> list[StoredInstance]:
    """The newest of every instance of a study that is to be scored, in the order of arrival."""
    query = select(instances).where(
        instances.c.study_instance_uid == study_instance_uid, instances.c.ignored.is_(None)
    )
    if up_to is not None:
        query = query.where(instances.c.id <= up_to)
    rows = connection.execute(query.order_by(instances.c.id))
    latest = {row.sop_instance_uid: StoredInstance(**row._mapping) for row in rows}
    return sorted(latest.values(), key=lambda instance: instance.id)


def cut(
    connection: Connection, study_instance_uid: str, *, trigger: Trigger, route: Route, at: datetime
) -> Revision | None:
    """Close the study and make its next revision; None when there is nothing new (a replay: nothing at all).

    What is not scored yet, or given up, is superseded: one result per study is current.
    """
    study = connection.execute(
        select(studies).where(studies.c.study_instance_uid == study_instance_uid).with_for_update()
    ).first()
    last = connection.execute(
        select(func.max(instances.c.id)).where(
            instances.c.study_instance_uid == study_instance_uid, instances.c.ignored.is_(None)
        )
    ).scalar()
    if study is None or last is None or not (study.open or trigger is Trigger.REPLAY):
        return None
    number = study.revision + 1
    for row in connection.execute(
        select(revisions.c.revision, revisions.c.state).where(
            revisions.c.study_instance_uid == study_instance_uid,
            revisions.c.state.in_([state.value for state in REPLACEABLE]),
        )
    ).all():
        transition(connection, study_instance_uid, row.revision, RevisionEvent.SUPERSEDE, by=number)
    connection.execute(
        update(studies)
        .where(studies.c.study_instance_uid == study_instance_uid)
        .values(open=False, revision=number)
    )
    values = {
        "study_instance_uid": study_instance_uid,
        "revision": number,
        "state": route.state.value,
        "trigger": trigger.value,
        "rule": route.rule,
        "last_instance_id": last,
        "result_time": at.replace(microsecond=0),
        "last_received_at": study.last_received_at,
        "model": route.model,
        "operating_point": route.operating_point,
        "gate": route.gate,
        "priority": route.priority,
        "destinations": list(route.destinations),
        "attempts": 0,
        "faults": 0,
        "retry_since": at,
        "next_attempt_at": at,
        "error": None if route.state is RevisionState.READY else route.reason,
        "finished_at": at if route.state is RevisionState.DROPPED else None,
    }
    connection.execute(insert(revisions).values(**values))
    journal.note(
        connection,
        "revision_cut",
        study_instance_uid,
        number,
        trigger=trigger.value,
        rule=route.rule,
        state=route.state.value,
    )
    return revision_from(values)


def _enter_study(connection: Connection, arrival: Arrival) -> int:
    """Enter the arrival's study, or that something came for it; returns the number of its last revision."""
    opens = arrival.ignored is None
    values = {
        "study_instance_uid": arrival.study_instance_uid,
        "first_received_at": arrival.received_at,
        "last_received_at": arrival.received_at,
        "open": opens,
        "revision": 0,
    }
    revision: int = connection.execute(_upsert(connection.dialect.name, opens), values).scalar_one()
    return revision


def _columns(arrival: Arrival) -> dict[str, object]:
    return {name: getattr(arrival, name) for name in Arrival.__dataclass_fields__}


@cache
def _upsert(dialect: str, opens: bool) -> ReturningInsert[Any]:
    statement = (postgresql if dialect == "postgresql" else sqlite).insert(studies)
    changes: dict[str, Any] = {"last_received_at": statement.excluded.last_received_at, "purged_at": None}
    if opens:
        changes["open"] = True
    upsert: ReturningInsert[Any] = statement.on_conflict_do_update(
        index_elements=["study_instance_uid"], set_=changes
    ).returning(studies.c.revision)
    return upsert
