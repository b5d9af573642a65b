"""The Bento: built from bentofile.yaml, served from what was built and nothing else."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import yaml

from tests.conftest import REPOSITORY
from tests.service.conftest import START_SECONDS

BENTOML = str(Path(sys.executable).with_name("bentoml"))


def test_the_built_bento_serves(tmp_path: Path, free_port: Callable[[], int]) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKIAGRAPH_")}
    environment |= {"BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    environment.pop("PYTHONPATH", None)
    build = [BENTOML, "build", "-o", "tag", str(REPOSITORY)]
    built = subprocess.run(build, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    tag = built.stdout.split("__tag__:")[1].split()[0]
    bento = tmp_path / "home" / "bentos" / tag.replace(":", "/")
    assert not list((bento / "src").rglob("train")), "training code has no place in the Bento"
    lock = (REPOSITORY / "requirements.lock").read_text().splitlines()
    pinned = (bento / "env" / "python" / "requirements.txt").read_text().splitlines()
    assert {line for line in lock if "==" in line} <= set(pinned)

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [BENTOML, "serve", tag, "--host", "127.0.0.1", "--port", str(port)],
            cwd=tmp_path,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        assert _ready(url, process), (tmp_path / "log").read_text()[-3000:]
        assert httpx.post(f"{url}/v1/score", content=b"").json()["code"] == "empty"
    finally:
        process.terminate()
        process.wait(timeout=40)


def test_the_bento_names_the_lock() -> None:
    described = yaml.safe_load((REPOSITORY / "bentofile.yaml").read_text())
    assert (REPOSITORY / described["python"]["requirements_txt"]).is_file()
    assert described["service"] == "service.app:Skiagraph"


def _ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=10).is_success:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.3)
    return False
