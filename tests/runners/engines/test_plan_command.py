"""`skiagraph models build-plan`, as it is typed."""

import subprocess
import sys
from pathlib import Path

import pytest

from models.package import available

MODEL = available()[0].name


def build_plan(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "skiagraph", "models", "build-plan", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.usefixtures("rtx")
def test_plans_are_built_for_the_gpus_asked_for(tmp_path: Path) -> None:
    out = str(tmp_path / "plans")
    two = ("--compute-capability", "86", "--compute-capability", "120")
    first = build_plan(MODEL, *two, "--out", out)
    assert first.returncode == 0, first.stderr
    plans = {Path(line.split()[0]) for line in first.stdout.splitlines()}
    assert plans == set(Path(out).glob("*.plan"))
    capabilities = [path.name.split("-")[1] for path in plans if path.name.startswith("model-")]
    assert sorted(capabilities) == ["sm120", "sm120", "sm86", "sm86"]  # in half and in single precision

    built = {path: path.stat().st_mtime_ns for path in plans}
    again = build_plan(MODEL, *two, "--out", out)
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in plans} == built


@pytest.mark.usefixtures("rtx")
def test_a_gpu_that_cannot_be_built_for_is_one_line(tmp_path: Path) -> None:
    refused = build_plan(MODEL, "--compute-capability", "90", "--out", str(tmp_path))
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert "90 is not one of [75, 80, 86, 89, 120" in line


@pytest.mark.usefixtures("rtx")
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = build_plan(MODEL, "--compute-capability", "86", "--out", str(tmp_path / "file"))
    assert refused.returncode == 1
    assert "--out" in refused.stderr.splitlines()[-1]


def test_an_unknown_model_lists_the_known(tmp_path: Path) -> None:
    refused = build_plan("nothing-like-it", "--out", str(tmp_path))
    assert refused.returncode != 0
    assert MODEL in refused.stderr
