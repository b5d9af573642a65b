"""Real peers: DCMTK's tools as senders in every syntax they write, Orthanc as sender and receiver."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_listener import studies
from dicom_listener.ledger.records import StoredInstance
from skiagraph.demo.pacs import Orthanc, orthanc
from tests.conftest import debian_program
from tests.dicom_listener.peers import FakeService, NodeProcess, radiograph, send, until

SYNTAXES = [
    (ImplicitVRLittleEndian, "dcmconv", "+ti", "-xi"),
    (ExplicitVRLittleEndian, "dcmconv", "+te", "-xe"),
    (ExplicitVRBigEndian, "dcmconv", "+tb", "-xb"),
    (DeflatedExplicitVRLittleEndian, "dcmconv", "+td", "-xd"),
    (JPEGLosslessSV1, "dcmcjpeg", "+e1", "-xs"),
    (JPEGLSLossless, "dcmcjpls", "+el", "-xt"),
    (RLELossless, "dcmcrle", "-q", "-xr"),
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeService]:
    with FakeService(tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, service: FakeService) -> Iterator[NodeProcess]:
    with NodeProcess(tmp_path_factory.mktemp("node"), service_url=service.url) as found:
        yield found


def dcmtk(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run DCMTK's own program, not pynetdicom's of the same name."""
    program = debian_program(name)
    assert program is not None
    return subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def stored(node: NodeProcess, study: str) -> StoredInstance:
    (instance,) = studies.show_study(node.settings, study).instances
    return instance


@pytest.mark.debian("echoscu")
def test_echoscu_gets_its_answer(node: NodeProcess) -> None:
    assert dcmtk("echoscu", "-aec", "SKIAGRAPH", "127.0.0.1", node.port).returncode == 0


@pytest.mark.debian("storescu", "dcmconv", "dcmcjpeg", "dcmcjpls", "dcmcrle")
@pytest.mark.parametrize(("syntax", "converter", "option", "proposal"), SYNTAXES)
def test_every_syntax_of_storescu_is_kept_as_it_arrives(
    node: NodeProcess, tmp_path: Path, syntax: UID, converter: str, option: str, proposal: str
) -> None:
    source, encoded = tmp_path / "source.dcm", tmp_path / "encoded.dcm"
    instance = radiograph()
    instance.save_as(source, enforce_file_format=True)
    made = dcmtk(converter, option, source, encoded)
    assert made.returncode == 0, made.stderr
    uid = dcmread(encoded, stop_before_pixels=True).StudyInstanceUID
    sent = dcmtk("storescu", proposal, "-aec", "SKIAGRAPH", "127.0.0.1", node.port, encoded)
    assert sent.returncode == 0, sent.stderr
    kept = stored(node, uid)
    assert kept.transfer_syntax_uid == syntax
    here, there = dcmread(node.settings.folder / "spool" / kept.path), dcmread(encoded)
    assert here.file_meta.TransferSyntaxUID == syntax
    assert here.PixelData == there.PixelData


@pytest.mark.debian("storescu")
def test_real_hand_is_kept_as_it_arrives(node: NodeProcess, shared_data: Path) -> None:
    hand = shared_data / "dicom" / "hand_kodak_cr500_j2k_lossless.dcm"
    sent = dcmtk("storescu", "-xv", "-aec", "SKIAGRAPH", "127.0.0.1", node.port, hand)
    assert sent.returncode == 0, sent.stderr
    kept = stored(node, dcmread(hand, stop_before_pixels=True).StudyInstanceUID)
    assert kept.transfer_syntax_uid == JPEG2000Lossless
    frames = [
        next(generate_frames(dcmread(path).PixelData, number_of_frames=1)).rstrip(b"\0")
        for path in (node.settings.folder / "spool" / kept.path, hand)
    ]
    assert frames[0] == frames[1]  # storescu pads the odd fragment of this file


@pytest.mark.debian("storescu")
def test_instance_cut_short_in_its_header_is_refused_and_the_next_is_taken(
    node: NodeProcess, tmp_path: Path
) -> None:
    whole, cut, good = tmp_path / "whole.dcm", tmp_path / "cut.dcm", tmp_path / "good.dcm"
    radiograph().save_as(whole, enforce_file_format=True)
    content = whole.read_bytes()
    cut.write_bytes(
        content[: content.index(b"SYNTHETIC") - 20]
    )  # before the patient, and so before the study
    other = radiograph()
    other.save_as(good, enforce_file_format=True)
    assert dcmtk("storescu", "-aec", "SKIAGRAPH", "127.0.0.1", node.port, cut).returncode != 0
    assert dcmtk("storescu", "-aec", "SKIAGRAPH", "127.0.0.1", node.port, good).returncode == 0
    assert stored(node, other.StudyInstanceUID).sop_instance_uid == other.SOPInstanceUID


@pytest.mark.debian("Orthanc")
def test_orthanc_sends_a_study_and_receives_its_result_once(tmp_path: Path, service: FakeService) -> None:
    program = debian_program("Orthanc")
    assert program is not None
    with orthanc(program, tmp_path) as pacs:
        destination = {"name": "pacs", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": pacs.port}
        with NodeProcess(tmp_path / "node", service_url=service.url, destinations=[destination]) as node:
            instance = radiograph()
            (tmp_path / "source.dcm").write_bytes(b"")
            instance.save_as(tmp_path / "source.dcm", enforce_file_format=True)
            _orthanc_sends(pacs, node, tmp_path / "source.dcm")
            until(lambda: len(pacs.instances()) == 3)
            until(lambda: studies.list_studies(node.settings, state="delivered"))
            history = studies.show_study(node.settings, instance.StudyInstanceUID)
            there = {_uid(pacs, name) for name in pacs.instances()}
            made = {one.sop_instance_uid for one in history.revisions[0].objects}
            assert there == {instance.SOPInstanceUID, *made}
            # What was forwarded to us of our own work comes back as nothing new.
            study = httpx.get(f"{pacs.url}/studies").json()[0]
            httpx.post(f"{pacs.url}/modalities/skiagraph/store", content=study, timeout=30).raise_for_status()
            assert studies.show_study(node.settings, instance.StudyInstanceUID).summary.revision == 1


def _orthanc_sends(pacs: Orthanc, node: NodeProcess, path: Path) -> None:
    uploaded = (
        httpx.post(f"{pacs.url}/instances", content=path.read_bytes(), timeout=30).raise_for_status().json()
    )
    modality = {"AET": "SKIAGRAPH", "Host": "127.0.0.1", "Port": node.port}
    httpx.put(f"{pacs.url}/modalities/skiagraph", content=json.dumps(modality)).raise_for_status()
    httpx.post(f"{pacs.url}/modalities/skiagraph/echo", content="{}", timeout=30).raise_for_status()
    httpx.post(
        f"{pacs.url}/modalities/skiagraph/store", content=uploaded["ID"], timeout=30
    ).raise_for_status()


def _uid(pacs: Orthanc, name: str) -> str:
    return str(httpx.get(f"{pacs.url}/instances/{name}/simplified-tags").json()["SOPInstanceUID"])


def test_pynetdicom_gets_a_reason_for_a_class_that_is_not_taken(node: NodeProcess) -> None:
    instance = radiograph(SOPClassUID="1.2.840.10008.5.1.4.1.1.2")  # CT
    instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID
    with pytest.raises((AssertionError, ValueError)):
        send(node.port, [instance])
