"""Ledger: Storage Commitment, asked of destinations (`commitments`) and asked of us (`reports`)."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection, Row, insert, select, update

from dicom_listener.ledger import journal, outbox, revisions
from dicom_listener.ledger.records import Delivery, ReportDue, Revision, SopReference, StoredInstance
from dicom_listener.ledger.revisions import delivery_from, is_due
from dicom_listener.ledger.states import UNDELIVERED, ReportState
from dicom_listener.ledger.tables import commitments, deliveries, instances, reports


def asked(connection: Connection, delivery: Delivery, transaction_uid: str) -> None:
    """Enter a transaction before the destination hears of it: its answer may come at once."""
    connection.execute(
        insert(commitments).values(
            transaction_uid=transaction_uid,
            study_instance_uid=delivery.study_instance_uid,
            revision=delivery.revision,
            destination=delivery.destination,
            asked_at=journal.now(),
        )
    )
    journal.note(
        connection,
        "commitment_asked",
        delivery.study_instance_uid,
        delivery.revision,
        destination=delivery.destination,
        transaction_uid=transaction_uid,
    )


def is_answered(connection: Connection, transaction_uid: str) -> bool:
    return (
        connection.execute(
            select(commitments.c.answered_at).where(commitments.c.transaction_uid == transaction_uid)
        ).scalar()
        is not None
    )


def delivery_of(connection: Connection, transaction_uid: str) -> Delivery | None:
    """What a transaction of ours was about; None when it is not ours."""
    row = connection.execute(
        select(deliveries).join(commitments).where(commitments.c.transaction_uid == transaction_uid)
    ).first()
    return None if row is None else delivery_from(row._mapping)


def answered(
    connection: Connection,
    delivery: Delivery,
    transaction_uid: str,
    committed: Collection[SopReference],
    *,
    next_attempt_at: datetime | None,
) -> tuple[bool, Revision | None]:
    """Enter a destination's report; returns whether all is committed, and the revision if that ended it.

    What it does not commit to is sent again at `next_attempt_at`; None gives the delivery up.
    """
    uid, revision = delivery.study_instance_uid, delivery.revision
    missing = [
        made.position
        for made in revisions.objects_of(connection, uid, revision)
        if SopReference(sop_class_uid=made.sop_class_uid, sop_instance_uid=made.sop_instance_uid)
        not in committed
    ]
    connection.execute(
        update(commitments)
        .where(commitments.c.transaction_uid == transaction_uid)
        .values(answered_at=journal.now())
    )
    journal.note(
        connection,
        "commitment_answered",
        uid,
        revision,
        destination=delivery.destination,
        transaction_uid=transaction_uid,
        committed=len(committed),
        not_committed=missing,
    )
    if not missing:
        ended = outbox.delivered(connection, delivery)
        return True, revisions.get(connection, uid, revision) if ended else None
    if delivery.state in UNDELIVERED:
        outbox.not_committed(connection, delivery, missing, next_attempt_at=next_attempt_at)
    return False, None


def requested(
    connection: Connection,
    *,
    transaction_uid: str,
    calling_ae: str,
    called_ae: str,
    peer_address: str,
    items: Sequence[SopReference],
    due_at: datetime,
) -> None:
    """Enter a peer's request; the same transaction again is answered again."""
    at = journal.now()
    values = {
        "called_ae": called_ae,
        "peer_address": peer_address,
        "items": [[item.sop_class_uid, item.sop_instance_uid] for item in items],
        "requested_at": at,
        "state": ReportState.PENDING.value,
        "attempts": 0,
        "retry_since": at,
        "next_attempt_at": due_at,
        "finished_at": None,
        "error": None,
    }
    same = (reports.c.calling_ae == calling_ae, reports.c.transaction_uid == transaction_uid)
    known = connection.execute(select(reports.c.id, reports.c.attempts).where(*same)).first()
    if known is None:
        connection.execute(
            insert(reports).values(calling_ae=calling_ae, transaction_uid=transaction_uid, **values)
        )
    else:  # its attempts go on counting: the workflow of an attempt runs once
        connection.execute(update(reports).where(*same).values(**values | {"attempts": known.attempts + 1}))
    journal.note(
        connection,
        "report_requested",
        calling_ae=calling_ae,
        peer_address=peer_address,
        transaction_uid=transaction_uid,
        instances=len(items),
    )


def due_reports(
    connection: Connection, *, at: datetime, longest_seconds: float, most: int
) -> list[ReportDue]:
    rows = connection.execute(
        select(reports)
        .where(reports.c.state == ReportState.PENDING.value, is_due(reports, at, longest_seconds))
        .order_by(reports.c.next_attempt_at)
        .limit(most)
    )
    return [_report(row) for row in rows]


def get_report(connection: Connection, number: int) -> ReportDue:
    return _report(connection.execute(select(reports).where(reports.c.id == number)).one())


def newest_of(connection: Connection, items: Sequence[SopReference]) -> dict[str, StoredInstance]:
    """What we hold of these, by SOP Instance UID."""
    uids = [item.sop_instance_uid for item in items]
    rows = connection.execute(
        select(instances).where(instances.c.sop_instance_uid.in_(uids)).order_by(instances.c.id)
    )
    return {row.sop_instance_uid: StoredInstance(**row._mapping) for row in rows}


def reported(connection: Connection, report: ReportDue, by_study: dict[str | None, tuple[int, int]]) -> None:
    """Enter that the peer took the report. by_study: how many instances we have, and how many not."""
    _set_report(connection, report, state=ReportState.REPORTED.value, finished_at=journal.now(), error=None)
    for study, (committed, failed) in by_study.items():
        journal.note(
            connection,
            "commitment_reported",
            study,
            calling_ae=report.calling_ae,
            transaction_uid=report.transaction_uid,
            committed=committed,
            failed=failed,
        )


def not_reported(
    connection: Connection, report: ReportDue, *, error: str, next_attempt_at: datetime | None
) -> None:
    """Enter a failed attempt; next_attempt_at None gives the report up."""
    if next_attempt_at is None:
        _set_report(
            connection, report, state=ReportState.DEAD_LETTER.value, finished_at=journal.now(), error=error
        )
    else:
        _set_report(connection, report, next_attempt_at=next_attempt_at, error=error)
    journal.note(
        connection,
        "report_failed",
        calling_ae=report.calling_ae,
        transaction_uid=report.transaction_uid,
        attempt=report.attempts + 1,
        error=error,
        given_up=next_attempt_at is None,
    )


def _set_report(connection: Connection, report: ReportDue, **values: object) -> None:
    connection.execute(
        update(reports)
        .where(
            reports.c.id == report.id,
            reports.c.attempts == report.attempts,
            reports.c.state == ReportState.PENDING.value,
        )
        .values(attempts=report.attempts + 1, **values)
    )


def _report(row: Row[tuple[object, ...]]) -> ReportDue:
    known = {name: row._mapping[name] for name in ReportDue.__dataclass_fields__}
    known["state"] = ReportState(known["state"])
    known["items"] = tuple(
        SopReference(sop_class_uid=one, sop_instance_uid=two) for one, two in known["items"]
    )
    return ReportDue(**known)
