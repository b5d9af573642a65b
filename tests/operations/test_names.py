"""Alerts and dashboard ask only for metrics that the code declares, and ask for them as what they are."""

import re
import subprocess
import sys

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

import service.metrics
from dicom_listener import metrics as listener_metrics
from dicom_listener.ledger.overview import Backlog, Waiting
from dicom_listener.readiness import Readiness
from tests.operations import rules


def _declared(scrape_of_the_service: str) -> dict[str, str]:
    """Series name to type, of both halves; histograms by their three parts."""
    nothing = Waiting(depth=0, oldest_age_seconds=0.0)
    backlog = Backlog(
        stages=dict.fromkeys(("assembly", "scoring", "delivery"), nothing),
        outboxes={"pacs": nothing},
        dead_letters=0,
    )
    families = [
        *listener_metrics.registry.collect(),
        *listener_metrics.BacklogCollector(lambda: backlog, lambda: 0).collect(),
        *listener_metrics.ReadinessCollector(Readiness({"dicom": lambda: True})).collect(),
        *text_string_to_metric_families(scrape_of_the_service),
        *prometheus_client.REGISTRY.collect(),
    ]
    names: dict[str, str] = {}
    for family in families:
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
        names |= {family.name + ending: family.type for ending in endings}
    return names


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path_factory.mktemp("metrics")))
        return _declared(service.metrics.exposition(ready=True).decode())


def _questions() -> list[tuple[str, str]]:
    """Where, and the expression."""
    asked = [(rule["alert"], rule["expr"]) for rule in rules.alerts()]
    for name, dashboard in rules.dashboards().items():
        asked += [
            (f"{name}: {panel['title']}", target["expr"])
            for panel in rules.panels(dashboard)
            for target in panel["targets"]
        ]
    return asked


@pytest.mark.parametrize(("where", "expression"), _questions(), ids=lambda value: value[:40])
def test_each_expression_asks_for_declared_metrics(
    where: str, expression: str, declared: dict[str, str]
) -> None:
    for name in rules.series_names(expression):
        assert name in declared, f"{where} asks for {name}"
        counted = declared[name] in {"counter", "histogram"}
        inside_rate = re.search(rf"(?:rate|increase)\({name}\b", expression) is not None
        # The one counter that is looked at as it stands: a fallback counts for as long as the process lives.
        assert inside_rate == counted or name == "skiagraph_engine_fallback_total", f"{where}: rate of {name}"


def test_the_bucket_of_the_turnaround_objective_is_measured(declared: dict[str, str]) -> None:
    (rule,) = [rule for rule in rules.alerts() if rule["alert"] == "SkiagraphTurnaroundBurn"]
    wanted = rules.label_values(rule["expr"], "le")
    assert wanted
    assert wanted <= {
        sample.labels["le"] for sample in _samples("skiagraph_turnaround_seconds") if "le" in sample.labels
    }


def _samples(family: str) -> list[Sample]:
    return [
        sample for one in listener_metrics.registry.collect() if one.name == family for sample in one.samples
    ]


_FALLBACK = """
import prometheus_client, service.metrics
from runners.loaded import EngineReport
service.metrics.show_engines([EngineReport(
    model="m", model_version="1", weights_sha256="0", engine="onnxruntime", engine_version="1",
    precision="fp32", parity=0.0, reason="the plan failed", fallback=True, seconds_per_radiograph=1.0)])
print(prometheus_client.generate_latest().decode())
"""


def test_a_fallback_is_counted_with_the_labels_that_its_alert_shows() -> None:
    """In a process of its own: what is counted here must not be seen by other tests."""
    done = subprocess.run([sys.executable, "-c", _FALLBACK], capture_output=True, text=True, check=True)
    (line,) = re.findall(r"^skiagraph_engine_fallback_total\{(.*)\} 1\.0$", done.stdout, re.MULTILINE)
    (rule,) = [rule for rule in rules.alerts() if rule["alert"] == "SkiagraphFallbackEngine"]
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert shown == set(re.findall(r"(\w+)=", line))
