"""Ledger: what somebody asks of the node from another process; valid when the node is down, too."""

from sqlalchemy import Connection, insert, select, update

from dicom_listener.ledger import journal
from dicom_listener.ledger.records import Request, RequestKind
from dicom_listener.ledger.tables import requests


def ask(connection: Connection, kind: RequestKind, study_instance_uid: str, model: str | None = None) -> int:
    """Enter a request; returns its number."""
    journal.note(connection, f"asked_{kind}", study_instance_uid, model=model)
    return int(
        connection.execute(
            insert(requests)
            .values(
                requested_at=journal.now(),
                kind=kind.value,
                study_instance_uid=study_instance_uid,
                model=model,
            )
            .returning(requests.c.id)
        ).scalar_one()
    )


def waiting(connection: Connection) -> list[Request]:
    rows = connection.execute(
        select(requests.c.id, requests.c.kind, requests.c.study_instance_uid, requests.c.model)
        .where(requests.c.done_at.is_(None))
        .order_by(requests.c.id)
        .limit(100)
    )
    return [
        Request(
            id=row.id, kind=RequestKind(row.kind), study_instance_uid=row.study_instance_uid, model=row.model
        )
        for row in rows
    ]


def done(connection: Connection, request: Request, outcome: str) -> None:
    connection.execute(
        update(requests).where(requests.c.id == request.id).values(done_at=journal.now(), outcome=outcome)
    )
    journal.note(connection, f"did_{request.kind}", request.study_instance_uid, outcome=outcome)


def outcome(connection: Connection, number: int) -> str | None:
    """What came of a request; None while it waits."""
    found: str | None = connection.execute(
        select(requests.c.outcome).where(requests.c.id == number)
    ).scalar_one()
    return found
