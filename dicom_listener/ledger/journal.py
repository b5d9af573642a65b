"""The append-only part of the ledger: everything that happened, when and why."""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, insert, select

from dicom_listener.ledger.records import Event
from dicom_listener.ledger.tables import events

_INSERT: Final = insert(events)


def now() -> datetime:
    return datetime.now(UTC)


def note(
    connection: Connection,
    kind: str,
    study_instance_uid: str | None = None,
    revision: int | None = None,
    **detail: object,
) -> None:
    """Append one event. detail: UIDs, AE titles, codes, counts; never PHI."""
    connection.execute(
        _INSERT,
        {
            "at": now(),
            "kind": kind,
            "study_instance_uid": study_instance_uid,
            "revision": revision,
            "detail": detail,
        },
    )


def history(connection: Connection, study_instance_uid: str) -> list[Event]:
    rows = connection.execute(
        select(events.c.at, events.c.kind, events.c.study_instance_uid, events.c.revision, events.c.detail)
        .where(events.c.study_instance_uid == study_instance_uid)
        .order_by(events.c.id)
    )
    return [Event(**row._mapping) for row in rows]
