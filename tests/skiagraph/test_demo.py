"""The demonstration with one's own files, and its small PACS where Orthanc is not installed."""

import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from PIL import Image
from pynetdicom import AE

from skiagraph.demo import pacs as receiving
from skiagraph.demo.send import send
from skiagraph.demo.studies import DemoStudy, built_in, of_files
from skiagraph.phantom import PhantomKind, as_dicom, draw


@pytest.mark.timeout(240)
def test_own_files_are_answered_and_what_is_broken_is_named(tmp_path: Path) -> None:
    phantom = draw(PhantomKind.FRACTURE, seed=3, width=512, height=640)
    as_dicom(phantom).save_as(tmp_path / "a.dcm", enforce_file_format=True)
    Image.fromarray((phantom.pixels >> 4).astype("uint8")).save(tmp_path / "b [1].png")
    (tmp_path / "broken.dcm").write_text("this is not DICOM")
    earlier = tmp_path / "demo" / "received" / "earlier.dcm"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("of an earlier demonstration")

    files = [tmp_path / name for name in ("a.dcm", "b [1].png", "broken.dcm")]
    answer = subprocess.run(
        [sys.executable, "-m", "skiagraph", "demo", *files, "--folder", tmp_path / "demo"],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert answer.returncode == 1, answer.stdout + answer.stderr  # one file is broken
    assert "neither a DICOM file nor a PNG or JPEG picture" in answer.stdout
    assert "Traceback" not in answer.stdout + answer.stderr
    received = {path.name for path in earlier.parent.iterdir()}
    assert {"a-dcm.report.dcm", "a-dcm.report.txt", "b-1-png.report.dcm", "b-1-png.report.txt"} <= received
    assert "earlier.dcm" not in received
    text = (earlier.parent / "a-dcm.report.txt").read_text(encoding="utf-8")
    assert "RESEARCH USE ONLY" in text
    for name in received:
        if name.endswith(".heatmap.png"):
            with Image.open(earlier.parent / name) as picture:
                assert picture.mode == "RGB"


def test_the_built_in_studies_need_no_network_and_say_what_they_show() -> None:
    studies = built_in()
    assert [bool(study.planted) for study in studies] == [False, True, True, False]
    assert all(study.shows for study in studies)
    ankle = studies[-1].instances[0]
    assert ankle.PhotometricInterpretation == "MONOCHROME1"


def test_instances_of_one_study_stay_together(tmp_path: Path) -> None:
    for number in (1, 2):
        phantom = draw(PhantomKind.PLAIN, seed=number, width=128, height=160)
        instance = as_dicom(phantom, study_instance_uid="1.2.3", instance_number=number)
        instance.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
    (study,) = of_files([tmp_path / "1.dcm", tmp_path / "2.dcm"])
    assert len(study.instances) == 2
    assert study.name == "1.dcm and 1 more"


def test_the_small_store_scp_keeps_what_it_accepts(tmp_path: Path) -> None:
    instance = as_dicom(draw(PhantomKind.PLAIN, seed=1, width=128, height=160))
    study = DemoStudy(name="one", instances=[instance])
    with receiving.store_scp(tmp_path) as pacs:
        assert send(study, host="127.0.0.1", port=pacs.port, called=receiving.AE_TITLE) == ""
        received = tmp_path / "received"
        received.mkdir()
        (path,) = pacs.fetch(received)
    assert path.name == f"{instance.SOPInstanceUID}.dcm"
    assert pydicom.dcmread(path).PixelData == instance.PixelData


def test_a_refusal_is_told() -> None:
    study = DemoStudy(
        name="one", instances=[as_dicom(draw(PhantomKind.PLAIN, seed=1, width=128, height=160))]
    )
    entity = AE(ae_title="SOMEBODY")
    entity.require_called_aet = True
    entity.add_supported_context(study.instances[0].SOPClassUID)
    server = entity.start_server(("127.0.0.1", 0), block=False)
    try:
        port = server.server_address[1]
        assert "refused" in send(study, host="127.0.0.1", port=port, called="NOBODY")
        # No handler is bound: pynetdicom answers with a failure.
        assert "0xC211" in send(study, host="127.0.0.1", port=port, called="SOMEBODY")
    finally:
        server.shutdown()
