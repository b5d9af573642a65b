"""Start, stop and breakage of a real service: nothing left behind, nothing answered wrongly."""

import hashlib
import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from models.package import PACKAGES
from service.client import Client, RejectedByService, ServiceFault, TransientServiceError
from service.serve import free_port
from tests.dicom_listener.peers import until
from tests.runners.radiographs import dicom_file, drawn
from tests.service.conftest import Running, spawn, start, stop

SECRETS = {"score": "let me score", "read": "let me read", "late": "let me score still"}
SCORE, READ, LATE = ({"Authorization": f"Bearer {secret}"} for secret in SECRETS.values())


def workers(running: Running) -> list[psutil.Process]:
    return psutil.Process(running.process.pid).children(recursive=True)


def gone(processes: list[psutil.Process], *, within_seconds: float) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=within_seconds)
    return not alive


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with small limits and tokens; the last test that uses it stops it."""
    tokens = [
        {"name": name, "sha256": hashlib.sha256(secret.encode()).hexdigest(), "scopes": [name]}
        for name, secret in SECRETS.items()
    ]
    tokens[-1] |= {"scopes": ["score"], "expires": "2020-12-31"}
    running = start(
        tmp_path_factory.mktemp("small"),
        free_port("127.0.0.1"),
        max_requests=1,
        max_body_bytes=4_000_000,
        tokens=tokens,
    )
    yield running
    stop(running)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service whose processes are killed; the last test that uses it kills it all."""
    running = start(tmp_path_factory.mktemp("victim"), free_port("127.0.0.1"))
    yield running
    stop(running)


def test_wedged_scorer_is_not_ready_and_holds_no_scrape_up(victim: Running) -> None:
    (scorer,) = [each for each in workers(victim) if "AnomalyScorer" in each.cmdline()]
    assert metric(victim, "skiagraph_service_ready") == 1
    scorer.suspend()
    try:
        with ThreadPoolExecutor(2) as pool:
            scraped = pool.submit(httpx.get, f"{victim.url}/metrics", timeout=8)
            probed = pool.submit(httpx.get, f"{victim.url}/readyz", timeout=8)
        assert "\nskiagraph_service_ready 0.0\n" in scraped.result().text
        assert (probed.result().status_code, probed.result().json()["code"]) == (503, "runner_away")
    finally:
        scorer.resume()
    until(lambda: metric(victim, "skiagraph_service_ready") == 1)


def test_killed_scorer_comes_back_and_no_answer_is_wrong(victim: Running, shared_data: Path) -> None:
    hand = (shared_data / "dicom" / "hand_kodak_cr500_j2k_lossless.dcm").read_bytes()
    (scorer,) = [each for each in workers(victim) if "AnomalyScorer" in each.cmdline()]
    with Client(victim.url) as client:
        expected = client.score(hand).score
        scorer.kill()
        seen: list[float | None] = []
        deadline = time.monotonic() + 60
        while not seen and time.monotonic() < deadline:
            try:
                seen.append(client.score(hand).score)
            except TransientServiceError:
                time.sleep(0.2)
        assert seen == [expected]


def test_killed_supervisor_takes_its_workers_along(victim: Running) -> None:
    left = workers(victim)
    assert len(left) >= 4
    victim.process.kill()
    assert gone(left, within_seconds=10)


def damage(package: Path) -> None:
    graph = package / "model.onnx"
    damaged = bytearray(graph.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    graph.write_bytes(damaged)


def ask_too_much(package: Path) -> None:
    """No engine is as near to the golden outputs as this."""
    manifest = json.loads((package / "manifest.json").read_text())
    manifest["golden"]["tolerance"] = 0.0
    (package / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("spoil", "code", "reason"),
    [(damage, "package_fault", "is damaged"), (ask_too_much, "engine_fault", "fails its parity check")],
)
def test_service_that_cannot_score_is_not_ready_and_says_why(
    tmp_path: Path, spoil: Callable[[Path], None], code: str, reason: str
) -> None:
    package = tmp_path / "spoilt"
    shutil.copytree(PACKAGES / "synthetic-defects", package)
    spoil(package)
    running = spawn(tmp_path, free_port("127.0.0.1"), model=str(package))
    try:
        deadline = time.monotonic() + 60
        said: dict[str, object] = {}
        while said.get("code") in (None, "runner_away") and time.monotonic() < deadline:
            try:
                answer = httpx.get(f"{running.url}/readyz", timeout=10)
                assert answer.status_code == 503
                said = answer.json()
            except httpx.TransportError:
                time.sleep(0.2)
        assert said["code"] == code
        assert reason in str(said["reason"])
        refused = httpx.post(f"{running.url}/v1/score", content=b"x")
        assert (refused.status_code, refused.json()["code"]) == (503, code)
        assert int(refused.headers["Retry-After"]) >= 1
        with Client(running.url) as client, pytest.raises(TransientServiceError):
            client.score(b"x")
        assert metric(running, "skiagraph_service_ready") == 0
    finally:
        stop(running)


def test_too_many_requests_are_told_when_to_come_again(small: Running) -> None:
    body = dicom_file(drawn(1500, 1200))
    with ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(lambda _: httpx.post(f"{small.url}/v1/score", content=body, headers=SCORE), range(12))
        )
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    for answer in refused:
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json()["code"] == "too_many_requests"
    assert {answer.status_code for answer in answers} <= {200, 422, 429}


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_body_over_the_limit_is_not_read(small: Running, chunked: bool) -> None:
    body = b"\0" * 6_000_000
    content = iter([body[:3_000_000], body[3_000_000:]]) if chunked else body
    answer = httpx.post(f"{small.url}/v1/score", content=content, headers=SCORE)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_token_opens_what_its_scopes_say(small: Running) -> None:
    url = small.url
    assert httpx.get(f"{url}/v1/models", headers=READ).status_code == 200
    assert httpx.post(f"{url}/v1/score", content=b"", headers=SCORE).json()["code"] == "empty"
    answers = [httpx.get(f"{url}/v1/models", headers=READ)]
    wrong = {"Authorization": "Bearer let me score, please"}
    for headers, status, code in (
        (READ, 403, "forbidden"),
        ({}, 401, "unauthorised"),
        (wrong, 401, "unauthorised"),
        (LATE, 401, "unauthorised"),
    ):
        series = f'skiagraph_http_problems_total{{code="{code}",status="{status}"}}'
        before = metric(small, series)
        answer = httpx.post(f"{url}/v1/score", content=b"", headers=headers)
        assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (status, status, code)
        assert answer.json()["fix"]
        assert answer.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)
        assert metric(small, series) == before + 1
        answers.append(answer)
    assert httpx.get(f"{url}/readyz").status_code == 200
    with Client(url, token=SECRETS["score"]) as client, pytest.raises(RejectedByService):
        client.score(b"")
    with Client(url) as client, pytest.raises(ServiceFault, match="401"):
        client.score(b"")
    told = [answer.text + str(answer.headers) for answer in answers]
    told += [small.log.read_text(), httpx.get(f"{url}/metrics").text, httpx.get(f"{url}/schema.json").text]
    assert not any("let me" in text for text in told)


def metric(running: Running, series: str) -> float:
    lines = httpx.get(f"{running.url}/metrics").text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(series)), 0.0)


def test_sigterm_finishes_the_running_request_and_leaves_nothing(small: Running) -> None:
    """Its runners stay for as long as it needs them, and whoever comes later is refused at once."""
    left, body = workers(small), dicom_file(drawn(1500, 1200))
    begun, stopping = threading.Event(), threading.Event()

    def slowly() -> Iterator[bytes]:
        yield body[:1_000_000]
        begun.set()
        assert stopping.wait(15)
        yield body[1_000_000:]

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{small.url}/v1/score", content=slowly(), headers=SCORE, timeout=60)
        assert begun.wait(15)
        time.sleep(0.3)  # it has arrived
        small.process.send_signal(signal.SIGTERM)
        until(lambda: refused(small.url))
        stopping.set()
        assert answer.result().status_code in (200, 422)
    assert small.process.wait(timeout=35) == 0
    assert gone(left, within_seconds=5)


def refused(url: str) -> bool:
    try:
        httpx.get(f"{url}/readyz")
    except httpx.ConnectError:
        return True
    except (httpx.ReadError, httpx.RemoteProtocolError):
        pass  # it had been waiting to be accepted
    return False


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        running = spawn(tmp_path, port)
        assert running.process.wait(timeout=60) == 2
    assert f"service.port: 127.0.0.1:{port} cannot be listened on" in running.log.read_text()
