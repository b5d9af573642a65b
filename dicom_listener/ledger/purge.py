"""Ledger: which studies may leave the spool, and what of the spool it knows."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, exists, func, or_, select, update

from dicom_listener.ledger import journal
from dicom_listener.ledger.states import FINISHED
from dicom_listener.ledger.tables import instances, objects, revisions, studies

PURGED: Final = "purged"  # `instances.ignored` of what is no longer on disk
_FINISHED: Final = [state.value for state in FINISHED]
_ON_DISK: Final = or_(instances.c.ignored.is_(None), instances.c.ignored != PURGED)


def removable(connection: Connection, *, before: datetime | None = None, most: int) -> list[str]:
    """Studies that nobody waits for, the oldest first. before: only what came last before this."""
    query = select(studies.c.study_instance_uid).where(_removable()).order_by(studies.c.last_received_at)
    if before is not None:
        query = query.where(studies.c.last_received_at < before)
    return list(connection.execute(query.limit(most)).scalars())


def purge(connection: Connection, study_instance_uid: str, *, reason: str) -> list[str]:
    """Enter that a study leaves the spool; what to remove there then. Empty: somebody waits now."""
    # The lock first: what was cut while we waited for it is seen only by a statement that begins after.
    connection.execute(
        select(studies.c.study_instance_uid)
        .where(studies.c.study_instance_uid == study_instance_uid)
        .with_for_update()
    )
    gone = connection.execute(
        update(studies)
        .where(studies.c.study_instance_uid == study_instance_uid, _removable())
        .values(purged_at=journal.now())
    ).rowcount
    if not gone:
        return []
    paths = list(
        connection.execute(
            select(instances.c.path).where(instances.c.study_instance_uid == study_instance_uid, _ON_DISK)
        ).scalars()
    )
    paths += [
        f"results/{study_instance_uid}/{number}"
        for number in connection.execute(
            select(revisions.c.revision).where(revisions.c.study_instance_uid == study_instance_uid)
        ).scalars()
    ]
    connection.execute(
        update(instances).where(instances.c.study_instance_uid == study_instance_uid).values(ignored=PURGED)
    )
    journal.note(connection, "purged", study_instance_uid, reason=reason)
    return paths


def spool_bytes(connection: Connection) -> int:
    """What the spool holds, by the ledger."""
    received = select(func.coalesce(func.sum(instances.c.size_bytes), 0)).where(_ON_DISK)
    made = (
        select(func.coalesce(func.sum(objects.c.size_bytes), 0))
        .join(studies, studies.c.study_instance_uid == objects.c.study_instance_uid)
        .where(studies.c.purged_at.is_(None))
    )
    return int(sum(connection.execute(query).scalar_one() for query in (received, made)))


def known_paths(connection: Connection, study_instance_uids: Collection[str]) -> set[str]:
    """What of these studies the spool should hold: received files, and folders of results."""
    received = connection.execute(
        select(instances.c.path).where(instances.c.study_instance_uid.in_(study_instance_uids), _ON_DISK)
    ).scalars()
    made = connection.execute(
        select(revisions.c.study_instance_uid, revisions.c.revision)
        .join(studies, studies.c.study_instance_uid == revisions.c.study_instance_uid)
        .where(revisions.c.study_instance_uid.in_(study_instance_uids), studies.c.purged_at.is_(None))
    )
    return {*received, *(f"results/{row.study_instance_uid}/{row.revision}" for row in made)}


def _removable() -> ColumnElement[bool]:
    waited_for = exists().where(
        revisions.c.study_instance_uid == studies.c.study_instance_uid,
        revisions.c.state.not_in(_FINISHED),
    )
    return studies.c.open.is_(False) & studies.c.purged_at.is_(None) & ~waited_for
