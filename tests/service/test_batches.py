"""Many at once: a bad radiograph never harms the good ones that share its batch."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from runners.analysis import Analysis, Scored
from skiagraph.settings import Settings
from tests.runners.radiographs import dicom_file, drawn
from tests.service.conftest import Running

REQUESTS = 40
CLIENTS = 10


def test_ten_per_cent_broken_requests_are_refused_and_the_rest_is_right(
    service: Running, shared_data: Path
) -> None:
    hand = (shared_data / "dicom" / "hand_kodak_cr500_j2k_lossless.dcm").read_bytes()
    folder = shared_data / "fracatlas" / "images"
    pictures = [path.read_bytes() for path in sorted(folder.iterdir())[1:30:6]]
    broken = {
        hand[: len(hand) // 2]: "truncated",
        b"no radiograph": "not_an_image",
        dicom_file(drawn(), Rows=30_000, Columns=30_000): "too_large",
        dicom_file(drawn(), NumberOfFrames=3): "multi_frame",
    }
    with Analysis(Settings()) as analysis:
        outcomes = {body: analysis.analyse(body) for body in [hand, *pictures]}
    expected: dict[bytes, float | str] = {
        body: outcome.finding.score if isinstance(outcome, Scored) else outcome.code.value
        for body, outcome in outcomes.items()
    }
    expected |= broken
    dice = random.Random(11)
    bodies = [
        dice.choice(list(broken)) if place % 10 == 0 else dice.choice(list(outcomes))
        for place in range(REQUESTS)
    ]
    with (
        ThreadPoolExecutor(CLIENTS) as pool,
        httpx.Client(base_url=service.url, timeout=60, limits=httpx.Limits(max_connections=CLIENTS)) as http,
    ):
        answers = list(pool.map(lambda body: http.post("/v1/score", content=body), bodies))
    tolerance = 1e-4  # a batch may round otherwise than one radiograph alone
    for body, answer in zip(bodies, answers, strict=True):
        wanted = expected[body]
        if isinstance(wanted, str):
            assert (answer.status_code, answer.json()["code"]) == (422, wanted)
        else:
            assert abs(answer.json()["score"] - wanted) <= tolerance
    assert sum(answer.status_code == 422 for answer in answers) >= REQUESTS // 10
    assert batched(service)


def batched(service: Running) -> bool:
    """Whether some run of the graph held more than one radiograph; else the test above showed nothing."""
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    name = "bentoml_service_adaptive_batch_size"
    alone = sum(_value(line) for line in lines if line.startswith(f"{name}_bucket") and 'le="1.0"' in line)
    return alone < sum(_value(line) for line in lines if line.startswith(f"{name}_count"))


def _value(line: str) -> float:
    return float(line.rsplit(" ", 1)[1])
