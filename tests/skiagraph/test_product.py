"""The whole product: DCMTK sends over a real association, `skiagraph up` answers, Orthanc receives.

The node reaches the service over TLS with certificates on both sides, and with a token.
"""

import hashlib
import io
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
import yaml
from pydantic import SecretStr
from pydicom.dataset import Dataset

from bench.memory import LIMIT_MB, pss_by_process
from dicom_listener.ledger.overview import StudyHistory
from dicom_listener.studies import list_studies, show_study
from service.client import Client, RejectedByService, TransientServiceError
from service.contract import StudyRequest
from skiagraph.checks import Outcome, run_checks
from skiagraph.demo import pacs as receiving
from skiagraph.demo.ports import free_ports
from skiagraph.demo.product import Product, running_product
from skiagraph.demo.send import send
from skiagraph.demo.studies import DemoStudy
from skiagraph.phantom import PhantomKind, as_dicom, draw
from skiagraph.settings.tls import TlsClient
from skiagraph.supervisor import service_context
from tests.certificates import make_certificates
from tests.conftest import debian_program

pytestmark = pytest.mark.debian("Orthanc", "storescu", "dciodvfy", "dsrdump")

TOKEN = "what only the node knows"  # noqa: S105  of this test
FINISHED = {"delivered", "rejected", "dead_letter", "dropped"}


@dataclass(frozen=True, kw_only=True)
class Site:
    product: Product
    pacs: receiving.Orthanc

    def storescu(self, path: Path, *options: str) -> None:
        """DCMTK's own storescu, with the file's transfer syntax as it is."""
        listener = self.product.settings.listener
        command = ["/usr/bin/storescu", "--required", *options, "-aec", listener.ae_title]
        sent = subprocess.run(
            [*command, "127.0.0.1", str(listener.port), str(path)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert sent.returncode == 0, sent.stderr

    def send(self, instance: Dataset) -> str:
        listener = self.product.settings.listener
        study = DemoStudy(
            name="test", study_instance_uid=str(instance.StudyInstanceUID), instances=[instance]
        )
        return send(study, host="127.0.0.1", port=listener.port, called=listener.ae_title)

    def answer(self, study_instance_uid: str, *, revision: int = 1, seconds: float = 60) -> StudyHistory:
        """Wait until nothing more happens to this revision of the study."""
        listener = self.product.settings.listener
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for one in list_studies(listener):
                done = one.state in FINISHED and one.revision >= revision
                if one.study_instance_uid == study_instance_uid and done:
                    return show_study(listener, study_instance_uid)
            time.sleep(0.2)
        raise AssertionError(f"no answer for {study_instance_uid}: {list_studies(listener)}")

    def received(self, study_instance_uid: str, folder: Path) -> dict[str, list[Path]]:
        """What Orthanc has of the study: modality to files."""
        found: dict[str, list[Path]] = {}
        for path in self.pacs.fetch(folder):
            header = pydicom.dcmread(path, stop_before_pixels=True)
            if header.StudyInstanceUID == study_instance_uid:
                found.setdefault(header.Modality, []).append(path)
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    work = tmp_path_factory.mktemp("site")
    made = make_certificates(tmp_path_factory.mktemp("certificates"))
    tokens = work / "tokens.yaml"
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    tokens.write_text(yaml.safe_dump([{"name": "listener", "sha256": digest, "scopes": ["score"]}]))

    def pair(who: str) -> dict[str, str]:
        return {"certificate": f"{made}/{who}.pem", "key": f"{made}/{who}.key"}

    program = debian_program("Orthanc")
    assert program is not None
    with receiving.orthanc(program, work) as pacs:
        destination = {"name": "pacs", "ae_title": receiving.AE_TITLE, "host": "127.0.0.1", "port": pacs.port}
        (port,) = free_ports(1)
        listener = {
            "quiet_period_seconds": 0.5,
            "reserve_bytes": 0,
            "destinations": [destination],
            "service_url": f"https://localhost:{port}",
            "service_tls": {"ca": f"{made}/ca.pem", **pair("client")},
            "service_token": TOKEN,
        }
        service = {
            "port": port,
            "tls": {"client_ca": f"{made}/ca.pem", **pair("server")},
            "tokens_file": str(tokens),
        }
        with running_product(
            work / "product", listener=listener, service=service, log=work / "up.log"
        ) as product:
            yield Site(product=product, pacs=pacs)


def results(history: StudyHistory) -> list[dict[str, Any]]:
    return list((history.revisions[-1].result or {})["results"])


def test_a_hand_comes_back_as_one_report_and_one_heatmap(
    site: Site, shared_data: Path, tmp_path: Path
) -> None:
    hand = shared_data / "dicom" / "hand_kodak_cr500_j2k_lossless.dcm"
    uid = str(pydicom.dcmread(hand, stop_before_pixels=True).StudyInstanceUID)
    site.storescu(hand, "--propose-j2k-lossless")
    history = site.answer(uid)
    assert history.summary.state == "delivered"
    received = site.received(uid, tmp_path)
    assert {modality: len(paths) for modality, paths in received.items()} == {"SR": 1, "OT": 1}
    report, heatmap = received["SR"][0], received["OT"][0]
    for path in (report, heatmap):
        said = subprocess.run(["/usr/bin/dciodvfy", path], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr
    (result,) = results(history)
    assert result["status"] == "scored"
    dumped = subprocess.run(["/usr/bin/dsrdump", "+Pl", report], capture_output=True, text=True, check=True)
    shown = dumped.stdout + dumped.stderr
    assert f"{result['score']:.3f}"[:4] in shown
    assert history.revisions[-1].result is not None
    assert history.revisions[-1].result["model"]["name"] in shown
    assert "RESEARCH USE ONLY" in shown
    picture = pydicom.dcmread(heatmap)
    assert picture.pixel_array.ndim == 3
    assert picture.pixel_array.std() > 10


def test_the_service_is_reached_over_tls_with_a_certificate_and_a_token_or_not_at_all(site: Site) -> None:
    listener = site.product.settings.listener
    url, files = listener.service_url, listener.service_tls
    assert files is not None
    trusted = service_context(listener)
    assert httpx.get(f"{url}/readyz", verify=trusted or True).status_code == 200
    with Client(url, TOKEN, tls=trusted) as client, pytest.raises(RejectedByService, match="empty"):
        client.score(b"")
    without_certificate = service_context(listener.model_copy(update={"service_tls": TlsClient(ca=files.ca)}))
    for tls in (without_certificate, None, ssl.create_default_context()):
        with Client(url, TOKEN, tls=tls) as client, pytest.raises(TransientServiceError):
            client.score(b"")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url.replace('https', 'http')}/readyz")


def test_check_finds_the_secured_service_ready_and_a_wrong_token_wanting(site: Site) -> None:
    settings = site.product.settings
    found = {finding.what: finding for finding in run_checks(settings)}
    assert {
        name: found[name].outcome for name in ("TLS", "token", "HTTP service", "console")
    } == dict.fromkeys(("TLS", "token", "HTTP service", "console"), Outcome.OK)
    wrong = {"service_token": SecretStr("another"), "service_tls": None}
    settings = settings.model_copy(update={"listener": settings.listener.model_copy(update=wrong)})
    found = {finding.what: finding for finding in run_checks(settings)}
    assert found["token"].outcome is found["HTTP service"].outcome is Outcome.FAILED
    assert "listener.service_token" in found["token"].detail
    assert "another" not in str(found)


def test_every_way_says_the_same_of_one_radiograph_field_by_field(
    site: Site, shared_data: Path, tmp_path: Path
) -> None:
    """Command line, both routes of the HTTP API, and the PACS's own copy of what the DICOM path answered."""
    path = shared_data / "dicom" / "hand_kodak_cr500_j2k_lossless.dcm"
    header = pydicom.dcmread(path, stop_before_pixels=True)
    study, uid = str(header.StudyInstanceUID), str(header.SOPInstanceUID)
    site.storescu(path, "--propose-j2k-lossless")  # a second time makes no second answer
    (by_dicom,) = results(site.answer(study))
    command = [sys.executable, "-m", "skiagraph", "score", "--json", "--dicom-out", str(tmp_path / "out")]
    printed = subprocess.run([*command, str(path)], capture_output=True, check=True).stdout
    listener = site.product.settings.listener
    with Client(listener.service_url, TOKEN, tls=service_context(listener)) as client:
        by_score = client.score(path.read_bytes()).model_dump(mode="json")
        asked = StudyRequest(study_instance_uid=study, result_time=datetime.now(UTC))
        result, objects = client.score_study(asked, [path])
    by_study = result.model_dump(mode="json")["results"][0]

    answers = [by_dicom, json.loads(printed), by_score, by_study]
    assert by_dicom["sop_instance_uid"] == by_study["sop_instance_uid"] == uid
    for answer in answers:
        for own in ("file", "heatmap", "seconds", "sop_instance_uid"):  # of the way, not of the radiograph
            answer.pop(own, None)
        assert answer["model"].pop("parity") < 0.005  # measured by each process at its start
    assert answers == [by_dicom] * 4
    assert by_dicom["status"] == "scored"

    (received,) = site.received(study, tmp_path)["SR"]
    (written,) = (tmp_path / "out").glob("*.report.dcm")
    reports = [said(pydicom.dcmread(source)) for source in (received, written, io.BytesIO(objects[0]))]
    assert reports[0] == reports[1] == reports[2]
    numbers = [value for kind, _, value in reports[0] if kind == "NUM"]
    for field in ("score", "percentile", "novelty"):
        assert any(abs(number - by_dicom[field]) < 1e-6 for number in numbers), field
    outlines = [value for kind, _, value in reports[0] if kind == "SCOORD"]
    for region in by_dicom["regions"]:
        left, top = region["x"], region["y"]
        corners = (left, top, left + region["width"], top + region["height"])
        assert any(
            corners == pytest.approx((min(x), min(y), max(x), max(y)), abs=1)
            for x, y in ((outline[0::2], outline[1::2]) for outline in outlines)
        )
    texts = " ".join(str(value) for _, _, value in reports[0])
    for field in ("name", "version", "weights_sha256"):
        assert by_dicom["model"][field] in texts


def said(report: Dataset) -> list[tuple[str, str, Any]]:
    """Every number, outline, code and text of a report: value type, concept, value."""
    found: list[tuple[str, str, Any]] = []
    for item in report.get("ContentSequence", ()):
        concept = item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""
        match item.ValueType:
            case "NUM":
                value: Any = float(item.MeasuredValueSequence[0].NumericValue)
            case "SCOORD":
                value = tuple(item.GraphicData)
            case "CODE":
                value = item.ConceptCodeSequence[0].CodeValue
            case "TEXT":
                value = item.TextValue
            case _:
                value = None
        found += [(item.ValueType, concept, value), *said(item)]
    return found


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("rg3_ankle_fuji_mono1_j2kr.dcm", "--propose-j2k-lossless"),
        ("rg3_ankle_fuji_mono1_jlsl.dcm", "--propose-jls-lossless"),
        ("rg3_ankle_fuji_mono1_rle.dcm", "--propose-rle"),
        ("chest_canon_dx_mono1_j2kr.dcm", "--propose-j2k-lossless"),
    ],
)
def test_what_is_not_a_hand_comes_back_with_the_reason(
    site: Site, shared_data: Path, tmp_path: Path, name: str, option: str
) -> None:
    path = tmp_path / name
    instance = pydicom.dcmread(shared_data / "dicom" / name)
    # One study each, whatever the samples share.
    instance.StudyInstanceUID = fresh_uid()
    instance.save_as(path)
    site.storescu(path, option)
    history = site.answer(str(instance.StudyInstanceUID))
    assert history.summary.state == "delivered"
    (result,) = results(history)
    assert result["status"] == "not_analysable"
    assert "hand" in result["reason"]
    received = site.received(str(instance.StudyInstanceUID), tmp_path)
    assert {modality: len(paths) for modality, paths in received.items()} == {"SR": 1}
    dumped = subprocess.run(
        ["/usr/bin/dsrdump", "+Pl", received["SR"][0]], capture_output=True, text=True, check=True
    )
    assert result["reason"].split(":")[0][:30] in dumped.stdout + dumped.stderr


def halved(instance: Dataset) -> None:
    instance.PixelData = instance.PixelData[: len(instance.PixelData) // 4 * 2]


def without_pixels(instance: Dataset) -> None:
    del instance.PixelData


def without_rows(instance: Dataset) -> None:
    instance.Rows = 0


def huge(instance: Dataset) -> None:
    instance.Rows = instance.Columns = 65535


def blank(instance: Dataset) -> None:
    instance.PixelData = bytes(len(instance.PixelData))


@pytest.mark.parametrize("spoil", [halved, without_pixels, without_rows, huge, blank])
def test_bad_input_is_answered_and_the_next_study_is_not_touched(site: Site, spoil: Any) -> None:
    bad = as_dicom(draw(PhantomKind.PLAIN, seed=7, width=256, height=320), study_instance_uid=fresh_uid())
    spoil(bad)
    assert site.send(bad) == ""
    history = site.answer(str(bad.StudyInstanceUID))
    (result,) = results(history)
    assert result["status"] in {"error", "not_analysable"}
    assert result["reason"]
    good = as_dicom(draw(PhantomKind.PLAIN, seed=8, width=256, height=320), study_instance_uid=fresh_uid())
    assert site.send(good) == ""
    assert site.answer(str(good.StudyInstanceUID)).summary.state == "delivered"


def fresh_uid() -> str:
    return str(pydicom.uid.generate_uid(prefix=None))


def test_it_keeps_within_its_memory_after_its_work(site: Site) -> None:
    found = pss_by_process(site.product.process.pid)
    assert {"up", "listen", "serve", "Skiagraph", "Preprocessor", "AnomalyScorer"} <= {
        name for name, _ in found
    }
    assert sum(megabytes for _, megabytes in found) <= LIMIT_MB, found
