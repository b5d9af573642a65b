"""Wrong values are refused before anything is installed, and the error names the field."""

import json
from typing import Any

import pytest
from helm_python import HelmRenderError, HelmValuesError

from tests.helm.chart import CHART, VALUE_SETS, Renderer, leaves, read
from tests.helm.settings_schema import DECIDED_BY_THE_CHART, chart_schema


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"bogus": 1}, "bogus"),
        ({"listener": {"replicas": 2}}, "replicas"),
        ({"listener": {"service": {"port": 70000}}}, "/listener/service/port"),
        ({"listener": {"service": {"type": "ExternalName"}}}, "/listener/service/type"),
        ({"listener": {"persistence": {"size": "fifty gigabytes"}}}, "/listener/persistence/size"),
        ({"listener": {"database": {"url": "postgresql://u:p@h/d"}}}, "url"),
        ({"service": {"autoscaling": {"mode": "both"}}}, "/service/autoscaling/mode"),
        ({"service": {"replicas": 0}}, "/service/replicas"),
        (
            {"service": {"autoscaling": {"keda": {"cooldownSeconds": 3601}}}},
            "/service/autoscaling/keda/cooldownSeconds",
        ),
        ({"service": {"gpu": {"enabled": "yes"}}}, "/service/gpu/enabled"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"networkPolicy": {"modalities": ["10.20.0.1"]}}, "/networkPolicy/modalities/0"),
        ({"networkPolicy": {"egress": [{"cidr": "10.0.0.0/8"}]}}, "port"),
        ({"prometheusRule": {"disabled": ["NoSuchAlert"]}}, "/prometheusRule/disabled/0"),
        ({"serviceMonitor": {"interval": 30}}, "/serviceMonitor/interval"),
        (
            {"settings": {"listener": {"ae_title": "LONGER_THAN_16_CHARACTERS"}}},
            "/settings/listener/ae_title",
        ),
        ({"settings": {"listener": {"quiet_period": 3}}}, "quiet_period"),
        ({"settings": {"service": {"engine": "cuda"}}}, "/settings/service/engine"),
        (
            {
                "settings": {
                    "listener": {"destinations": [{"name": "p", "ae_title": "P", "host": "h", "port": 0}]}
                }
            },
            "/settings/listener/destinations/0/port",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_value_is_refused_by_its_name(renderer: Renderer, values: dict[str, Any], field: str) -> None:
    with pytest.raises(HelmValuesError) as refused:
        renderer.texts(values)
    assert field in str(refused.value)


@pytest.mark.parametrize(
    ("section", "key"),
    [
        (name.removesuffix("Settings").lower(), key)
        for name, keys in DECIDED_BY_THE_CHART.items()
        for key in sorted(keys)
    ],
)
def test_what_the_chart_decides_and_what_is_secret_is_refused_in_settings(
    renderer: Renderer, section: str, key: str
) -> None:
    settings: dict[str, Any] = {section: {key: "x"}} if section else {key: True}
    if section == "tlsserver":
        settings = {"listener": {"tls": {"certificate": "c", "key": "k", key: 2762}}}
    with pytest.raises(HelmValuesError, match=f"additional properties '{key}' not allowed"):
        renderer.validate({"settings": settings})


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"service": {"autoscaling": {"mode": "keda"}}}, "service.autoscaling.keda.serverAddress"),
        ({"service": {"autoscaling": {"minReplicas": 5}}}, "service.autoscaling.minReplicas"),
        ({"networkPolicy": {"enabled": True}}, "networkPolicy.modalities"),
        ({"listener": {"service": {"nodePort": 30104}}}, "listener.service.nodePort"),
        ({"settings": {"listener": {"tls": {"certificate": "/a", "key": "/b"}}}}, "listener.tlsSecrets"),
        (
            {
                "settings": {
                    "listener": {
                        "destinations": [
                            {"name": "p", "ae_title": "P", "host": "h", "port": 1, "tls": {"ca": "/ca.crt"}}
                        ]
                    }
                }
            },
            "settings.listener.destinations p tls.ca is /ca.crt",
        ),
        (
            {"settings": {"service": {"tokens": [{"name": "a", "sha256": "0" * 64}]}}},
            "listener.serviceToken.existingSecret",
        ),
        ({"listener": {"serviceToken": {"existingSecret": "mine"}}}, "settings.service.tokens"),
    ],
)
def test_a_contradiction_is_refused_with_what_to_do(
    renderer: Renderer, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(HelmRenderError, match=field):
        renderer.texts(values)


def test_the_schema_of_the_settings_is_the_products_own() -> None:
    """After a change of skiagraph/settings: python -m tests.helm.settings_schema."""
    current = json.loads((CHART / "values.schema.json").read_text())
    assert current == chart_schema(current)


def test_every_default_is_in_the_schema_and_every_key_of_the_schema_has_a_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = read(CHART / "values.yaml")
    del schema["properties"]["settings"], schema["properties"]["global"], defaults["settings"]
    assert set(_keys(schema)) == {path for path in _all_paths(defaults) if _closed(schema, path)}


def test_the_alerts_that_can_be_left_out_are_the_alerts_there_are() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    rules = [rule for group in read(CHART / "files" / "alerts.yaml")["groups"] for rule in group["rules"]]
    named = schema["properties"]["prometheusRule"]["properties"]["disabled"]["items"]["enum"]
    assert named == [rule["alert"] for rule in rules]


def test_the_value_sets_are_there() -> None:
    assert [path.name for path in VALUE_SETS] == [
        "cpu-hpa-values.yaml",
        "default-values.yaml",
        "external-modalities-values.yaml",
        "full-values.yaml",
        "gpu-keda-values.yaml",
        "try-out-values.yaml",
    ]


def _keys(schema: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for key, inner in schema.get("properties", {}).items():
        found += _keys(inner, (*above, key)) or [(*above, key)]
    return found


def _all_paths(defaults: dict[str, Any]) -> set[tuple[str, ...]]:
    return {path[:end] for path in leaves(defaults) for end in range(1, len(path) + 1)}


def _closed(schema: dict[str, Any], path: tuple[str, ...]) -> bool:
    """Whether the schema ends here: a key of our own without keys of our own below it."""
    for key in path:
        if key not in schema.get("properties", {}):
            return schema.get("additionalProperties") is False  # a default that the schema does not know
        schema = schema["properties"][key]
    return "properties" not in schema
