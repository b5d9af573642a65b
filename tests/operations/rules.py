"""What the shipped rules and dashboards ask Prometheus for, read from the files themselves."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import REPOSITORY

CHART = REPOSITORY / "helm" / "skiagraph"
ALERTS = CHART / "files" / "alerts.yaml"
RUNBOOK = REPOSITORY / "docs" / "operations.md"

_METRIC = re.compile(r"\b(?:skiagraph|bentoml_service)_[a-z0-9_]+")


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def dashboards() -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(path.read_text()) for path in sorted((CHART / "dashboards").glob("*.json"))}


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel with queries, those inside rows included."""
    for panel in dashboard["panels"]:
        yield from panel.get("panels", [])
        if panel["type"] != "row":
            yield panel


def panel_queries() -> list[tuple[str, str]]:
    """Title and expression of everything that the dashboards ask."""
    return [
        (panel["title"], target["expr"])
        for dashboard in dashboards().values()
        for panel in panels(dashboard)
        for target in panel["targets"]
    ]


def hurried(text: str, *, factor: float, outbox_factor: float) -> str:
    """The same rules in less time: each `for` in minutes by one factor, the outbox's age by the other.

    What waits for an hour is left alone: the certificates of a test end in days, and that is no alarm.
    """
    age = "skiagraph_outbox_oldest_age_seconds) > "
    assert f"{age}1800" in text
    text = text.replace(f"{age}1800", f"{age}{1800 / outbox_factor:g}")
    return re.sub(
        r"for: (\d+)m$",
        lambda match: f"for: {round(60_000 * int(match[1]) / factor)}ms",
        text,
        flags=re.MULTILINE,
    )


def series_names(expression: str) -> set[str]:
    return set(_METRIC.findall(expression))


def label_values(expression: str, label: str) -> set[str]:
    return set(re.findall(rf'\b{label}="([^"]*)"', expression))


def runbook_headings(text: str) -> set[str]:
    return set(re.findall(r"^### (\w+)$", text, re.MULTILINE))


def promtool_cases() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(Path(__file__).parent.glob("*_test.yaml")):
        for group in yaml.safe_load(path.read_text())["tests"]:
            for case in group["alert_rule_test"]:
                yield path, case
