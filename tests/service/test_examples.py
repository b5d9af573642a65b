"""Every example of docs/http-api.md, run as it stands against a real service."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pydicom

from tests.conftest import REPOSITORY
from tests.service.conftest import Running

PAGE = (REPOSITORY / "docs" / "http-api.md").read_text()
FENCED = re.findall(r"^```(.*?)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
BLOCKS = [(kind, text) for kind, text in FENCED if kind in ("sh", "python")]


def test_the_examples_run(service: Running, shared_data: Path, tmp_path: Path) -> None:
    assert {kind for kind, _ in FENCED} == {"sh", "python", "yaml"}
    assert not re.search(
        r"^(curl|import|from) ", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL), re.MULTILINE
    )
    environment = {
        **os.environ,
        "URL": service.url,
        "HAND": str(shared_data / "dicom" / "hand_kodak_cr500_j2k_lossless.dcm"),
        "PYTHONPATH": str(REPOSITORY),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    for kind, text in BLOCKS:
        command = ["sh", "-ec", text] if kind == "sh" else [sys.executable, "-c", text]
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert ran.returncode == 0, f"{text}\n{ran.stdout.decode()}\n{ran.stderr.decode()}"
    assert (tmp_path / "heatmap.png").read_bytes().startswith(b"\x89PNG")
    with zipfile.ZipFile(tmp_path / "study.zip") as archive:
        assert len(archive.namelist()) == 3
    assert pydicom.dcmread(tmp_path / "structured_report.dcm").Modality == "SR"
