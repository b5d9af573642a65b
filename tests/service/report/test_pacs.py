"""A real PACS: Orthanc keeps and returns what we make, DCMTK renders the heatmap as we drew it."""

import http.client
import io
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pynetdicom import AE

from service.report.build import build_study
from service.report.inputs import BuiltObject
from skiagraph.settings.report import ReportSettings
from tests.service.report.studies import MANIFEST, MODEL, NAMES, header, request, result, source

_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_STARTS_WITHIN_SECONDS = 30


def objects(compression: str = "none") -> list[BuiltObject]:
    charset, name = NAMES[8]
    hand = source(header(SpecificCharacterSet=charset, PatientName=name), result("1.2.3.4.5.6"))
    settings = ReportSettings.model_validate({"compression": compression})
    return build_study(request=request(), sources=[hand], model=MODEL, manifest=MANIFEST, settings=settings)


@pytest.mark.debian("dcmj2pnm", "dcmdrle")
@pytest.mark.parametrize("compression", ["none", "rle"])
def test_dcmtk_renders_the_picture_that_we_drew(compression: str, tmp_path: Path) -> None:
    heatmap = objects(compression)[1]
    stored, plain, png = tmp_path / "heatmap.dcm", tmp_path / "plain.dcm", tmp_path / "heatmap.png"
    stored.write_bytes(heatmap.data)
    if compression == "rle":
        subprocess.run(["/usr/bin/dcmdrle", stored, plain], check=True, timeout=60)
    else:
        plain = stored
    subprocess.run(["/usr/bin/dcmj2pnm", "+on", plain, png], check=True, timeout=60, capture_output=True)
    assert heatmap.picture is not None
    assert (np.asarray(Image.open(png).convert("RGB")) == heatmap.picture).all()


class Orthanc:
    """A running Orthanc with DICOMweb, its storage in a temporary folder."""

    def __init__(self, http_port: int, dicom_port: int) -> None:
        self.http_port = http_port
        self.dicom_port = dicom_port

    def get(self, path: str, accept: str = "*/*") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=20)
        try:
            connection.request("GET", path, headers={"Accept": accept})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, (path, answer.status, body[:200])
            return body
        finally:
            connection.close()


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    folder = tmp_path_factory.mktemp("orthanc")
    pacs = Orthanc(_port(), _port())
    config = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": pacs.http_port,
        "DicomPort": pacs.dicom_port,
        "DicomAlwaysAllowStore": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [str(_DICOMWEB)],
        "DicomWeb": {"Enable": True},
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["/usr/sbin/Orthanc", str(path)], stdout=log, stderr=log)
    try:
        _await(pacs, process, folder / "log")
        yield pacs
    finally:
        process.terminate()
        process.wait(timeout=30)


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(pacs: Orthanc, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"Orthanc ended: {log.read_text()[-800:]}")
        try:
            pacs.get("/dicom-web/studies")
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"Orthanc did not answer: {log.read_text()[-800:]}")


@pytest.mark.debian("Orthanc")
@pytest.mark.skipif(not _DICOMWEB.is_file(), reason="apt-get install orthanc-dicomweb")
def test_orthanc_stores_and_returns_report_and_heatmap(orthanc: Orthanc) -> None:
    made = objects()
    _store(orthanc, made)
    found = json.loads(orthanc.get("/dicom-web/studies/1.2.3.4/instances", "application/dicom+json"))
    assert {one["00080018"]["Value"][0] for one in found} == {
        one.record.reference.sop_instance_uid for one in made
    }
    for one in made:
        series, instance = one.record.reference.series_instance_uid, one.record.reference.sop_instance_uid
        path = f"/dicom-web/studies/1.2.3.4/series/{series}/instances/{instance}"
        metadata = json.loads(orthanc.get(f"{path}/metadata", "application/dicom+json"))[0]
        assert metadata["00100010"]["Value"][0]["Ideographic"] == "山田^太郎"
        assert _same(orthanc.get(path, 'multipart/related; type="application/dicom"'), one.data)


@pytest.mark.debian("Orthanc")
@pytest.mark.skipif(not _DICOMWEB.is_file(), reason="apt-get install orthanc-dicomweb")
def test_orthanc_shows_the_heatmap_as_drawn(orthanc: Orthanc) -> None:
    made = objects()
    _store(orthanc, made)
    reference = made[1].record.reference
    path = f"/dicom-web/studies/1.2.3.4/series/{reference.series_instance_uid}"
    png = orthanc.get(f"{path}/instances/{reference.sop_instance_uid}/rendered", "image/png")
    assert (np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) == made[1].picture).all()


def _store(orthanc: Orthanc, made: list[BuiltObject]) -> None:
    entity = AE("TEST")
    for one in made:
        entity.add_requested_context(one.record.reference.sop_class_uid)
    association = entity.associate("127.0.0.1", orthanc.dicom_port)
    assert association.is_established
    statuses = [association.send_c_store(pydicom.dcmread(io.BytesIO(one.data))).Status for one in made]
    association.release()
    assert statuses == [0] * len(made)


def _same(multipart: bytes, sent: bytes) -> bool:
    """Whether the data set inside the answer is the one that was sent."""
    start = multipart.index(b"\r\n\r\n") + 4
    returned = pydicom.dcmread(io.BytesIO(multipart[start : multipart.rindex(b"\r\n--")]))
    return bool(returned == pydicom.dcmread(io.BytesIO(sent)))
