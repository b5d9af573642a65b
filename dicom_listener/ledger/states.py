"""The life of one revision of a study, and of one delivery of it, as tables."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from dicom_listener.errors import ImpossibleTransitionError


class RevisionState(StrEnum):
    READY = "ready"  # complete; to be scored
    HELD = "held"  # by a rule, until somebody says go
    SCORED = "scored"  # the result's bytes are kept; being delivered
    DELIVERED = "delivered"  # every destination has every object
    DROPPED = "dropped"  # by a rule
    REJECTED = "rejected"  # the service can never answer what it was asked; waits for somebody
    SUPERSEDED = "superseded"  # a later revision came before this one was scored
    DEAD_LETTER = "dead_letter"  # given up; waits for somebody
    DISCARDED = "discarded"  # by somebody


class RevisionEvent(StrEnum):
    SCORE = "score"
    REJECT = "reject"
    DELIVER = "deliver"
    GIVE_UP = "give_up"
    SUPERSEDE = "supersede"
    PROCEED = "proceed"
    SCORE_AGAIN = "score_again"
    DELIVER_AGAIN = "deliver_again"
    DISCARD = "discard"


TRANSITIONS: Final[Mapping[tuple[RevisionState, RevisionEvent], RevisionState]] = {
    (RevisionState.HELD, RevisionEvent.PROCEED): RevisionState.READY,
    (RevisionState.HELD, RevisionEvent.SUPERSEDE): RevisionState.SUPERSEDED,
    (RevisionState.HELD, RevisionEvent.DISCARD): RevisionState.DISCARDED,
    (RevisionState.READY, RevisionEvent.SCORE): RevisionState.SCORED,
    (RevisionState.READY, RevisionEvent.REJECT): RevisionState.REJECTED,
    (RevisionState.READY, RevisionEvent.GIVE_UP): RevisionState.DEAD_LETTER,
    (RevisionState.READY, RevisionEvent.SUPERSEDE): RevisionState.SUPERSEDED,
    (RevisionState.READY, RevisionEvent.DISCARD): RevisionState.DISCARDED,
    (RevisionState.SCORED, RevisionEvent.DELIVER): RevisionState.DELIVERED,
    (RevisionState.SCORED, RevisionEvent.GIVE_UP): RevisionState.DEAD_LETTER,
    (RevisionState.SCORED, RevisionEvent.DISCARD): RevisionState.DISCARDED,
    (RevisionState.DEAD_LETTER, RevisionEvent.SCORE_AGAIN): RevisionState.READY,
    (RevisionState.DEAD_LETTER, RevisionEvent.DELIVER_AGAIN): RevisionState.SCORED,
    (RevisionState.DEAD_LETTER, RevisionEvent.SUPERSEDE): RevisionState.SUPERSEDED,
    (RevisionState.DEAD_LETTER, RevisionEvent.DISCARD): RevisionState.DISCARDED,
    (RevisionState.REJECTED, RevisionEvent.SCORE_AGAIN): RevisionState.READY,
    (RevisionState.REJECTED, RevisionEvent.SUPERSEDE): RevisionState.SUPERSEDED,
    (RevisionState.REJECTED, RevisionEvent.DISCARD): RevisionState.DISCARDED,
}

# What may leave the spool when it is old: nothing that anybody still waits for.
FINISHED: Final = frozenset(
    {
        RevisionState.DELIVERED,
        RevisionState.DROPPED,
        RevisionState.SUPERSEDED,
        RevisionState.DISCARDED,
    }
)
# A later revision takes the place of these: nothing of theirs was sent, or it waits for somebody.
REPLACEABLE: Final = frozenset(
    {RevisionState.READY, RevisionState.HELD, RevisionState.REJECTED, RevisionState.DEAD_LETTER}
)
GIVEN_UP: Final = frozenset({RevisionState.REJECTED, RevisionState.DEAD_LETTER})


class DeliveryState(StrEnum):
    PENDING = "pending"
    COMMITTING = "committing"  # the destination has every object and has been asked to commit to them
    DELIVERED = "delivered"
    DEAD_LETTER = "dead_letter"
    DISCARDED = "discarded"


UNDELIVERED: Final = frozenset({DeliveryState.PENDING, DeliveryState.COMMITTING})


class ReportState(StrEnum):
    """Of a report that somebody asked for: what of their instances we have."""

    PENDING = "pending"
    REPORTED = "reported"
    DEAD_LETTER = "dead_letter"


def after(state: RevisionState, event: RevisionEvent) -> RevisionState:
    """The state that follows; raises ImpossibleTransitionError."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ImpossibleTransitionError(f"a revision that is {state} cannot meet {event}") from None
