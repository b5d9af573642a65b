"""Many at once, one in ten of them broken: those are refused with their reason, the rest is right to the bit.

A short run here; `make soak` makes it 1,000 requests (SKIAGRAPH_SOAK_REQUESTS).
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from models.rejection import Rejection
from runners.analysis import Analysis
from service.results import identity_of, result_of
from skiagraph.phantom import PhantomKind, as_dicom, draw
from skiagraph.settings import Settings
from tests.runners.radiographs import dicom_file, drawn
from tests.service.conftest import START_SECONDS, Running

REQUESTS = int(os.environ.get("SKIAGRAPH_SOAK_REQUESTS", "150"))
CLIENTS = 16
MAX_PIXELS = 20_000_000  # as the service of these tests has it

Said = Mapping[str, Any]


@dataclass(frozen=True)
class Bodies:
    """good: bytes and what one process says of them, alone; broken: bytes and the code of their refusal."""

    good: list[tuple[bytes, Said]]
    broken: list[tuple[bytes, str]]


def saved(dataset: Dataset) -> bytes:
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture(scope="module")
def bodies(shared_data: Path) -> Bodies:
    hand = (shared_data / "dicom" / "hand_kodak_cr500_j2k_lossless.dcm").read_bytes()
    phantoms = [
        saved(as_dicom(draw(kind, seed=seed, width=320, height=400)))
        for seed, kind in enumerate((PhantomKind.PLAIN, PhantomKind.FRACTURE, PhantomKind.FOREIGN_BODY) * 3)
    ]
    whole = dicom_file(drawn())
    broken = [
        (hand[: len(hand) // 2], "truncated"),
        (whole[: len(whole) - 4000], "truncated"),
        (b"%PDF-1.7 this is a letter", "not_an_image"),
        ((shared_data / "dicom" / "thorax_fuji_dx_small.dcm").read_bytes(), "not_a_hand"),
        (dicom_file(drawn(), NumberOfFrames=3), "multi_frame"),
        # Bombs: a header that declares gigabytes; a deflated data set that unfolds to more than is allowed.
        (dicom_file(drawn(), Rows=30_000, Columns=30_000), "too_large"),
        (deflated_bomb(), "too_large"),
    ]
    settings = Settings.model_validate({"service": {"max_pixels": MAX_PIXELS}})
    good = []
    with Analysis(settings) as analysis:
        model = identity_of(analysis.engine)
        for body in [hand, *phantoms]:
            outcome = analysis.analyse(body, drawn=False)
            if not isinstance(outcome, Rejection):
                good.append((body, said(result_of(outcome, model=model, seconds=0).model_dump(mode="json"))))
    assert len(good) >= 6
    return Bodies(good=good, broken=broken)


def deflated_bomb() -> bytes:
    """A small file; unfolded it is larger than the four bytes for each allowed pixel that are the limit."""
    return dicom_file(
        np.zeros((96, 80), np.uint16),
        syntax=DeflatedExplicitVRLittleEndian,
        EncapsulatedDocument=bytes(5 * MAX_PIXELS),
    )


def said(result: Mapping[str, Any]) -> Said:
    """A result without what differs from run to run."""
    return {key: value for key, value in result.items() if key != "seconds"}


class Load:
    """Clients that work through a list of bodies; `answers` grows while they do."""

    def __init__(self, url: str, bodies: list[bytes]) -> None:
        self.url, self.bodies = url, bodies
        self.answers: list[tuple[bytes, httpx.Response]] = []
        self._place = count()

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=120) as http:
            while (place := next(self._place)) < len(self.bodies):
                body = self.bodies[place]
                self.answers.append((body, http.post("/v1/score", content=body)))

    def start(self, pool: ThreadPoolExecutor) -> list[Future[None]]:
        return [pool.submit(self.run) for _ in range(CLIENTS)]


def mixed(bodies: Bodies, requests: int) -> list[bytes]:
    """Each tenth is broken; every kind of both occurs."""
    dice = random.Random(11)
    good = [bodies.good[place % len(bodies.good)][0] for place in range(requests - requests // 10)]
    broken = [bodies.broken[place % len(bodies.broken)][0] for place in range(requests // 10)]
    together = good + broken
    dice.shuffle(together)
    return together


def test_exactly_the_broken_are_refused_and_the_rest_is_as_when_scored_alone(
    service: Running, bodies: Bodies
) -> None:
    load = Load(service.url, mixed(bodies, REQUESTS))
    with ThreadPoolExecutor(CLIENTS) as pool:
        for client in load.start(pool):
            client.result()
    wrong = [problem for body, answer in load.answers if (problem := objection(bodies, body, answer))]
    assert not wrong
    statuses = Counter(answer.status_code for _, answer in load.answers)
    assert statuses == {200: REQUESTS - REQUESTS // 10, 422: REQUESTS // 10}
    assert batched(service), "no run of the graph held more than one radiograph: nothing was shown"


def objection(bodies: Bodies, body: bytes, answer: httpx.Response) -> str | None:
    """What is wrong with an answer; None when it is as it should be."""
    code = dict(bodies.broken).get(body)
    if code is not None:
        if answer.status_code == 422 and answer.json()["code"] == code and answer.json()["detail"]:
            return None
        return f"{code} is expected, not {answer.status_code} {answer.text[:200]}"
    expected = dict(bodies.good)[body]
    if answer.status_code == 200 and said(answer.json()) == expected:
        return None
    return f"{expected} is expected, not {answer.status_code} {answer.text[:400]}"


def batched(service: Running) -> bool:
    """Whether some run of the graph held more than one radiograph."""
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    name = "bentoml_service_adaptive_batch_size"
    alone = sum(_value(line) for line in lines if line.startswith(f"{name}_bucket") and 'le="1.0"' in line)
    return alone < sum(_value(line) for line in lines if line.startswith(f"{name}_count"))


def _value(line: str) -> float:
    return float(line.rsplit(" ", 1)[1])


def runners(service: Running, name: str) -> Iterator[psutil.Process]:
    for process in psutil.Process(service.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # the killed one, about to go
            if name in process.cmdline():
                yield process


@pytest.mark.parametrize("runner", ["AnomalyScorer", "Preprocessor"])
def test_a_killed_runner_answers_nothing_wrongly_and_comes_back_warm(
    service: Running, bodies: Bodies, runner: str
) -> None:
    load = Load(service.url, mixed(bodies, 60))
    before = [process.pid for process in runners(service, runner)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = load.start(pool)
        while len(load.answers) < 10:
            time.sleep(0.01)
        os.kill(before[0], signal.SIGKILL)
        killed_after = len(load.answers)
        for client in clients:
            client.result()
    assert killed_after < len(load.bodies) - CLIENTS, "all was answered before the kill: nothing was shown"
    for body, answer in load.answers:
        if answer.status_code == 503:  # told to come again: no answer, and no wrong one
            assert int(answer.headers["Retry-After"]) >= 1
        else:
            assert objection(bodies, body, answer) is None

    deadline = time.monotonic() + START_SECONDS
    while len(after := [process.pid for process in runners(service, runner)]) < len(before) or (
        httpx.get(f"{service.url}/readyz", timeout=20).status_code != 200
    ):
        assert time.monotonic() < deadline, "the runner did not come back"
        time.sleep(0.2)
    assert before[0] not in after
    body, expected = bodies.good[0]
    answer = httpx.post(f"{service.url}/v1/score", content=body, timeout=60)
    assert said(answer.json()) == expected
    if runner == "AnomalyScorer":  # it was in parity and warm before it took a request
        assert service.log.read_text().count('"model is ready"') > 1
