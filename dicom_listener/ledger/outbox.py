"""Ledger: what becomes of the deliveries of a revision; every change is guarded by its starting state."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, func, select, update

from dicom_listener.ledger import journal
from dicom_listener.ledger.records import Delivery
from dicom_listener.ledger.revisions import delivery_from, get, is_due, this, transition
from dicom_listener.ledger.states import UNDELIVERED, DeliveryState, RevisionEvent, RevisionState
from dicom_listener.ledger.tables import deliveries, revisions


def due_deliveries(
    connection: Connection, destination: str, *, at: datetime, longest_seconds: float, most: int
) -> list[tuple[Delivery, int]]:
    """Deliveries to one destination to be attempted now, with their priority; order and clock as in `due`."""
    rows = connection.execute(
        select(deliveries, revisions.c.priority)
        .join(revisions)
        .where(
            deliveries.c.destination == destination,
            deliveries.c.state.in_([state.value for state in UNDELIVERED]),
            is_due(deliveries, at, longest_seconds),
        )
        .order_by(revisions.c.priority, deliveries.c.next_attempt_at)
        .limit(most)
    )
    return [(delivery_from(row._mapping), row.priority) for row in rows]


def stranded(connection: Connection, destinations: Collection[str]) -> list[Delivery]:
    """Deliveries to destinations that are none of these."""
    rows = connection.execute(
        select(deliveries).where(
            deliveries.c.destination.not_in(destinations),
            deliveries.c.state.in_([state.value for state in UNDELIVERED]),
        )
    )
    return [delivery_from(row._mapping) for row in rows]


def get_delivery(
    connection: Connection, study_instance_uid: str, revision: int, destination: str
) -> Delivery:
    row = connection.execute(
        select(deliveries)
        .where(*this(deliveries, study_instance_uid, revision), deliveries.c.destination == destination)
        .with_for_update()
    ).one()
    return delivery_from(row._mapping)


def accepted(connection: Connection, delivery: Delivery, *, position: int, status: int) -> None:
    """Enter that the destination has one object."""
    current = get_delivery(connection, delivery.study_instance_uid, delivery.revision, delivery.destination)
    if position in current.accepted:
        return
    _set_delivery(connection, current, accepted=sorted({*current.accepted, position}))
    journal.note(
        connection,
        "object_accepted",
        delivery.study_instance_uid,
        delivery.revision,
        destination=delivery.destination,
        position=position,
        status=f"0x{status:04X}",
    )


def delivered(connection: Connection, delivery: Delivery) -> bool:
    """Enter that the destination has everything; returns whether the whole revision is delivered by it."""
    uid, revision = delivery.study_instance_uid, delivery.revision
    # The revision's row first: two destinations that finish at once must not both miss the end.
    state = connection.execute(
        select(revisions.c.state).where(*this(revisions, uid, revision)).with_for_update()
    ).scalar_one()
    current = get_delivery(connection, uid, revision, delivery.destination)
    if current.state not in UNDELIVERED:
        return False
    _set_delivery(
        connection,
        current,
        state=DeliveryState.DELIVERED.value,
        attempts=current.attempts + 1,
        error=None,
        finished_at=journal.now(),
    )
    journal.note(connection, "delivered", uid, revision, destination=delivery.destination)
    waiting = connection.execute(
        select(func.count())
        .select_from(deliveries)
        .where(*this(deliveries, uid, revision), deliveries.c.state != DeliveryState.DELIVERED.value)
    ).scalar_one()
    if waiting or state != RevisionState.SCORED.value:
        return False
    transition(connection, uid, revision, RevisionEvent.DELIVER)
    return True


def committing(connection: Connection, delivery: Delivery, *, overdue_at: datetime) -> None:
    """Enter that the destination has everything and is to commit to it; at `overdue_at` it is asked again."""
    current = get_delivery(connection, delivery.study_instance_uid, delivery.revision, delivery.destination)
    if current.state not in UNDELIVERED or current.attempts != delivery.attempts:
        return  # its answer was quicker
    _set_delivery(
        connection,
        current,
        state=DeliveryState.COMMITTING.value,
        attempts=current.attempts + 1,
        error=None,
        next_attempt_at=overdue_at,
    )


def not_committed(
    connection: Connection,
    delivery: Delivery,
    positions: Collection[int],
    *,
    next_attempt_at: datetime | None,
) -> None:
    """Enter that the destination does not keep the objects at these positions: they are sent again."""
    current = get_delivery(connection, delivery.study_instance_uid, delivery.revision, delivery.destination)
    _set_delivery(connection, current, accepted=sorted(set(current.accepted) - set(positions)))
    failed_delivery(
        connection,
        current,
        error=f"{delivery.destination} did not commit to {len(positions)} objects",
        next_attempt_at=next_attempt_at,
    )


def failed_delivery(
    connection: Connection, delivery: Delivery, *, error: str, next_attempt_at: datetime | None
) -> None:
    """Enter a failed attempt; next_attempt_at None gives the delivery up, and with it the revision."""
    uid, revision = delivery.study_instance_uid, delivery.revision
    current = get_delivery(connection, uid, revision, delivery.destination)
    if current.state not in UNDELIVERED or current.attempts != delivery.attempts:
        return
    values: dict[str, object] = {"attempts": current.attempts + 1, "error": error}
    if next_attempt_at is None:
        values |= {"state": DeliveryState.DEAD_LETTER.value, "finished_at": journal.now()}
    else:
        values |= {"state": DeliveryState.PENDING.value, "next_attempt_at": next_attempt_at}
    _set_delivery(connection, current, **values)
    journal.note(
        connection,
        "delivery_failed",
        uid,
        revision,
        destination=delivery.destination,
        attempt=current.attempts + 1,
        error=error,
    )
    if next_attempt_at is None and get(connection, uid, revision).state is RevisionState.SCORED:
        transition(
            connection, uid, revision, RevisionEvent.GIVE_UP, destination=delivery.destination, reason=error
        )


def hurry(connection: Connection, destination: str, *, at: datetime) -> int:
    """The destination answers again: everything that waits for it is due now. Returns how many."""
    return connection.execute(
        update(deliveries)
        .where(
            deliveries.c.destination == destination,
            deliveries.c.state == DeliveryState.PENDING.value,
            deliveries.c.next_attempt_at > at,
        )
        .values(next_attempt_at=at)
    ).rowcount


def _set_delivery(connection: Connection, delivery: Delivery, **values: object) -> None:
    connection.execute(
        update(deliveries)
        .where(
            *this(deliveries, delivery.study_instance_uid, delivery.revision),
            deliveries.c.destination == delivery.destination,
        )
        .values(**values)
    )
