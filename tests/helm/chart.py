"""The chart rendered by the Helm SDK itself (no helm binary, no cluster)."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart

from tests.conftest import REPOSITORY

CHART = REPOSITORY / "helm" / "skiagraph"
VALUE_SETS = sorted((CHART / "ci").glob("*-values.yaml"))
NOTES = "skiagraph/templates/NOTES.txt"

Object = dict[str, Any]


class Renderer:
    """The loaded chart. release and namespace are always the same."""

    def __init__(self, chart: Chart) -> None:
        self._chart = chart

    def texts(self, values: dict[str, Any]) -> dict[str, str]:
        """Template path to text; raises HelmValuesError or HelmRenderError."""
        return self._chart.render(values, name="site", namespace="radiology")

    def objects(self, values: dict[str, Any]) -> list[Object]:
        """Every Kubernetes object."""
        return [
            document
            for path, text in sorted(self.texts(values).items())
            if path != NOTES
            for document in yaml.safe_load_all(text)
            if document
        ]

    def validate(self, values: dict[str, Any]) -> None:
        self._chart.validate_schema(values)


def read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def one(objects: list[Object], kind: str, suffix: str = "") -> Object:
    """The object of this kind whose name ends so."""
    found = [item for item in objects if item["kind"] == kind and item["metadata"]["name"].endswith(suffix)]
    assert len(found) == 1, f"{len(found)} objects of kind {kind} end in {suffix!r}"
    return found[0]


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Name, and pod template or pod."""
    for item in objects:
        if item["kind"] in {"StatefulSet", "Deployment"}:
            yield item["metadata"]["name"], item["spec"]["template"]
        elif item["kind"] == "Pod":
            yield item["metadata"]["name"], item


def leaves(values: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every value that is not a mapping with content."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key)


def without(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """A copy with one value left out."""
    changed = copy.deepcopy(values)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return changed
