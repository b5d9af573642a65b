"""A real Prometheus scrapes a real run: every query of the dashboard and every alert finds its series."""

import base64
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from helm_python import Chart
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from skiagraph.demo.product import Product, running_product
from skiagraph.phantom import PhantomKind, as_dicom, draw
from tests.certificates import make_certificates
from tests.dicom_listener.peers import Pacs, send, until
from tests.helm.chart import Renderer, one
from tests.operations import metrics, rules
from tests.operations.prometheus import Prometheus, running_prometheus

pytestmark = pytest.mark.debian("prometheus")

ROUNDS = 2
# PatientID stays: a rule of this run knows the phantoms by it.
PATIENT = {
    "PatientName": "Unmistakable^Ophelia",
    "PatientBirthDate": "19340517",
    "PatientAddress": "Wintergreen Alley 77",
    "OtherPatientIDs": "MRN-88442211",
    "AccessionNumber": "ACC-55667788",
    "ReferringPhysicianName": "Quackenbush^Zelda",
    "InstitutionName": "Saint Elsewhere",
    "StudyDescription": "Fell off a zeppelin",
    "PatientComments": "collects thimbles",
}


@dataclass(frozen=True, kw_only=True)
class Run:
    product: Product
    pacs: Pacs
    prometheus: Prometheus
    log: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Hands and an ankle through the whole product, twice, so that every counter is seen to grow."""
    work = tmp_path_factory.mktemp("monitoring")
    certificates = make_certificates(work)
    with Pacs() as pacs:
        listener = {
            "quiet_period_seconds": 1.0,
            "destinations": [pacs.destination],
            "peers": [{"ae_title": "DX1"}],
            "rules": [{"name": "phantoms", "when": {"PatientID": "PHANTOM"}, "gate": False}],
            "retry": {"first_seconds": 1.0, "longest_seconds": 2.0},
            "peer_check_seconds": 1.0,
            "tls": {
                "port": 0,
                "certificate": f"{certificates}/server.pem",
                "key": f"{certificates}/server.key",
            },
        }
        with running_product(work / "product", listener=listener, log=work / "product.log") as product:
            settings = product.settings
            targets = {
                "skiagraph-listener": settings.listener.console_port,
                "skiagraph-service": settings.service.port,
            }
            (work / "alerts.yaml").write_text(
                rules.hurried(rules.ALERTS.read_text(), factor=60, outbox_factor=600)
            )
            with running_prometheus(
                work / "prometheus", rules=work / "alerts.yaml", targets=targets
            ) as prometheus:
                until(lambda: prometheus.value("sum(up)") == 2, seconds=30)
                for number in range(ROUNDS):
                    instances = [_known_by_name(_hand(number)), _known_by_name(_ankle())]
                    assert send(settings.listener.port, instances, calling="DX1") == [0, 0]
                    httpx.get(f"http://127.0.0.1:{settings.service.port}/no/such/path")
                    done = len(instances) * (number + 1)
                    until(
                        lambda done=done: prometheus.value("skiagraph_turnaround_seconds_count") == done,
                        seconds=60,
                    )
                    time.sleep(2)  # scraped once more, so that a rate has two ends
                yield Run(product=product, pacs=pacs, prometheus=prometheus, log=work / "product.log")


def _known_by_name(instance: Dataset) -> Dataset:
    """With a patient whom nothing but the spool and the PACS may know."""
    for keyword, value in PATIENT.items():
        setattr(instance, keyword, value)
    return instance


def _hand(seed: int) -> Dataset:
    return as_dicom(draw(PhantomKind.PLAIN, seed=seed, height=1024, width=768))


def _ankle() -> Dataset:
    """A real ankle as a new study: the gate calls it not a hand."""
    path = get_testdata_file("RG3_UNCR.dcm")
    assert isinstance(path, str)
    ankle = dcmread(path)
    ankle.StudyInstanceUID = generate_uid()
    ankle.SOPInstanceUID = ankle.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return ankle


@pytest.mark.parametrize(("title", "expression"), rules.panel_queries(), ids=lambda text: str(text)[:50])
def test_a_panel_shows_something(run: Run, title: str, expression: str) -> None:
    assert run.prometheus.shows_something(expression), f"{title}: {expression}"


@pytest.mark.parametrize("rule", rules.alerts(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_asks_for_series_that_are_there(run: Run, rule: dict[str, str]) -> None:
    """With the label values it names, and the labels it groups by."""
    expression = rule["expr"]
    grouped = {
        label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")
    } - {"namespace", "le"}
    for selector in set(re.findall(r"skiagraph_\w+(?:\{[^}]*\})?|up\{[^}]*\}", expression)):
        series = run.prometheus.query(selector)
        assert series, f"{selector} selects nothing"
        labels = set().union(*(one["metric"] for one in series))
        if selector.startswith("skiagraph_"):
            assert grouped <= labels, f"{selector} has no {grouped - labels}"


def test_no_alert_fires_and_no_rule_fails_in_a_run_where_all_is_well(run: Run) -> None:
    found = run.prometheus.rules()
    assert {rule["name"] for rule in found} == {rule["alert"] for rule in rules.alerts()}
    assert {rule["health"] for rule in found} == {"ok"}, [rule.get("lastError") for rule in found]
    assert run.prometheus.firing() == set()


def test_the_metrics_are_those_that_are_written_down(run: Run) -> None:
    """Names, types, labels and help of both halves; after a change: python -m tests.operations.metrics."""
    assert metrics.described(_scraped(run)) == metrics.LIST.read_text()


def test_nothing_but_spool_and_pacs_knows_the_patient(run: Run) -> None:
    """Not the log, the metrics, the ledger, the workflow records, the names of files, the processes."""
    assert any(str(one.PatientName) == PATIENT["PatientName"] for one in run.pacs.datasets.values())
    folder = run.product.settings.listener.folder
    texts = {"log": run.log.read_bytes(), "metrics": "".join(_scraped(run)).encode()}
    databases = sorted(folder.glob("*.sqlite*"))
    assert {path.name for path in databases} >= {"ledger.sqlite", "workflow.sqlite"}
    texts |= {path.name: path.read_bytes() for path in databases}
    texts["names"] = "\n".join(str(path) for path in folder.rglob("*")).encode()
    for value in PATIENT.values():
        words = [word for word in re.split(r"[ ^]", value) if len(word) > 5]
        for form in (*_in_base64(value), value.encode(), *(word.encode() for word in words)):
            assert not [name for name, text in texts.items() if form in text], f"{value} as {form!r}"


def _in_base64(value: str) -> list[bytes]:
    """What can be seen of it inside longer base64, which pickled workflow records are kept in."""
    shifted = (base64.b64encode(b"\0" * shift + value.encode()) for shift in range(3))
    return [text[4:-4] for text in shifted]


def _scraped(run: Run) -> list[str]:
    """What both halves expose."""
    ports = (run.product.settings.listener.console_port, run.product.settings.service.port)
    return [httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text for port in ports]


def test_the_counts_are_those_of_what_was_sent(run: Run) -> None:
    ask = run.prometheus.value
    assert ask('sum(skiagraph_instances_received_total{calling_ae="DX1", status="0x0000"})') == 2 * ROUNDS
    assert ask("sum(skiagraph_verdicts_total) + sum(skiagraph_input_rejected_total)") == 2 * ROUNDS
    assert ask('skiagraph_peer_up{destination="pacs"}') == 1
    assert ask("sum(skiagraph_outbox_pending)") == 0


def test_a_pacs_that_is_away_is_told_of_and_told_of_again_when_it_is_back(run: Run) -> None:
    received = len(run.pacs.received)
    run.pacs.stop()
    assert send(run.product.settings.listener.port, [_hand(ROUNDS)], calling="DX1") == [0]
    expected = {"SkiagraphPeerDown", "SkiagraphOutboxStalled"}
    try:
        until(lambda: run.prometheus.firing() >= expected, seconds=60, every=0.5)
    finally:
        run.pacs.start()
    until(lambda: not run.prometheus.firing() & expected, seconds=60, every=0.5)
    assert len(run.pacs.received) > received


def test_the_phantom_of_helm_test_comes_back_delivered(run: Run) -> None:
    """The very command of the test pod, with the addresses of this run."""
    settings = run.product.settings.listener
    with Chart.load(rules.CHART) as chart:
        pod = one(
            Renderer(chart).objects({"settings": {"listener": {"peers": [{"ae_title": "DX1"}]}}}), "Pod"
        )
    (container,) = [item for item in pod["spec"]["containers"] if item["name"] == "phantom"]
    *command, host, port, console, seconds = container["command"]
    assert (command[0], command[3:]) == ("python", ["DX1", "SKIAGRAPH"])
    assert (host, port) == ("site-skiagraph-listener", "11112")
    assert console == "http://site-skiagraph-listener-headless:8080"
    here = ["127.0.0.1", str(settings.port), f"http://127.0.0.1:{settings.console_port}", seconds]
    done = subprocess.run([sys.executable, *command[1:], *here], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    uid = done.stdout.split()[2].rstrip(":")
    assert run.pacs.reports(uid)
    unknown = httpx.get(f"http://127.0.0.1:{settings.console_port}/studies/1.2.3")
    assert (unknown.status_code, unknown.json()) == (404, {"state": None})


def _association_request(calling: str) -> bytes:
    """A-ASSOCIATE-RQ for Verification (PS3.8 table 9-11), small enough to send a thousand of them."""

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(content)) + content

    verification = item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2")
    body = struct.pack(">HH16s16s32x", 1, 0, b"SKIAGRAPH".ljust(16), calling.encode().ljust(16))
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    body += item(0x20, b"\1\0\0\0" + verification)
    body += item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"2.25.1"))
    return struct.pack(">BxI", 0x01, len(body)) + body


def test_a_thousand_unknown_ae_titles_make_no_new_series(run: Run) -> None:
    console = f"http://127.0.0.1:{run.product.settings.listener.console_port}/metrics"
    rejected = 'sum(skiagraph_associations_total{calling_ae="other", result="rejected"})'
    before = httpx.get(console).text.count("\n")

    def ask(number: int) -> bytes:
        with socket.create_connection(("127.0.0.1", run.product.settings.listener.port), 10) as peer:
            peer.sendall(_association_request(f"UNKNOWN_{number}"))
            return peer.recv(1)

    with ThreadPoolExecutor(20) as threads:
        answers = set(threads.map(ask, range(1000)))
    assert answers == {b"\3"}  # A-ASSOCIATE-RJ
    assert httpx.get(console).text.count("\n") == before
    until(lambda: run.prometheus.value(rejected) == 1000)
