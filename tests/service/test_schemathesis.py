"""Every endpoint of a real service against what its own OpenAPI description says of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.service.conftest import Running

# `make schemathesis` asks for 2,000 and more.
CASES = int(os.environ.get("SKIAGRAPH_SCHEMATHESIS_CASES", "150"))
SEED = int(os.environ.get("SKIAGRAPH_SCHEMATHESIS_SEED", "20260701"))
# Valid by the schema is not yet a radiograph, nor the name of a model: those are refused, as documented. And
# the good files of schemathesis_bodies.py may make a request good again that was meant to be bad.
LEFT_OUT = "positive_data_acceptance,negative_data_rejection"


def test_no_5xx_and_no_undocumented_status(service: Running, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    ran = subprocess.run(
        [
            str(Path(sys.executable).with_name("st")),
            "run",
            f"{service.url}/v1/openapi.json",
            f"--exclude-checks={LEFT_OUT}",
            # Some endpoints have few different requests: the others make up for it.
            f"--max-examples={CASES // 3}",
            f"--seed={SEED}",
            # The examples that the description itself suggests are a hundred and more: only in the long run.
            f"--phases={'fuzzing' if CASES < 500 else 'coverage,fuzzing,stateful'}",
            "--continue-on-failure",
            "--no-color",
            "--suppress-health-check=all",
            "--generation-database=none",
            f"--report-json-path={report}",
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "SCHEMATHESIS_HOOKS": "tests.service.schemathesis_bodies",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    cases = json.loads(report.read_text())["test_cases"]
    print(cases)
    assert cases["generated"] >= CASES
    assert cases["with_failures"] == cases["errored"] == 0
