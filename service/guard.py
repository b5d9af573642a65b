"""Around every request: limits, time, correlation, and problem details for whatever goes wrong."""

import asyncio
import re
import time
import uuid
from datetime import UTC, datetime

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import metrics
from service.access import authorise, is_open, known_tokens, scope_of
from service.errors import Fault, ProblemError, Rejected, TryLater
from skiagraph import log
from skiagraph.settings.service import ServiceSettings

CORRELATION = "X-Correlation-ID"
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_log = log.get(__name__)


class Guard:
    """ASGI middleware; one of it per process counts the requests that are being answered."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        self._app = app
        self._settings = settings
        self._tokens = known_tokens(settings)
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        correlation_id = _correlation_id(scope)
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (CORRELATION.lower().encode(), correlation_id.encode()),
                ]
            await send(message)

        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(correlation_id=correlation_id):
            try:
                await self._limited(scope, receive, send_named)
            except ClientDisconnect:
                _log.info("the client went away")
            except Exception as error:
                problem = answer(as_problem(error))
                if status:  # an answer is on its way: nothing but cutting it off is honest
                    raise
                await problem(scope, receive, send_named)
            finally:
                route = getattr(scope.get("route"), "path", "unknown")
                seconds = time.perf_counter() - started
                metrics.observe_request(route, status, seconds)
                _log.info(
                    "request", method=scope["method"], route=route, status=status, seconds=round(seconds, 3)
                )

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        needed = scope_of(scope["method"], scope["path"])
        address = (scope.get("server") or (None,))[0]
        authorise(
            _header(scope, b"authorization"),
            needed,
            self._tokens,
            datetime.now(UTC).date(),
            anonymous=is_open(self._settings, address),
        )
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if self._running >= self._settings.max_requests:
            raise TryLater(
                429,
                "too_many_requests",
                f"{self._running} requests are being answered, as many as max_requests allows",
                retry_after_seconds=1,
            )
        self._running += 1
        try:
            async with asyncio.timeout(self._settings.request_timeout_seconds) as limit:

                async def begin(message: Message) -> None:
                    limit.reschedule(None)  # from here on the client sets the pace
                    await send(message)

                await self._app(scope, self._counted(scope, receive), begin)
        except TimeoutError as error:
            raise TryLater(
                504,
                "too_slow",
                f"no answer within request_timeout_seconds, {self._settings.request_timeout_seconds:g} s",
                retry_after_seconds=5,
            ) from error
        finally:
            self._running -= 1

    def _counted(self, scope: Scope, receive: Receive) -> Receive:
        """`receive`, until the body grows over the limit; what is declared too large is not read at all."""
        limit = self._settings.max_body_bytes
        declared = _header(scope, b"content-length") or ""
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise _too_large(limit)
            return message

        return counted


def answer(error: ProblemError, **members: object) -> JSONResponse:
    """Problem details of an error; members: extensions (RFC 9457 3.2)."""
    problem = error.problem
    metrics.count_problem(problem.code, problem.status)
    return JSONResponse(
        {**problem.model_dump(exclude_none=True), **members},
        status_code=problem.status,
        headers=error.headers,
        media_type="application/problem+json",
    )


def as_problem(error: Exception) -> ProblemError:
    """The problem that an exception is; what nobody foresaw is logged as a Fault."""
    if isinstance(error, ProblemError):
        return error
    _log.error("a request failed", exc_info=error)
    return Fault(500, "internal_error", "something failed inside: see the log of the service")


def _too_large(limit: int) -> Rejected:
    return Rejected(
        413,
        "body_too_large",
        f"the body is larger than the {limit} bytes of max_body_bytes",
        field="body",
        fix="send fewer instances at once or raise service.max_body_bytes",
    )


def _correlation_id(scope: Scope) -> str:
    given = _header(scope, CORRELATION.lower().encode()) or ""
    return given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex


def _header(scope: Scope, name: bytes) -> str | None:
    value = dict(scope["headers"]).get(name)
    return None if value is None else value.decode("latin-1")
