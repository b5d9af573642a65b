"""What nobody foresaw: a problem to the client, a traceback in the log, a number in the metrics."""

import asyncio
from collections.abc import Iterator

import httpx
import prometheus_client
import pytest
import structlog
from starlette.types import Message, Scope

from service import guard
from service.contract import Problem
from service.http import Rooms, api
from skiagraph.settings import Settings

SETTINGS = Settings()
INTERNAL = {"code": "internal_error", "status": "500"}
Log = list[structlog.types.EventDict]


class Broken:
    """Fails whatever it is asked, in a way that no route knows."""

    def __getattr__(self, name: str) -> object:
        raise ZeroDivisionError("a secret of the inside")


@pytest.fixture(autouse=True)
def broken() -> Iterator[None]:
    api.state.rooms = Rooms(settings=SETTINGS, pipeline=Broken(), studies=Broken())  # type: ignore[arg-type]
    yield
    del api.state.rooms


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        monkeypatch.setattr(guard, "_log", structlog.get_logger())
        yield lines


def guarded() -> guard.Guard:
    return guard.Guard(api, SETTINGS.service.model_copy(update={"allow_anonymous": True}))


def ask(app: object, method: str, path: str) -> httpx.Response:
    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.request(method, path, headers={"X-Correlation-ID": "study-7"})

    return asyncio.run(asked())


def counted(name: str, **labels: str) -> float:
    return prometheus_client.REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_route_that_breaks_is_a_problem_counted_and_logged_once(log: Log) -> None:
    series = "skiagraph_http_request_duration_seconds_count"
    before = (
        counted("skiagraph_http_problems_total", **INTERNAL),
        counted(series, route="/v1/score", status="500"),
    )
    answer = ask(guarded(), "POST", "/v1/score")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Correlation-ID"] == "study-7"
    assert (answer.status_code, Problem.model_validate_json(answer.content).code) == (500, "internal_error")
    assert "secret" not in answer.text
    after = (
        counted("skiagraph_http_problems_total", **INTERNAL),
        counted(series, route="/v1/score", status="500"),
    )
    assert after == (before[0] + 1, before[1] + 1)
    assert [line["event"] for line in log] == ["a request failed", "request"]
    assert {line["correlation_id"] for line in log} == {"study-7"}
    assert isinstance(log[0]["exc_info"], ZeroDivisionError)


def test_so_is_an_open_path_that_breaks(log: Log) -> None:
    answer = ask(api, "GET", "/readyz")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert [line["event"] for line in log] == ["a request failed"]


def test_an_answer_that_breaks_on_its_way_is_cut_off_counted_and_logged(log: Log) -> None:
    async def breaks(_scope: Scope, _receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 200})  # type: ignore[operator]
        raise ZeroDivisionError

    before = counted("skiagraph_http_problems_total", **INTERNAL)
    with pytest.raises(ZeroDivisionError):
        ask(guard.Guard(breaks, SETTINGS.service), "GET", "/livez")
    assert counted("skiagraph_http_problems_total", **INTERNAL) == before + 1
    assert [line["event"] for line in log] == ["a request failed", "request"]


def test_a_client_that_goes_away_is_no_error(log: Log) -> None:
    sent: list[Message] = []
    messages = iter([{"type": "http.request", "body": b"--x\r\n", "more_body": True}])

    async def receive() -> Message:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/studies",
        "query_string": b"",
        "headers": [(b"content-type", b"multipart/form-data; boundary=x")],
    }
    before = counted("skiagraph_http_problems_total", **INTERNAL)
    asyncio.run(guarded()(scope, receive, send))
    assert [line["event"] for line in log] == ["the client went away", "request"]
    assert not sent
    assert counted("skiagraph_http_problems_total", **INTERNAL) == before
