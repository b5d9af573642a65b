"""The image and the systemd units: held to the code, the lock and the chart, since neither is built here."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from skiagraph.settings import Settings
from tests.conftest import REPOSITORY, debian_program

DEPLOY = REPOSITORY / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
HELPERS = REPOSITORY / "helm" / "skiagraph" / "templates" / "_helpers.tpl"


def _dockerfile() -> list[list[str]]:
    """Instructions, each split into words."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _unit(path: Path) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path)
    return parser["Service"]


def test_the_image_copies_the_whole_product_and_only_what_its_ignore_file_lets_in() -> None:
    copied = {
        source
        for words in _dockerfile()
        if words[0] == "COPY" and words[1][:2] != "--"
        for source in words[1:-1]
    }
    assert all((REPOSITORY / source).exists() for source in copied)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= copied
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in allowed if line.startswith("!")} == copied


def test_the_image_installs_the_lock_of_what_serves() -> None:
    (install,) = [words for words in _dockerfile() if words[0] == "RUN" and "--requirement" in words]
    assert install[install.index("--requirement") + 1] == "/src/requirements.lock"
    locked = (REPOSITORY / "requirements.lock").read_text()
    assert "torch==" not in locked
    assert "pytest==" not in locked


def test_image_and_chart_name_one_user_and_the_ports_of_the_settings() -> None:
    instructions = {words[0]: words[1:] for words in _dockerfile()}
    (uid,) = re.findall(r"runAsUser: (\d+)", HELPERS.read_text())
    assert instructions["USER"] == [f"{uid}:{uid}"]
    settings = Settings()
    assert [int(port) for port in instructions["EXPOSE"]] == [
        settings.listener.port,
        settings.listener.console_port,
        settings.service.port,
    ]


def test_what_the_image_installs_is_the_whole_product(tmp_path: Path) -> None:
    """Every file of the packages that git knows is in the wheel: models, migrations, type marker."""
    known = subprocess.run(
        ["git", "ls-files", "models", "runners", "service", "dicom_listener", "skiagraph"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    source = tmp_path / "source"
    for name in [*known, "pyproject.toml", "LICENSE", "README.md"]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, source],
        check=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert not set(known) - inside


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
@pytest.mark.debian("systemd-analyze")
def test_systemd_understands_the_unit(unit: Path, tmp_path: Path) -> None:
    program = debian_program("systemd-analyze")
    assert program is not None
    text = unit.read_text().replace("/opt/skiagraph/bin/skiagraph", sys.executable)
    (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        [program, "verify", "--man=no", tmp_path / unit.name], capture_output=True, text=True, check=False
    )
    about_ours = [line for line in done.stderr.splitlines() if unit.name in line]
    assert not about_ours
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "command"), [("listener", "listen"), ("service", "serve")])
def test_units_and_chart_start_the_same_commands_and_wait_long_enough(name: str, command: str) -> None:
    unit = _unit(DEPLOY / "systemd" / f"skiagraph-{name}.service")
    assert unit["ExecStart"] == f"/opt/skiagraph/bin/skiagraph {command}"
    helped = subprocess.run(
        [sys.executable, "-m", "skiagraph", command, "--help"], capture_output=True, text=True, check=False
    )
    assert helped.returncode == 0
    templates = HELPERS.parent
    assert any(f"args: [skiagraph, {command}]" in path.read_text() for path in templates.glob("*.yaml"))
    settings = Settings()
    longest = max(settings.listener.drain_seconds, settings.service.drain_seconds)
    assert float(unit["TimeoutStopSec"]) > longest + 20
