"""Real peers: DCMTK, pynetdicom and Orthanc as senders in every syntax they know, Orthanc as receiver."""

import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    generate_uid,
)
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, _config, build_context

from dicom_listener import studies
from dicom_listener.ledger.records import StoredInstance
from skiagraph.demo.pacs import Orthanc, orthanc
from tests.conftest import debian_program
from tests.dicom_listener.peers import FakeService, NodeProcess, radiograph, send, until

ENCODERS = [
    (ImplicitVRLittleEndian, "dcmconv", "+ti", "-xi"),
    (ExplicitVRLittleEndian, "dcmconv", "+te", "-xe"),
    (ExplicitVRBigEndian, "dcmconv", "+tb", "-xb"),
    (DeflatedExplicitVRLittleEndian, "dcmconv", "+td", "-xd"),
    (JPEGLosslessSV1, "dcmcjpeg", "+e1", "-xs"),
    (JPEGBaseline8Bit, "dcmcjpeg", "+eb", "-xy"),
    (JPEGExtended12Bit, "dcmcjpeg", "+ee", "-xx"),
    (JPEGLSLossless, "dcmcjpls", "+el", "-xt"),
    (JPEGLSNearLossless, "dcmcjpls", "+en", "-xu"),
    (RLELossless, "dcmcrle", "-q", "-xr"),
]
# What storescu proposes and no program of DCMTK writes: the listener does not look into the fragments.
PROPOSALS = {
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.4.100": "-xm",
    "1.2.840.10008.1.2.4.101": "-xh",
    "1.2.840.10008.1.2.4.102": "-xn",
    "1.2.840.10008.1.2.4.103": "-xl",
    "1.2.840.10008.1.2.4.104": "-x2",
    "1.2.840.10008.1.2.4.105": "-x3",
    "1.2.840.10008.1.2.4.106": "-xo",
    "1.2.840.10008.1.2.4.107": "-x4",
    "1.2.840.10008.1.2.4.108": "-x5",
}
DEFLATED = (DeflatedExplicitVRLittleEndian, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")  # and JPIP


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeService]:
    with FakeService(tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A node that keeps everything and scores nothing."""
    with NodeProcess(tmp_path_factory.mktemp("node"), rules=[{"name": "keep", "drop": True}]) as found:
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
@pytest.mark.parametrize(("syntax", "converter", "option", "proposal"), ENCODERS)
def test_what_dcmtk_encodes_is_kept_as_it_arrives(
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


def in_syntax(folder: Path, study: str, syntax: str) -> Path:
    """An instance in any syntax: the fragments of a compressed one are noise."""
    path, uid, instance = folder / f"{syntax}.dcm", UID(syntax), radiograph(study)
    instance.file_meta.TransferSyntaxUID = uid
    if uid.is_compressed and syntax not in DEFLATED:
        instance.PixelData = encapsulate([bytes(range(256))])
        instance["PixelData"].is_undefined_length = True
    body, head = DicomBytesIO(), DicomBytesIO()
    body.is_implicit_VR = syntax == ImplicitVRLittleEndian
    body.is_little_endian = syntax != ExplicitVRBigEndian
    write_dataset(body, instance)
    content = body.getvalue()
    if syntax in DEFLATED:
        compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        content = compressor.compress(content) + compressor.flush()
        content += bytes(len(content) % 2)
    write_file_meta_info(head, instance.file_meta)
    path.write_bytes(bytes(128) + b"DICM" + head.getvalue() + content)
    return path


def data_sets(node: NodeProcess, study: str) -> dict[str, bytes]:
    """Transfer syntax to the data set, of everything the node has of a study."""
    spool = node.settings.folder / "spool"
    return {
        one.transfer_syntax_uid: data_set_of(spool / one.path)
        for one in studies.show_study(node.settings, study).instances
    }


def data_set_of(path: Path) -> bytes:
    """What follows the file meta information."""
    content = path.read_bytes()
    return content[132 + 12 + int.from_bytes(content[140:144], "little") :]


@pytest.mark.debian("storescu")
def test_every_other_proposal_of_storescu_is_taken(node: NodeProcess, tmp_path: Path) -> None:
    study = generate_uid()
    for syntax, proposal in PROPOSALS.items():
        path = in_syntax(tmp_path, study, syntax)
        sent = dcmtk("storescu", proposal, "-aec", "SKIAGRAPH", "127.0.0.1", node.port, path)
        assert sent.returncode == 0, f"{syntax}: {sent.stderr}"
    assert set(data_sets(node, study)) == set(PROPOSALS)


def test_every_syntax_that_pynetdicom_knows_is_kept_byte_for_byte(
    node: NodeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)  # sends files as they are
    study, entity = generate_uid(), AE(ae_title="MODALITY")
    entity.requested_contexts = [
        build_context(DigitalXRayImageStorageForPresentation, syntax) for syntax in ALL_TRANSFER_SYNTAXES
    ]
    association = entity.associate("127.0.0.1", node.port, ae_title="SKIAGRAPH")
    assert association.is_established
    paths = {syntax: in_syntax(tmp_path, study, syntax) for syntax in ALL_TRANSFER_SYNTAXES}
    assert {syntax: association.send_c_store(path).Status for syntax, path in paths.items()} == dict.fromkeys(
        ALL_TRANSFER_SYNTAXES, 0x0000
    )
    association.release()
    assert data_sets(node, study) == {syntax: data_set_of(path) for syntax, path in paths.items()}


@pytest.mark.debian("dcmsend")
def test_dcmsend_sends_a_folder_of_mixed_syntaxes(node: NodeProcess, tmp_path: Path) -> None:
    study = generate_uid()
    syntaxes = {DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless}
    for syntax in syntaxes:
        in_syntax(tmp_path, study, syntax)
    sent = dcmtk("dcmsend", "-dn", "+sd", "-aec", "SKIAGRAPH", "127.0.0.1", node.port, tmp_path)
    assert sent.returncode == 0, sent.stderr
    assert set(data_sets(node, study)) == syntaxes


def test_applications_of_pynetdicom(node: NodeProcess, tmp_path: Path) -> None:
    study = generate_uid()
    path = in_syntax(tmp_path, study, JPEG2000Lossless)
    peer = ["-aec", "SKIAGRAPH", "127.0.0.1", str(node.port)]
    for arguments in (["echoscu", *peer], ["storescu", "-cx", *peer, str(path)]):
        ran = subprocess.run(
            [sys.executable, "-m", "pynetdicom", *arguments], capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, ran.stderr
    assert set(data_sets(node, study)) == {JPEG2000Lossless}


@pytest.mark.debian("Orthanc")
def test_orthanc_over_tls_both_ways(tmp_path: Path, certificates: Path, service: FakeService) -> None:
    program = debian_program("Orthanc")
    assert program is not None
    authority = certificates / "ca.pem"
    secured: dict[str, Any] = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(certificates / "client.pem"),
        "DicomTlsPrivateKey": str(certificates / "client.key"),
        "DicomTlsTrustedCertificates": str(authority),
        "DicomTlsRemoteCertificateRequired": True,
    }
    files = {"certificate": certificates / "server.pem", "key": certificates / "server.key"}
    with orthanc(program, tmp_path, **secured) as pacs:
        destination = {
            "name": "pacs",
            "ae_title": "DEMOPACS",
            "host": "localhost",
            "port": pacs.port,
            "tls": files | {"ca": authority},
        }
        with NodeProcess(
            tmp_path / "node",
            service_url=service.url,
            destinations=[destination],
            tls=files | {"client_ca": authority, "port": 0},
        ) as node:
            modality = {"AET": "SKIAGRAPH", "Host": "127.0.0.1", "Port": node.ports["dicom_tls"]}
            instance = radiograph()
            instance.save_as(tmp_path / "source.dcm", enforce_file_format=True)
            _orthanc_sends(pacs, modality | {"UseDicomTls": True}, tmp_path / "source.dcm")
            until(lambda: studies.list_studies(node.settings, state="delivered"))
            assert len(pacs.instances()) == 3


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
            modality = {"AET": "SKIAGRAPH", "Host": "127.0.0.1", "Port": node.port}
            _orthanc_sends(pacs, modality, tmp_path / "source.dcm")
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


def _orthanc_sends(pacs: Orthanc, modality: dict[str, object], path: Path) -> None:
    uploaded = (
        httpx.post(f"{pacs.url}/instances", content=path.read_bytes(), timeout=30).raise_for_status().json()
    )
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
