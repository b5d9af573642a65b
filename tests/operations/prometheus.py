"""A real Prometheus with our rules, scraping a real run."""

import math
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from skiagraph.demo.ports import free_ports
from skiagraph.processes import die_with_parent, stop
from tests.conftest import debian_program
from tests.dicom_listener.peers import until


@dataclass(frozen=True)
class Prometheus:
    """Asks the HTTP API of a running Prometheus."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector: labels in `metric`, text in `value`."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def value(self, expression: str) -> float | None:
        """The value of a query with one answer; None for no answer."""
        found = self.query(expression)
        assert len(found) <= 1, expression
        return float(found[0]["value"][1]) if found else None

    def shows_something(self, expression: str, *, interval: str = "2m") -> bool:
        """Whether a panel with this query would have a point, the dashboard's variables set as by default."""
        asked = expression.replace("$__rate_interval", interval).replace("$namespace", ".*")
        assert "$" not in asked
        return any(math.isfinite(float(series["value"][1])) for series in self.query(asked))

    def rules(self) -> list[dict[str, Any]]:
        groups = httpx.get(f"{self.url}/api/v1/rules", timeout=10).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def firing(self) -> set[str]:
        return {rule["name"] for rule in self.rules() if rule["state"] == "firing"}


@contextmanager
def running_prometheus(folder: Path, *, rules: Path, targets: dict[str, int]) -> Iterator[Prometheus]:
    """Scrape once a second. targets: job to port of this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    program = debian_program("prometheus")
    assert program is not None
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
            for job, port in targets.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None, (folder / "prometheus.log").read_text()[-2000:]
        try:
            return httpx.get(f"{url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(ready, seconds=30)
        yield Prometheus(url)
    finally:
        stop(process, deadline_seconds=10)
