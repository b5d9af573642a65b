"""What a request can end in, as problem details (RFC 9457) with a stable code; and the end of a service.

ProblemError
├── Rejected    422 (or 400, 401, 403, 404, 413, 415)   this request can never work
├── TryLater    429 / 503 / 504               the same request may work later
└── Fault       500 / 503                     a bug, or a broken install: 503, it is the fault of no request
ServingEnded
"""

from collections.abc import Mapping
from typing import Final

from service.contract import Problem

REPAIR_SECONDS: Final = 30  # after which to ask a broken install again


class ProblemError(Exception):
    """An answer that is not a result."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        value: str | None = None,
        fix: str | None = None,
        retry_after_seconds: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        retry = {"Retry-After": str(retry_after_seconds)} if retry_after_seconds is not None else {}
        self.headers = {**retry, **(headers or {})}
        self.problem = Problem(
            title=code.replace("_", " "),
            status=status,
            detail=detail,
            code=code,
            field=field,
            value=value,
            fix=fix,
        )


class Rejected(ProblemError):
    """Sending it again does not help."""


class TryLater(ProblemError):
    """Sending it again may help, after the seconds of Retry-After."""


class Fault(ProblemError):
    """Somebody has to repair something."""


class ServingEnded(Exception):
    """The workers ended, or never started, and nobody had asked for it."""
