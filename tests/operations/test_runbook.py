"""The commands of docs/operations.md for a host with systemd, carried out or compared with the units."""

import configparser
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY, debian_program
from tests.dicom_listener.peers import NodeProcess, radiograph, send
from tests.operations import rules

_BLOCK = re.compile(r"<!-- carried out by tests/operations/test_runbook.py -->\n```sh\n(.*?)```", re.DOTALL)
# Starts the command with what it was told, and nothing else: its environment is not that of the shell.
_SYSTEMD_RUN = """#!{python}
import os, sys
environment = {{"PATH": os.defpath}}
words = sys.argv[1:]
while words[0].startswith("--"):
    name, _, value = words.pop(0).partition("=")
    if name == "--setenv":
        key, _, environment[key] = value.partition("=")
    elif name == "--property":
        key, _, path = value.partition("=")
        assert key == "EnvironmentFile"
        lines = open(path.removeprefix("-")).read().splitlines()
        environment |= dict(line.split("=", 1) for line in lines)
assert words.pop(0) == "/opt/skiagraph/bin/skiagraph"
os.execve("{python}", ["{python}", "-m", "skiagraph", *words], environment)
"""


def _block() -> str:
    (block,) = _BLOCK.findall(rules.RUNBOOK.read_text())
    return str(block)


def test_studies_are_listed_with_the_settings_and_the_secrets_of_the_units(tmp_path: Path) -> None:
    """The folder is in the settings file; that the secrets are read is seen by one that is wrong."""
    etc, programs = tmp_path / "etc", tmp_path / "bin"
    etc.mkdir()
    programs.mkdir()
    (programs / "systemd-run").write_text(_SYSTEMD_RUN.format(python=sys.executable))
    (programs / "systemd-run").chmod(0o755)
    instance = radiograph()
    with NodeProcess(tmp_path / "node") as node:
        assert send(node.port, [instance]) == [0]
    settings = {"listener": {"folder": str(node.settings.folder)}}
    (etc / "skiagraph.yaml").write_text(yaml.safe_dump(settings))
    (etc / "secrets.env").write_text("SKIAGRAPH_LISTENER__AE_TITLE=FROM_THE_SECRETS\n")

    def carry_out() -> subprocess.CompletedProcess[str]:
        block = _block().replace("/etc/skiagraph", str(etc))
        environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
        return subprocess.run(
            ["bash", "-c", block], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
        )

    done = carry_out()
    assert done.returncode == 0, done.stderr
    assert str(instance.StudyInstanceUID) in done.stdout
    (etc / "secrets.env").write_text("SKIAGRAPH_LISTENER__AE_TITLE=LONGER_THAN_SIXTEEN\n")
    refused = carry_out()
    assert refused.returncode != 0
    assert "ae_title" in refused.stderr


@pytest.mark.debian("systemd-run")
def test_systemd_run_knows_the_options_and_the_units_have_the_same_settings() -> None:
    program = debian_program("systemd-run")
    assert program is not None
    helped = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    options = dict(re.findall(r"(--[a-z]+)(?:=(\S+))?(?= )", _block()))
    assert options
    assert all(re.search(rf"{option}\b", helped) for option in options)
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(REPOSITORY / "deploy" / "systemd" / "skiagraph-listener.service")
    unit = parser["Service"]
    assert f"--uid={unit['User']}" in _block()
    assert f"--property=EnvironmentFile={unit['EnvironmentFile']}" in _block()
    assert set(re.findall(r"--setenv=(\S+)", _block())) == set(unit["Environment"].split())
    assert unit["ExecStart"].split()[0] in _block()


@contextmanager
def _starting(port: int, *, seconds: float) -> Iterator[None]:
    """Nobody at the port for so long, then a server that is not ready for as long, then 200."""
    answers = iter([503, 503])

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(next(answers, 200))
            self.end_headers()

        def log_message(self, *_words: object) -> None:
            pass

    ended = threading.Event()

    def serve() -> None:
        time.sleep(seconds)
        with HTTPServer(("127.0.0.1", port), Answer) as server:
            server.timeout = 0.1
            while not ended.is_set():
                server.handle_request()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


_CURLS = [line for line in rules.RUNBOOK.read_text().splitlines() if line.startswith("curl ")]


@pytest.mark.parametrize("line", sorted(set(_CURLS)))
def test_who_asks_for_readiness_waits_for_a_start(line: str, free_port: Callable[[], int]) -> None:
    port = free_port()
    here = re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", line)
    assert here != line
    with _starting(port, seconds=1.5):
        done = subprocess.run(["bash", "-c", here], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
