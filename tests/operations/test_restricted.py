"""Both halves run as the chart's pods do: not root, no capability, nothing writable but their own volumes."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from skiagraph.demo.ports import free_ports
from skiagraph.phantom import PhantomKind, as_dicom, draw
from skiagraph.processes import stop
from tests.conftest import REPOSITORY
from tests.dicom_listener.peers import send, until

HELPERS = REPOSITORY / "helm" / "skiagraph" / "templates" / "_helpers.tpl"
(UID,) = re.findall(r"runAsUser: (\d+)", HELPERS.read_text())

_AS_NOBODY = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
_AS_NOBODY += ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]

# In a mount namespace of its own: a fresh volume, and the root read-only.
_POD = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$VOLUME"
mkdir "$VOLUME/tmp" "$VOLUME/data" "$VOLUME/python"
if [ -n "$CLOSED" ]; then  # the interpreter lives in somebody's home: let it be seen, and nothing beside it
  mount --bind "$PYTHON_PREFIX" "$VOLUME/python"
  mount -t tmpfs -o mode=755 tmpfs "$CLOSED"
  mkdir -p "$PYTHON_PREFIX"
  mount --bind "$VOLUME/python" "$PYTHON_PREFIX"
  umount "$VOLUME/python"
fi
printf '%s' "$SETTINGS" > "$VOLUME/skiagraph.yaml"
chown -R "$POD_UID:$POD_UID" "$VOLUME"
mount -o remount,bind,ro /
! touch "$OUTSIDE" 2>/dev/null
exec "$@"
"""


def _why_not() -> str:
    """Why this machine cannot play a pod; empty when it can."""
    if os.geteuid() != 0:
        return "only root can make a mount namespace"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "no mount namespaces here"
    closed = _closed(REPOSITORY)
    return f"user {UID} cannot enter {closed}" if closed else ""


def _closed(path: Path) -> Path | None:
    """The outermost folder on the way that others may not enter."""
    ways = [folder for folder in reversed([path, *path.parents]) if not folder.stat().st_mode & 0o001]
    return ways[0] if ways else None


@contextmanager
def _pod(
    folder: Path, volume: Path, command: str, settings: dict[str, object]
) -> Iterator[subprocess.Popen[bytes]]:
    """`skiagraph COMMAND` with the environment of the chart's container."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(volume / "tmp"),
        "TMPDIR": str(volume / "tmp"),
        "BENTOML_HOME": str(volume / "tmp" / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
        "SKIAGRAPH_CONFIG": str(volume / "skiagraph.yaml"),
        # For the shell above.
        "VOLUME": str(volume),
        "POD_UID": UID,
        "PYTHON_PREFIX": sys.base_prefix,
        "CLOSED": str(_closed(Path(sys.base_prefix)) or ""),
        "OUTSIDE": str(folder / "must-not-be-made"),
        "SETTINGS": yaml.safe_dump(settings),
    }
    shell = ["unshare", "--mount", "sh", "-c", _POD, "sh", *_AS_NOBODY]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*shell, sys.executable, "-m", "skiagraph", command],
            cwd="/",
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        stop(process, deadline_seconds=30)


def _ready(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-3000:]
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=6).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def volume() -> Iterator[Path]:
    """Where the volume is mounted: pytest's own folders are closed to other users."""
    with tempfile.TemporaryDirectory(prefix="pod-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(autouse=True)
def _a_machine_that_can_play_a_pod() -> None:
    if reason := _why_not():
        pytest.skip(reason)


def test_the_listener_receives_and_stops(tmp_path: Path, volume: Path) -> None:
    dicom, console = free_ports(2)
    folder = str(volume / "data")
    settings = {"listener": {"port": dicom, "console_port": console, "folder": folder}}
    with _pod(tmp_path, volume, "listen", settings) as process:
        until(lambda: _ready(process, console, tmp_path / "log"), seconds=60)
        assert _real_uid(process) == UID
        assert send(dicom, [as_dicom(draw(PhantomKind.PLAIN, seed=1, width=256, height=256))]) == [0]
        process.terminate()
        assert process.wait(30) == 0, (tmp_path / "log").read_text()[-3000:]


def test_the_service_scores_and_stops(tmp_path: Path, volume: Path) -> None:
    (port,) = free_ports(1)
    with _pod(tmp_path, volume, "serve", {"service": {"port": port}}) as process:
        # Ready means that it has reproduced the golden outputs of its model.
        until(lambda: _ready(process, port, tmp_path / "log"), seconds=90, every=0.3)
        assert _real_uid(process) == UID
        assert "skiagraph_model_info" in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
        process.terminate()
        assert process.wait(60) == 0, (tmp_path / "log").read_text()[-3000:]


def _real_uid(process: subprocess.Popen[bytes]) -> str:
    (uid,) = re.findall(r"^Uid:\t(\d+)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return str(uid)
