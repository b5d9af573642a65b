"""A typed client of the HTTP API: what the DICOM node, the command line and integrators call."""

import hashlib
import ssl
from collections.abc import Iterable
from contextlib import ExitStack
from email.message import Message
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar

import httpx
from pydantic import ValidationError

from service.contract import Problem, RadiographResult, StudyRequest, StudyResult

_Record = TypeVar("_Record", StudyResult, RadiographResult)
_TRY_LATER = frozenset({408, 425, 429, 502, 503, 504})
_REJECTED = frozenset({400, 413, 415, 422})


class ServiceError(Exception):
    """ServiceError
    ├── TransientServiceError   away, overloaded, late or a broken install: ask again
    ├── RejectedByService       this request can never work
    └── ServiceFault            a bug, or wrong settings
    """

    def __init__(self, message: str, *, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class TransientServiceError(ServiceError):
    """Ask again, after `retry_after_seconds` when the service said so."""

    def __init__(
        self, message: str, *, problem: Problem | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message, problem=problem)
        self.retry_after_seconds = retry_after_seconds


class RejectedByService(ServiceError):
    """The request itself is at fault; `problem.code` says why."""


class ServiceFault(ServiceError):
    """Asking again does not help until somebody repairs something."""


class Client:
    """Asks one service; close it, or use `with`. Methods raise ServiceError and nothing else.

    timeout: seconds for one whole answer (httpx's read timeout), connecting included.
    tls: whom to trust at an https:// URL, and the certificate to show; None trusts the public authorities.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        timeout: float = 60.0,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 5.0)),
            verify=tls or True,
            # A connection a request: one that is kept stays with its replica of a Kubernetes service, and
            # replicas that are added would never be asked.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def score_study(
        self,
        request: StudyRequest,
        instances: Iterable[Path | bytes],
        *,
        correlation_id: str | None = None,
    ) -> tuple[StudyResult, list[bytes]]:
        """Score the instances of one study: the result, and the DICOM objects it names, in its order."""
        with ExitStack() as stack:
            parts: list[tuple[str, tuple[str, IO[bytes] | bytes, str]]] = [
                ("request", ("request.json", request.model_dump_json().encode(), "application/json"))
            ]
            for number, instance in enumerate(instances):
                content = stack.enter_context(instance.open("rb")) if isinstance(instance, Path) else instance
                parts.append(("instances", (f"{number}.dcm", content, "application/dicom")))
            headers = {"Accept": "multipart/related"}
            if correlation_id:
                headers["X-Correlation-ID"] = correlation_id
            answer = self._send(self._http.build_request("POST", "/v1/studies", files=parts, headers=headers))
        return _study(answer)

    def score(self, radiograph: bytes, *, model: str | None = None) -> RadiographResult:
        """Score one radiograph given as DICOM Part 10, PNG or JPEG bytes."""
        answer = self._send(
            self._http.build_request(
                "POST", "/v1/score", content=radiograph, params={"model": model} if model else None
            )
        )
        return _parsed(RadiographResult, answer.content)

    def heatmap(self, radiograph: bytes, *, raw: bool = False) -> bytes:
        """The overlay of one radiograph as PNG bytes; raw: the grey anomaly map instead."""
        query = {"map": "raw"} if raw else {}
        return self._send(
            self._http.build_request("POST", "/v1/heatmap", content=radiograph, params=query)
        ).content

    def ready(self) -> bool:
        """Whether the service says that it can score; False when it cannot be reached."""
        try:
            return self._http.get("/readyz", timeout=6.0).is_success
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            answer = self._http.send(request)
        except httpx.HTTPError as error:
            raise TransientServiceError(
                f"no answer from the service at {self._http.base_url}: {type(error).__name__}; is it running?"
            ) from error
        if answer.is_success:
            return answer
        problem = _problem(answer)
        text = f"the service answered {answer.status_code} {problem.code}: {problem.detail}"
        if answer.status_code in _TRY_LATER:
            raise TransientServiceError(
                text, problem=problem, retry_after_seconds=_seconds(answer.headers.get("Retry-After"))
            )
        if answer.status_code in _REJECTED:
            raise RejectedByService(text, problem=problem)
        raise ServiceFault(text, problem=problem)


def _study(answer: httpx.Response) -> tuple[StudyResult, list[bytes]]:
    """Take a multipart/related answer (RFC 2387) apart; each object must have the digest the result names."""
    header = Message()
    header["Content-Type"] = answer.headers.get("Content-Type", "")
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/related" or not isinstance(boundary, str):
        raise ServiceFault(
            f"the service answered {header.get_content_type()} where multipart/related was asked for"
        )
    # The first delimiter has no line break before it; the piece after the last one is the closing "--".
    pieces = (b"\r\n" + answer.content).split(b"\r\n--" + boundary.encode())[1:-1]
    bodies = [piece.partition(b"\r\n\r\n")[2] for piece in pieces]
    if not bodies:
        raise TransientServiceError("the answer of the service ended early: ask again")
    result = _parsed(StudyResult, bodies[0])
    objects = bodies[1:]
    expected = [produced.sha256 for produced in result.objects]
    if [hashlib.sha256(content).hexdigest() for content in objects] != expected:
        raise TransientServiceError("the objects in the answer are not those the result names: ask again")
    return result, objects


def _parsed(kind: type[_Record], content: bytes) -> _Record:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise ServiceFault(
            f"the answer is not a {kind.__name__}: are client and service of one version? {error}"
        ) from error


def _problem(answer: httpx.Response) -> Problem:
    try:
        return Problem.model_validate_json(answer.content)
    except ValidationError:  # a proxy or BentoML itself answered
        text = answer.text[:200]
        return Problem(title=answer.reason_phrase, status=answer.status_code, detail=text, code="unknown")


def _seconds(header: str | None) -> float | None:
    return float(header) if header and header.isdigit() else None
