"""Why a radiograph is not analysed: a closed set of reasons, carried as values, never raised in a batch."""

from dataclasses import dataclass
from enum import StrEnum


class RejectionCode(StrEnum):
    """Stable codes; metrics, the HTTP API and the report use them as they are."""

    # The bytes cannot be read: status "error".
    EMPTY = "empty"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    UNDECODABLE = "undecodable"
    NO_PIXELS = "no_pixels"
    TOO_LARGE = "too_large"
    INVALID_HEADER = "invalid_header"
    # They can be read, but this is nothing the model knows: status "not_analysable".
    UNSUPPORTED_SOP_CLASS = "unsupported_sop_class"
    FOR_PROCESSING = "for_processing"
    MULTI_FRAME = "multi_frame"
    BLANK = "blank"
    NOT_A_RADIOGRAPH = "not_a_radiograph"
    NOT_A_HAND = "not_a_hand"
    FOREARM = "forearm"
    MULTIPLE_VIEWS = "multiple_views"

    @property
    def unreadable(self) -> bool:
        """True when the bytes themselves are at fault, not what they show."""
        return self in _UNREADABLE


_UNREADABLE = frozenset(
    {
        RejectionCode.EMPTY,
        RejectionCode.NOT_AN_IMAGE,
        RejectionCode.TRUNCATED,
        RejectionCode.UNDECODABLE,
        RejectionCode.NO_PIXELS,
        RejectionCode.TOO_LARGE,
        RejectionCode.INVALID_HEADER,
    }
)


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """One radiograph that cannot be analysed; `reason` is a sentence for people, free of PHI."""

    code: RejectionCode
    reason: str
