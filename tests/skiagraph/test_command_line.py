"""The command line as a user meets it: exit codes, one-line errors, standard output for programs."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image

from dicom_listener.ledger.connection import Database, ledger_url
from skiagraph.phantom import PhantomKind, as_dicom, draw
from skiagraph.settings.listener import ListenerSettings

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs `skiagraph …` in an empty folder."""

    def command(*arguments: str | Path, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "skiagraph", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=seconds,
            check=False,
        )

    return command


@pytest.fixture(scope="session")
def phantom_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phantom") / "phantom.dcm"
    as_dicom(draw(PhantomKind.PLAIN, seed=1)).save_as(path, enforce_file_format=True)
    return path


def records(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def assert_one_line(text: str) -> None:
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    assert "Traceback" not in text


def test_help_names_every_command_at_once(run: Run) -> None:
    run("--help")  # byte code is compiled once
    begin = time.perf_counter()
    answer = run("--help")
    seconds = time.perf_counter() - begin
    assert answer.returncode == 0
    for name in ("up", "listen", "serve", "score", "studies", "models", "check", "demo"):
        assert f"\n  {name} " in answer.stdout
    assert seconds < 1.5  # 0.2 s when nothing else runs


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["score"], "Missing argument"),
        (["score", "--colour", "x.png"], "--colour"),
        (["score", "missing.png"], None),
        (["studies", "list", "--limit", "0"], "--limit"),
        (["up", "--config", "missing.yaml"], "missing.yaml does not exist"),
        (["check", "--config", "missing.yaml"], "missing.yaml does not exist"),
        (["models", "verify", "nonsense"], "nonsense"),
        (["models", "train", "--data", "missing"], "missing does not exist"),
        (["demo", "missing.dcm"], None),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: list[str], said: str | None) -> None:
    answer = run(*arguments)
    assert answer.returncode == 2, answer.stderr
    assert "Traceback" not in answer.stderr
    if said is not None:
        assert said in answer.stderr
        assert_one_line(answer.stderr)


def test_wrong_settings_are_exit_code_2(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text("listener: {port: 99999}\n")
    answer = run("up", "--config", config)
    assert answer.returncode == 2
    assert "listener.port" in answer.stderr
    assert "99999" in answer.stderr
    assert_one_line(answer.stderr)


def test_score_tells_good_from_broken(run: Run, tmp_path: Path, phantom_file: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(phantom_file, folder / "a.dcm")
    shutil.copy(phantom_file, folder / "without_suffix")
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "text.png").write_text("this is not a picture")
    whole = phantom_file.read_bytes()
    (folder / "truncated.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("not looked at")
    (folder / ".hidden.dcm").write_text("not looked at")

    answer = run("score", folder, "--json")
    assert answer.returncode == 1
    found = {Path(str(one["file"])).name: one for one in records(answer.stdout)}
    assert sorted(found) == ["a.dcm", "empty.dcm", "text.png", "truncated.dcm", "without_suffix"]
    assert {name for name, one in found.items() if one["status"] == "error"} == {
        "empty.dcm",
        "text.png",
        "truncated.dcm",
    }
    assert all(one["reason"] and one["reason_code"] for one in found.values() if one["status"] == "error")
    assert {"name", "version", "engine"} <= set(found["a.dcm"]["model"])  # type: ignore[call-overload]
    assert "Traceback" not in answer.stderr


def test_a_missing_path_beside_a_good_one_is_named(run: Run, tmp_path: Path, phantom_file: Path) -> None:
    (tmp_path / "nothing").mkdir()
    answer = run("score", phantom_file, tmp_path / "gone.png", tmp_path / "nothing", "--json")
    assert answer.returncode == 1
    assert len(records(answer.stdout)) == 1
    assert "gone.png does not exist" in answer.stderr
    assert "nothing holds no DICOM, PNG or JPEG file" in answer.stderr


def test_json_lines_have_the_promised_fields(run: Run, phantom_file: Path) -> None:
    answer = run("score", phantom_file, "--json")
    (record,) = records(answer.stdout)
    promised = {"file", "status", "reason", "score", "percentile", "novelty", "abnormal", "regions", "model"}
    assert promised | {"seconds"} <= set(record)
    assert answer.returncode == 0


def test_heatmaps_are_grey_of_the_source_size_and_never_overwritten(
    run: Run, tmp_path: Path, shared_data: Path
) -> None:
    hand = shared_data / "dicom" / "hand_kodak_cr500_j2k_lossless.dcm"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(hand, tmp_path / name / "same.dcm")
    answer = run("score", tmp_path / "one", tmp_path / "two", "--json", "--heatmaps", tmp_path / "maps")
    assert answer.returncode == 0, answer.stderr
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["same-2.png", "same.png"]
    picture = cv2.imread(str(tmp_path / "maps" / "same.png"), cv2.IMREAD_UNCHANGED)
    header = pydicom.dcmread(hand, stop_before_pixels=True)
    assert picture is not None
    assert picture.dtype == np.uint8
    assert picture.shape == (header.Rows, header.Columns)
    assert picture.max() == 255
    for one in records(answer.stdout):
        assert one["status"] == "scored"
        assert Path(str(one["heatmap"])).is_file()
        for region in one["regions"]:  # type: ignore[attr-defined]
            assert 0 <= region["x"] <= region["x"] + region["width"] <= header.Columns
            assert 0 <= region["y"] <= region["y"] + region["height"] <= header.Rows


@pytest.mark.parametrize(
    ("option", "name", "linked"),
    [
        ("--heatmaps", "hand.png", "folder"),
        ("--dicom-out", "hand.report.dcm", "symbolic"),
        ("--dicom-out", "hand.heatmap.dcm", "hard"),
    ],
)
def test_a_radiograph_is_never_written_over(
    run: Run, tmp_path: Path, phantom_file: Path, option: str, name: str, linked: str
) -> None:
    before = phantom_file.read_bytes()
    radiograph, out = tmp_path / "in" / name, tmp_path / "out"
    radiograph.parent.mkdir()
    radiograph.write_bytes(before)
    (tmp_path / "hand.dcm").write_bytes(before)
    if linked == "folder":
        out.symlink_to(radiograph.parent)
    else:
        out.mkdir()
        link = (out / name).symlink_to if linked == "symbolic" else (out / name).hardlink_to
        link(radiograph)
    answer = run("score", tmp_path / "hand.dcm", radiograph, option, out)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert f"another folder with {option}" in answer.stderr
    assert_one_line(answer.stderr)
    assert radiograph.read_bytes() == before


def test_heatmaps_may_lie_beside_radiographs_of_other_names(
    run: Run, tmp_path: Path, phantom_file: Path
) -> None:
    shutil.copy(phantom_file, tmp_path / "hand.dcm")
    answer = run("score", "hand.dcm", "--heatmaps", ".", "--dicom-out", ".")
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "hand.dcm").read_bytes() == phantom_file.read_bytes()


def test_no_file_keeps_the_later_ones_from_their_reports(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, keyword, uid in (
        ("a.dcm", "StudyInstanceUID", b"1.2.abc"),
        ("b.dcm", "SOPInstanceUID", b"1.2.abc"),
        ("c.dcm", "StudyInstanceUID", bytes(7)),
    ):
        odd = as_dicom(draw(PhantomKind.PLAIN, seed=1))
        setattr(odd, keyword, "1.2.999")
        odd.save_as(folder / name, enforce_file_format=True)
        whole = (folder / name).read_bytes()
        assert b"1.2.999" in whole
        (folder / name).write_bytes(whole.replace(b"1.2.999", uid))
    hand = draw(PhantomKind.PLAIN, seed=2)
    grey = Image.fromarray((hand.pixels / hand.pixels.max() * 255).astype(np.uint8))
    grey.save(folder / "d.png", exif=b"Exif\0\0QQ*\0" + bytes(8))
    grey.save(folder / "e.png")
    whole = (folder / "e.png").read_bytes()
    short = b"gAMA\0\1"
    chunk = (len(short) - 4).to_bytes(4) + short + zlib.crc32(short).to_bytes(4)
    (folder / "e.png").write_bytes(whole[:33] + chunk + whole[33:])
    as_dicom(hand).save_as(folder / "f.dcm", enforce_file_format=True)

    answer = run("score", folder, "--json", "--dicom-out", tmp_path / "out")
    assert answer.returncode == 1
    assert [Path(str(one["file"])).name for one in records(answer.stdout)] == [
        *("a.dcm", "b.dcm", "c.dcm", "d.png", "e.png", "f.dcm")
    ]
    said = [line for line in answer.stderr.splitlines() if line.startswith("skiagraph: ")]
    assert [re.findall(r"\w\.dcm: n|\w+_uid|Instance UID", line) for line in said] == [
        ["a.dcm: n", "study_instance_uid"],
        ["b.dcm: n", "sop_instance_uid"],
        ["c.dcm: n", "Instance UID"],
    ]
    assert "unexpected" not in answer.stderr
    assert {"d.report.dcm", "f.report.dcm"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_a_picture_that_is_not_scored_is_not_read_for_a_report(run: Run, tmp_path: Path) -> None:
    Image.new("L", (10_000, 8_000)).save(tmp_path / "large.png")
    answer = run("score", "large.png", "--json", "--dicom-out", "out")
    assert answer.returncode == 1
    assert records(answer.stdout)[0]["reason_code"] == "too_large"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_name_that_is_not_unicode_has_an_answer(
    run: Run, tmp_path: Path, phantom_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / os.fsdecode(b"M\xfcller.dcm")
    shutil.copy(phantom_file, named)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    for encoding in ("utf-8:strict", "ascii:strict"):
        monkeypatch.setenv("PYTHONIOENCODING", encoding)
        for arguments in ((), ("--json", "--heatmaps", tmp_path / "maps")):
            answer = run("score", named, *arguments)
            assert answer.returncode == 0, answer.stderr
            assert "M\\udcfcller.dcm" in answer.stdout.replace("\\\\", "\\")


@pytest.mark.debian("dciodvfy")
def test_dicom_out_writes_valid_objects(run: Run, tmp_path: Path, shared_data: Path) -> None:
    hand = shared_data / "dicom" / "hand_kodak_cr500_j2k_lossless.dcm"
    answer = run("score", hand, "--dicom-out", tmp_path / "out")
    assert answer.returncode == 0, answer.stderr
    made = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert set(made) == {f"{hand.stem}.report.dcm", f"{hand.stem}.heatmap.dcm"}
    for path in made.values():
        said = subprocess.run(["/usr/bin/dciodvfy", path], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        assert dataset.StudyInstanceUID == pydicom.dcmread(hand, stop_before_pixels=True).StudyInstanceUID


def test_unknown_model_is_wrong_usage(run: Run, phantom_file: Path) -> None:
    answer = run("score", phantom_file, "--model", "nonsense")
    assert answer.returncode == 2
    assert "no model package 'nonsense'" in answer.stderr
    assert_one_line(answer.stderr)


def test_check_names_what_would_not_work(run: Run, tmp_path: Path, free_port: Callable[[], int]) -> None:
    config = tmp_path / "skiagraph.yaml"
    config.write_text(
        "listener:\n"
        f"  {{port: {free_port()}, console_port: {free_port()}, reserve_bytes: 0, destinations: ["
        f"{{name: away, ae_title: AWAY, host: 127.0.0.1, port: {free_port()}}}],"
        " rules: [{name: old, model: gone}, {name: new, model: synthetic-defects}]}\n"
        f"service: {{port: {free_port()}}}\n"
    )
    answer = run("check", "--config", config)
    assert answer.returncode == 1
    failed = [line for line in answer.stdout.splitlines() if line.startswith("FAILED")]
    rule, destination = failed
    assert "rule old" in rule
    assert "does not load gone" in rule
    assert "destination away" in destination
    assert "does not answer" in destination
    (engine,) = [line for line in answer.stdout.splitlines() if "engine of " in line]
    said = r"onnxruntime [\d.]+ in single precision, because no TensorRT here: .*; differs .* by [\de.-]+, "
    assert re.search(said + r"[\d.]+ is allowed; [1-9]\d* ms per radiograph$", engine)


def test_check_sees_a_damaged_model(run: Run, tmp_path: Path) -> None:
    from models.package import available

    copy = tmp_path / "package"
    shutil.copytree(available()[0], copy)
    damaged = bytearray((copy / "model.onnx").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (copy / "model.onnx").write_bytes(damaged)
    config = tmp_path / "skiagraph.yaml"
    config.write_text(f"service: {{model: {copy}}}\n")
    answer = run("check", "--config", config)
    assert answer.returncode == 1
    assert "sha256" in answer.stdout
    verified = run("models", "verify", copy)
    assert verified.returncode == 1
    assert_one_line(verified.stderr)


def test_models_verify_checks_golden_outputs(run: Run) -> None:
    listed = run("models", "list", "--json")
    assert listed.returncode == 0
    name = str(records(listed.stdout)[0]["name"])
    answer = run("models", "verify", name)
    assert answer.returncode == 0, answer.stdout
    assert "model.onnx fp32, onnxruntime" in answer.stdout
    assert "gate.onnx fp32, onnxruntime" in answer.stdout


def test_studies_of_an_empty_ledger(run: Run, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    Database(ledger_url(ListenerSettings(folder=tmp_path / "var"))).close()
    assert run("studies", "list").stdout == ""
    answer = run("studies", "show", "1.2.3")
    assert answer.returncode == 1
    assert "no study 1.2.3" in answer.stderr
    assert_one_line(answer.stderr)


@pytest.mark.parametrize("arguments", [["list"], ["show", "1.2.3"], ["retry", "1.2.3"]])
def test_studies_without_a_ledger_make_none(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    answer = run("studies", *arguments)
    assert answer.returncode == 2
    assert f"no ledger in {tmp_path / 'var'}" in answer.stderr
    assert "--config" in answer.stderr
    assert_one_line(answer.stderr)
    assert list(tmp_path.iterdir()) == []


def test_check_says_which_rule_takes_a_study(run: Run, tmp_path: Path, phantom_file: Path) -> None:
    config = tmp_path / "skiagraph.yaml"
    rules = [
        {"name": "feet", "when": {"BodyPartExamined": "FOOT"}, "drop": True},
        {"name": "phantoms", "when": {"PatientID": "PHANTOM*", "CallingAETitle": "TESTER"}, "gate": False},
    ]
    config.write_text(json.dumps({"listener": {"rules": rules}}))
    taken = run("check", "--config", config, "--study", phantom_file, "--calling-ae", "TESTER")
    assert taken.returncode == 0, taken.stderr
    assert "by rule phantoms" in taken.stdout
    assert "gate off" in taken.stdout
    assert "rule feet: no instance has BodyPartExamined FOOT" in taken.stdout
    assert "no rule takes it" in run("check", "--config", config, "--study", phantom_file).stdout
