"""The HTTP API of a real service: right answers, and a problem for everything else."""

import io
import socket
import time
import zipfile
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import cv2
import httpx
import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, generate_uid

from models.rejection import Rejection
from runners.analysis import Analysis
from service.client import Client, RejectedByService, TransientServiceError
from service.contract import ObjectKind, Problem, RadiographResult, Status, StudyRequest, StudyResult
from service.report.words import GATE_OFF
from service.results import identity_of, result_of
from skiagraph.settings import Settings
from tests.dicom_listener.peers import until
from tests.runners.radiographs import dicom_file, drawn
from tests.service.conftest import Running

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def hand(shared_data: Path) -> bytes:
    return (shared_data / "dicom" / "hand_kodak_cr500_j2k_lossless.dcm").read_bytes()


def request_for(instance: bytes, **members: object) -> StudyRequest:
    uid = pydicom.dcmread(io.BytesIO(instance), stop_before_pixels=True).StudyInstanceUID
    return StudyRequest(study_instance_uid=uid, result_time=WHEN, **members)


def asked_at(result_time: str) -> str:
    return f'{{"study_instance_uid": "1.2.3", "result_time": "{result_time}"}}'


def problem(answer: httpx.Response) -> Problem:
    assert answer.headers["Content-Type"] == "application/problem+json"
    found = Problem.model_validate_json(answer.content)
    assert found.status == answer.status_code
    return found


def test_score_over_http_is_the_score_of_the_straight_line(http: httpx.Client, hand: bytes) -> None:
    answered = RadiographResult.model_validate_json(http.post("/v1/score", content=hand).content)
    with Analysis(Settings()) as analysis:
        outcome = analysis.analyse(hand)
        assert not isinstance(outcome, Rejection)
        expected = result_of(outcome, model=identity_of(analysis.engine), seconds=answered.seconds)
    same = {"model"}  # its parity is that of another process
    assert answered.model_dump(exclude=same) == expected.model_dump(exclude=same)
    assert answered.status is Status.SCORED


def test_multipart_upload_scores_as_the_raw_body_does(http: httpx.Client, hand: bytes) -> None:
    raw = http.post("/v1/score", content=hand).json()
    uploaded = http.post("/v1/score", files={"file": ("x", hand)}).json()
    assert uploaded["score"] == raw["score"]


def test_study_comes_back_with_its_report_and_heatmap(service: Running, hand: bytes) -> None:
    with Client(service.url) as client:
        result, objects = client.score_study(request_for(hand), [hand])
        again = client.score_study(request_for(hand), [hand])[1]
    assert [produced.kind for produced in result.objects] == [
        ObjectKind.STRUCTURED_REPORT,
        ObjectKind.HEATMAP,
    ]
    assert result.results[0].status is Status.SCORED
    assert set(result.stage_seconds) == {"prepare", "engine", "analyse", "report"}
    for produced, data in zip(result.objects, objects, strict=True):
        dataset = pydicom.dcmread(io.BytesIO(data))
        assert dataset.SOPInstanceUID == produced.reference.sop_instance_uid
        assert dataset.StudyInstanceUID == result.study_instance_uid
    assert again == objects  # asked twice, the same bytes


def test_zip_holds_what_multipart_does(http: httpx.Client, service: Running, hand: bytes) -> None:
    files = {"request": request_for(hand).model_dump_json(), "instances": hand}
    answer = http.post("/v1/studies", files=files, headers={"Accept": "application/zip"})
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive, Client(service.url) as client:
        result = StudyResult.model_validate_json(archive.read("result.json"))
        zipped = [archive.read(name) for name in archive.namelist()[1:]]
        assert zipped == client.score_study(request_for(hand), [hand])[1]
    assert len(result.objects) == len(zipped)


def test_instance_that_cannot_be_analysed_is_reported_not_refused(service: Running) -> None:
    study = generate_uid()
    good_header = {"StudyInstanceUID": study, "PatientName": "A^B", "StudyDate": "20260101"}
    truncated = dicom_file(drawn(200, 200), **good_header)[:-500]
    with Client(service.url) as client:
        result, objects = client.score_study(
            StudyRequest(study_instance_uid=study, result_time=WHEN),
            [truncated, dicom_file(drawn(200, 200), SOPClassUID=CTImageStorage, **good_header)],
        )
    said = {each.reason_code: each.status for each in result.results}
    assert said == {"truncated": Status.ERROR, "unsupported_sop_class": Status.NOT_ANALYSABLE}
    assert [produced.kind for produced in result.objects] == [ObjectKind.STRUCTURED_REPORT]
    assert pydicom.dcmread(io.BytesIO(objects[0])).StudyInstanceUID == study


def test_rejected_radiograph_is_a_problem_with_the_result_in_it(http: httpx.Client) -> None:
    answer = http.post("/v1/score", content=dicom_file(np.full((64, 64), 5, np.uint16)))
    assert (answer.status_code, problem(answer).code) == (422, "blank")
    result = RadiographResult.model_validate(answer.json()["result"])
    assert (result.status, result.reason_code) == (Status.NOT_ANALYSABLE, "blank")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "empty"),
        (b"hello", "not_an_image"),
        (dicom_file(drawn(), Rows=30_000, Columns=30_000), "too_large"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "undecodable"),
    ],
    ids=["empty", "text", "bomb", "broken png"],
)
def test_bad_bytes_are_a_problem_with_the_reason(http: httpx.Client, body: bytes, code: str) -> None:
    for route in ("/v1/score", "/v1/heatmap"):
        answer = http.post(route, content=body)
        assert (answer.status_code, problem(answer).code) == (422, code)


def test_heatmap_is_a_picture_of_the_radiograph(http: httpx.Client, hand: bytes) -> None:
    overlay = http.post("/v1/heatmap", content=hand)
    assert overlay.headers["Content-Type"] == "image/png"
    drawn_picture = cv2.imdecode(np.frombuffer(overlay.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert drawn_picture.shape[1:] == (1024, 3)
    raw = http.post("/v1/heatmap?map=raw", content=hand).content
    grey = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (grey.shape, grey.dtype) == ((1250, 1024), np.uint16)
    assert grey.max() > grey.min()


def test_many_radiographs_come_back_line_by_line_in_order(http: httpx.Client, hand: bytes) -> None:
    files = [("files", ("hand.dcm", hand)), ("files", ("empty", b"")), ("files", ("again.dcm", hand))]
    with http.stream("POST", "/v1/scores", files=files) as answer:
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        results = [RadiographResult.model_validate_json(line) for line in answer.iter_lines()]
    assert [(each.file, each.status, each.reason_code) for each in results] == [
        ("hand.dcm", Status.SCORED, None),
        ("empty", Status.ERROR, "empty"),
        ("again.dcm", Status.SCORED, None),
    ]
    assert results[0].score == results[2].score == http.post("/v1/score", content=hand).json()["score"]
    assert problem(http.post("/v1/scores", content=b"x")).status == 415


def test_models_say_what_they_were_measured_to_do(http: httpx.Client) -> None:
    (model,) = http.get("/v1/models").json()["models"]
    described = http.get(f"/v1/models/{model['name']}").json()
    assert described["operating_points"] == model["operating_points"]
    assert described["evaluation"]
    assert described["training_data"]


@pytest.mark.parametrize(
    ("files", "status", "field"),
    [
        ({"instances": b"x"}, 422, "request"),
        ({"request": "{}"}, 422, "instances"),
        ({"request": "{}", "instances": b"x"}, 422, "request.study_instance_uid"),
        ({"request": "no json", "instances": b"x"}, 422, "request"),
        ({"request": asked_at("0001-01-01T00:00:00Z"), "instances": b"x"}, 422, "request.result_time"),
        ({"request": asked_at("9999-12-31T23:59:59Z"), "instances": b"x"}, 422, "request.result_time"),
    ],
    ids=["no request", "no instances", "empty request", "not json", "year 1", "year 9999"],
)
def test_malformed_study_names_the_field(
    http: httpx.Client, files: dict[str, str | bytes], status: int, field: str
) -> None:
    parts = {name: (name, content) for name, content in files.items()}
    found = problem(http.post("/v1/studies", files=parts))
    assert (found.status, found.code, found.field) == (status, "invalid_request", field)
    assert found.fix


def test_study_without_dicom_or_of_another_study_is_rejected(service: Running) -> None:
    request = StudyRequest(study_instance_uid="1.2.3", result_time=WHEN)
    with Client(service.url) as client:
        for instance, code in ((b"\x89PNG", "not_dicom"), (dicom_file(drawn()), "wrong_study")):
            with pytest.raises(RejectedByService) as caught:
                client.score_study(request, [instance])
            assert caught.value.problem is not None
            assert (caught.value.problem.code, caught.value.problem.field) == (code, "instances[0]")


@pytest.mark.parametrize("query", ["model=nobody", "operating_point=sometimes"])
def test_unknown_model_or_operating_point_lists_those_there_are(http: httpx.Client, query: str) -> None:
    found = problem(http.post(f"/v1/score?{query}", content=b"x"))
    assert found.status == 422
    assert found.code in ("unknown_model", "unknown_operating_point")
    assert found.fix


def test_operating_point_is_chosen_per_request(http: httpx.Client, hand: bytes) -> None:
    points = http.get("/v1/models").json()["models"][0]["operating_points"]
    for point in points:
        answer = http.post(f"/v1/score?operating_point={point['name']}", content=hand).json()
        assert answer["operating_point"]["threshold"] == point["threshold"]
        assert answer["abnormal"] is (answer["score"] > point["threshold"])


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nothing", 404), ("GET", "/v1/score", 405)]
)
def test_wrong_path_or_method_is_a_problem(http: httpx.Client, method: str, path: str, status: int) -> None:
    found = problem(http.request(method, path))
    assert found.status == status
    assert found.fix


def test_a_path_that_anybody_may_choose_is_no_label(http: httpx.Client, service: Running) -> None:
    """A series for each would grow without end, and might carry a name."""
    for path in ("/v1/DOE-JANE", "/v1/models/DOE-JANE", "/v1/models/DOE%0AJANE", "/DOE-JANE?DOE=JANE"):
        assert problem(http.get(path)).status == 404
    text = http.get("/metrics").text
    assert 'skiagraph_http_request_duration_seconds_count{route="unknown",status="404"}' in text
    assert "DOE" not in text + service.log.read_text()


@pytest.mark.parametrize("path", ["/", "/docs.json", "/schema.json", "/static_content/index.css", "/healthz"])
def test_pages_of_the_framework_are_not_offered(http: httpx.Client, path: str) -> None:
    assert problem(http.get(path)).status == 404


def test_a_part_that_nobody_reads_is_named(http: httpx.Client, hand: bytes) -> None:
    answer = http.post("/v1/score", files={"file": hand}, data={"file_url": "http://127.0.0.1:9/hand.dcm"})
    found = problem(answer)
    assert (found.status, found.code, found.field) == (422, "invalid_request", "'file_url'")
    broken = http.post("/v1/scores", content=b"--x\r\n", headers={"Content-Type": "multipart/form-data"})
    assert problem(broken).code == "invalid_multipart"


class Fetched(BaseHTTPRequestHandler):
    """Where a service that fetches addresses would be seen."""

    seen: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.seen.append(self.path)
        self.send_response(200)
        self.end_headers()


def test_nothing_is_fetched_by_address(http: httpx.Client) -> None:
    with HTTPServer(("127.0.0.1", 0), Fetched) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/hand.dcm"
        uid = StudyRequest(study_instance_uid="1.2", result_time=WHEN).model_dump_json()
        answers = [
            http.post("/v1/score", content=address),
            http.post("/v1/score", json={"file": address, "url": address}),
            http.post("/v1/score", data={"file": address}),
            http.post("/v1/score", files={"file": address}),
            http.post("/v1/scores", files={"files": (None, address)}),
            http.post("/v1/heatmap", json=address, params={"file": address, "url": address}),
            http.post("/v1/studies", files={"request": (None, uid), "instances": (None, address)}),
            http.post("/v1/studies", json={"request": uid, "instances": [address]}),
        ]
        server.shutdown()
    assert {problem(answer).status for answer in answers} <= {415, 422}
    assert not Fetched.seen


def test_no_other_site_may_read_an_answer(http: httpx.Client) -> None:
    """CORS is closed: no header of it, in answers as in what a browser asks before."""
    origin = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    for answer in (http.get("/v1/models", headers=origin), http.options("/v1/score", headers=origin)):
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert answer.status_code == 405


def test_without_the_gate_the_answer_and_the_report_say_so(service: Running, shared_data: Path) -> None:
    ankle = (shared_data / "dicom" / "rg3_ankle_fuji_mono1_rle.dcm").read_bytes()
    said = {}
    with Client(service.url) as client:
        for gate in (True, False):
            result, objects = client.score_study(request_for(ankle, gate=gate), [ankle])
            assert result.gate is gate
            report = pydicom.dcmread(io.BytesIO(objects[0]))
            said[gate] = (result.results[0].status, GATE_OFF in report.to_json())
    assert said == {True: (Status.NOT_ANALYSABLE, False), False: (Status.SCORED, True)}


@pytest.mark.parametrize("route", ["/v1/score", "/v1/scores", "/v1/heatmap", "/v1/studies"])
def test_every_route_takes_model_and_operating_point(http: httpx.Client, hand: bytes, route: str) -> None:
    def asked(**choice: str) -> httpx.Response:
        if route == "/v1/studies":
            return http.post(
                route, files={"request": request_for(hand, **choice).model_dump_json(), "instances": hand}
            )
        if route == "/v1/scores":
            return http.post(route, files={"files": hand}, params=choice)
        return http.post(route, content=hand, params=choice)

    point = {"operating_point": "specificity-90", "model": "synthetic-defects"}
    assert asked(**point).is_success
    for name in point:
        found = problem(asked(**{name: "nobody"}))
        assert (found.status, found.field, found.value) == (422, name, "nobody")


def test_correlation_id_comes_back(http: httpx.Client, service: Running) -> None:
    assert (
        http.get("/v1/models", headers={"X-Correlation-ID": "study-7"}).headers["X-Correlation-ID"]
        == "study-7"
    )
    hostile = http.get("/v1/models", headers={"X-Correlation-ID": "a\tb" * 40}).headers["X-Correlation-ID"]
    assert len(hostile) == 32
    assert "study-7" in service.log.read_text()


def test_metrics_count_what_happened_in_every_process(http: httpx.Client, hand: bytes) -> None:
    def value(line: str) -> float:
        lines = http.get("/metrics").text.splitlines()
        return next((float(each.rsplit(" ", 1)[1]) for each in lines if each.startswith(line)), 0.0)

    scored = (
        'skiagraph_inference_requests_total{engine="onnxruntime",model="synthetic-defects",outcome="scored"'
    )
    blank = 'skiagraph_input_rejected_total{reason="blank"}'
    before = value(scored), value(blank)
    http.post("/v1/score", content=hand)
    http.post("/v1/score", content=dicom_file(np.full((64, 64), 5, np.uint16)))
    assert (value(scored), value(blank)) == (before[0] + 1, before[1] + 1)
    text = http.get("/metrics").text
    assert 'skiagraph_input_rejected_total{reason="not_a_hand"}' in text  # there before the first
    assert "bentoml_service_adaptive_batch_size" in text  # of another process


def test_ready_says_which_engine_and_why(http: httpx.Client) -> None:
    (engine,) = http.get("/readyz").json()["engines"]
    assert (engine["engine"], engine["precision"]) == ("onnxruntime", "fp32")
    assert engine["parity"] < 0.005
    assert engine["reason"]
    assert http.get("/livez").status_code == 200
    assert "\nskiagraph_service_ready 1.0\n" in http.get("/metrics").text


def test_a_client_that_goes_away_is_logged_and_is_no_error(http: httpx.Client, service: Running) -> None:
    def broken() -> list[str]:
        return [line for line in http.get("/metrics").text.splitlines() if 'status="500"' in line]

    before = broken()
    with socket.create_connection(("127.0.0.1", http.base_url.port or 0)) as connection:
        connection.sendall(
            b"POST /v1/score HTTP/1.1\r\nHost: service\r\nContent-Length: 1000\r\n"
            b"X-Correlation-ID: goes-away\r\n\r\nhalf of it"
        )
        time.sleep(0.3)  # it has arrived
    lines = until(lambda: [line for line in service.log.read_text().splitlines() if "goes-away" in line][1:])
    assert '"status": 0' in lines[-1]
    assert "Traceback" not in service.log.read_text()
    assert broken() == before


class Kept(BaseHTTPRequestHandler):
    """Keeps its connections open, and knows from which port each request came."""

    protocol_version = "HTTP/1.1"
    ports: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        self.ports.append(self.client_address[1])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_client_makes_a_connection_for_each_request() -> None:
    """Else replicas that are added behind one address would never be asked."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Kept) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with Client(f"http://127.0.0.1:{server.server_port}") as client:
            assert client.ready()
            assert client.ready()
        server.shutdown()
    assert len(set(Kept.ports)) == 2


def test_client_calls_a_service_that_is_away_transient() -> None:
    with (
        Client("http://127.0.0.1:9", timeout=2) as client,
        pytest.raises(TransientServiceError, match="is it running"),
    ):
        client.score(b"x")
