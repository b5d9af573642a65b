"""Ledger: what people and metrics ask of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, and_, func, select

from dicom_listener.ledger import journal
from dicom_listener.ledger.records import Delivery, Event, OutgoingObject, Revision, StoredInstance
from dicom_listener.ledger.revisions import delivery_from, objects_of, revision_from
from dicom_listener.ledger.states import GIVEN_UP, UNDELIVERED, RevisionState
from dicom_listener.ledger.tables import deliveries, instances, revisions, studies


@dataclass(frozen=True, kw_only=True)
class Waiting:
    depth: int
    oldest_age_seconds: float


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """stages: assembly, scoring, delivery; outboxes by destination."""

    stages: dict[str, Waiting]
    outboxes: dict[str, Waiting]
    dead_letters: int


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """One line of `skiagraph studies list`. state: of the latest revision, or `receiving`."""

    study_instance_uid: str
    state: str
    revision: int
    instances: int
    first_received_at: datetime
    last_received_at: datetime
    rule: str | None
    error: str | None
    result: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class RevisionHistory:
    revision: Revision
    result: dict[str, Any] | None
    objects: tuple[OutgoingObject, ...]
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, kw_only=True)
class StudyHistory:
    """Everything the ledger knows of one study."""

    summary: StudySummary
    instances: tuple[StoredInstance, ...]
    revisions: tuple[RevisionHistory, ...]
    events: tuple[Event, ...]


def backlog(connection: Connection, destinations: Sequence[str]) -> Backlog:
    at = journal.now()
    scoring = _waiting(connection, revisions, revisions.c.state == RevisionState.READY.value, at)
    outboxes = {
        name: _waiting(
            connection,
            deliveries,
            and_(
                deliveries.c.destination == name,
                deliveries.c.state.in_([state.value for state in UNDELIVERED]),
            ),
            at,
        )
        for name in destinations
    }
    count, oldest = connection.execute(
        select(func.count(), func.min(studies.c.last_received_at)).where(studies.c.open)
    ).one()
    dead = connection.execute(
        select(func.count())
        .select_from(revisions)
        .where(revisions.c.state.in_([state.value for state in GIVEN_UP]))
    ).scalar_one()
    return Backlog(
        stages={
            "assembly": Waiting(depth=count, oldest_age_seconds=_age(oldest, at)),
            "scoring": scoring,
            "delivery": Waiting(
                depth=sum(one.depth for one in outboxes.values()),
                oldest_age_seconds=max((one.oldest_age_seconds for one in outboxes.values()), default=0.0),
            ),
        },
        outboxes=outboxes,
        dead_letters=dead,
    )


def summaries(
    connection: Connection,
    *,
    state: str | None = None,
    limit: int = 100,
    study_instance_uid: str | None = None,
) -> list[StudySummary]:
    """The latest studies first. state: a RevisionState, or `receiving`."""
    query = (
        select(
            studies,
            revisions.c.state,
            revisions.c.rule,
            revisions.c.error,
            revisions.c.result,
            select(func.count())
            .where(instances.c.study_instance_uid == studies.c.study_instance_uid)
            .scalar_subquery()
            .label("instances"),
        )
        .select_from(
            studies.outerjoin(
                revisions,
                and_(
                    revisions.c.study_instance_uid == studies.c.study_instance_uid,
                    revisions.c.revision == studies.c.revision,
                ),
            )
        )
        .limit(limit)
    )
    newest_first = studies.c.last_received_at.desc()
    if study_instance_uid is not None:
        query = query.where(studies.c.study_instance_uid == study_instance_uid)
    if state == "receiving":
        query = query.where(studies.c.open)
    elif state is not None:
        # The same order by an index of its own: a rare state is found, and a common one is not sorted.
        newest_first = revisions.c.last_received_at.desc()
        query = query.where(revisions.c.state == state, studies.c.open.is_(False))
    return [
        StudySummary(
            study_instance_uid=row.study_instance_uid,
            state="receiving" if row.open else (row.state or "ignored"),
            revision=row.revision,
            instances=row.instances,
            first_received_at=row.first_received_at,
            last_received_at=row.last_received_at,
            rule=row.rule,
            error=row.error,
            result=row.result,
        )
        for row in connection.execute(query.order_by(newest_first))
    ]


def history(connection: Connection, study_instance_uid: str) -> StudyHistory | None:
    found = summaries(connection, study_instance_uid=study_instance_uid, limit=1)
    if not found:
        return None
    kept = connection.execute(
        select(instances).where(instances.c.study_instance_uid == study_instance_uid).order_by(instances.c.id)
    )
    return StudyHistory(
        summary=found[0],
        instances=tuple(StoredInstance(**row._mapping) for row in kept),
        revisions=tuple(_revisions(connection, study_instance_uid)),
        events=tuple(journal.history(connection, study_instance_uid)),
    )


def _revisions(connection: Connection, study_instance_uid: str) -> list[RevisionHistory]:
    rows = connection.execute(
        select(revisions)
        .where(revisions.c.study_instance_uid == study_instance_uid)
        .order_by(revisions.c.revision)
    ).all()
    sent = connection.execute(
        select(deliveries)
        .where(deliveries.c.study_instance_uid == study_instance_uid)
        .order_by(deliveries.c.destination)
    ).all()
    return [
        RevisionHistory(
            revision=revision_from(row._mapping),
            result=row.result,
            objects=tuple(objects_of(connection, study_instance_uid, row.revision)),
            deliveries=tuple(delivery_from(one._mapping) for one in sent if one.revision == row.revision),
        )
        for row in rows
    ]


def _waiting(connection: Connection, table: Table, which: Any, at: datetime) -> Waiting:
    count, oldest = connection.execute(select(func.count(), func.min(table.c.retry_since)).where(which)).one()
    return Waiting(depth=count, oldest_age_seconds=_age(oldest, at))


def _age(since: datetime | None, at: datetime) -> float:
    return 0.0 if since is None else max(0.0, (at - since).total_seconds())
