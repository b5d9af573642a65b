"""An upgrade as docs/operations.md has it, under load: the two replicas of the service, then the listener.

Version A is this code under another number. Studies come in all the time; each is answered once.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

import skiagraph
from dicom_listener.studies import list_studies, show_study
from skiagraph.demo.ports import free_ports
from skiagraph.processes import die_with_parent, stop
from skiagraph.settings import Settings
from tests.chaos.sender import Sender
from tests.conftest import REPOSITORY, debian_program
from tests.dicom_listener.peers import Pacs, until
from tests.operations import rules

_BLOCK = re.compile(r"<!-- carried out by tests/operations/test_upgrade.py -->\n```sh\n(.*?)```", re.DOTALL)
_VERSION_A = "0.0.9"
_BALANCER = """
defaults
  mode http
  timeout connect 2s
  timeout client 120s
  timeout server 120s
frontend api
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  option httpchk GET /readyz
  default-server check inter 300ms fall 1 rise 1
{servers}
"""


class Half:
    """`skiagraph COMMAND` as systemd would run it: restarted in place, from whatever tree is installed."""

    def __init__(self, command: str, folder: Path, settings: dict[str, Any], ready_url: str) -> None:
        folder.mkdir()
        self._command, self._folder, self._ready_url = command, folder, ready_url
        (folder / "skiagraph.yaml").write_text(yaml.safe_dump(settings))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, tree: Path) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "skiagraph",
                    self._command,
                    "--config",
                    self._folder / "skiagraph.yaml",
                ],
                cwd=tree,
                env={**os.environ, "PYTHONPATH": str(tree)},
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )

    def ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()[-3000:]
        try:
            return httpx.get(self._ready_url, timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def restart(self, tree: Path) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) == 0, (self._folder / "log").read_text()[-3000:]
        self.start(tree)

    def end(self) -> None:
        if self._process is not None:
            stop(self._process, deadline_seconds=40)


@contextmanager
def _balancer(folder: Path, port: int, replicas: list[int]) -> Iterator[None]:
    """haproxy in the place of a Kubernetes Service: whoever is not ready gets nothing."""
    program = debian_program("haproxy")
    assert program is not None
    servers = "\n".join(f"  server replica{number} 127.0.0.1:{number}" for number in replicas)
    (folder / "haproxy.cfg").write_text(_BALANCER.format(port=port, servers=servers))
    process = subprocess.Popen(
        [program, "-db", "-f", folder / "haproxy.cfg"], stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        stop(process, deadline_seconds=5)


def _version_a(folder: Path) -> Path:
    tree = folder / "version-a"
    shutil.copytree(
        REPOSITORY / "skiagraph", tree / "skiagraph", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("models", "runners", "service", "dicom_listener"):
        (tree / name).symlink_to(REPOSITORY / name)
    package = tree / "skiagraph" / "__init__.py"
    package.write_text(package.read_text().replace(skiagraph.__version__, _VERSION_A))
    return tree


@pytest.mark.debian("haproxy")
@pytest.mark.timeout(400)
def test_an_upgrade_under_load_loses_nothing(tmp_path: Path) -> None:
    (block,) = _BLOCK.findall(rules.RUNBOOK.read_text())
    dicom, console, balanced, *replicas = free_ports(5)
    with ExitStack() as stack:
        pacs = stack.enter_context(Pacs())
        stack.enter_context(_balancer(tmp_path, balanced, replicas))
        service = [
            Half(
                "serve",
                tmp_path / f"replica-{port}",
                {"service": {"port": port}},
                f"http://127.0.0.1:{port}/readyz",
            )
            for port in replicas
        ]
        settings = {
            "port": dicom,
            "console_port": console,
            "folder": str(tmp_path / "var"),
            "service_url": f"http://127.0.0.1:{balanced}",
            "destinations": [pacs.destination],
            "quiet_period_seconds": 0.5,
            "reserve_bytes": 0,
            "retry": {"first_seconds": 0.5, "longest_seconds": 2.0},
        }
        listener = Half(
            "listen", tmp_path / "listener", {"listener": settings}, f"http://127.0.0.1:{console}/readyz"
        )
        installed = _version_a(tmp_path)
        for half in (*service, listener):
            stack.callback(half.end)
            half.start(installed)
        for half in (*service, listener):
            until(half.ready, seconds=120, every=0.3)
        assert _running_version(console) == _VERSION_A

        sender = Sender(dicom, seed=1)
        stack.callback(sender.kill)
        node = Settings.model_validate({"listener": settings}).listener
        until(lambda: any(one.state == "delivered" for one in list_studies(node)), seconds=60)
        installed = REPOSITORY  # the two `pip install` lines of step 3

        def restart_service() -> None:
            for replica in service:
                replica.restart(installed)
                until(replica.ready, seconds=120, every=0.3)

        _carry_out(
            block,
            {
                "skiagraph-service": restart_service,
                "skiagraph-listener": lambda: listener.restart(installed),
            },
            ready=lambda: all(replica.ready() for replica in service),
        )
        until(listener.ready, seconds=60)
        assert _running_version(console) == skiagraph.__version__
        sender.stop()
        until(
            lambda: {one.state for one in list_studies(node, limit=10_000)} == {"delivered"},
            seconds=120,
            every=0.5,
        )
        assert len(sender.acknowledged) > 10
        for study, instances in sender.acknowledged.items():
            history = show_study(node, study)
            assert instances <= {one.sop_instance_uid for one in history.instances}
            result = history.revisions[-1].result
            assert result is not None
            assert {one["status"] for one in result["results"]} <= {"scored", "not_analysable"}
            assert len(pacs.reports(study)) == len(history.revisions)


def _carry_out(block: str, restart: dict[str, Callable[[], None]], *, ready: Callable[[], bool]) -> None:
    for line in block.splitlines():
        match shlex.split(line):
            case ["systemctl", "restart", unit]:
                restart[unit]()
            case ["curl", "--fail", *_, "http://127.0.0.1:3000/readyz"]:
                until(ready, seconds=120, every=0.3)
            case _:
                pytest.fail(f"this test does not know how to carry out: {line}")


def _running_version(console: int) -> str:
    text = httpx.get(f"http://127.0.0.1:{console}/metrics", timeout=10).text
    (version,) = re.findall(r'^skiagraph_build_info\{version="(.*)"\} 1\.0$', text, re.MULTILINE)
    return str(version)
