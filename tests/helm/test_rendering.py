"""Every value set renders to objects that Kubernetes and the product accept."""

import json
import tomllib
from pathlib import Path

import helm_python
import kubernetes_validate
import pytest
import yaml

from skiagraph import settings
from tests.conftest import REPOSITORY
from tests.helm.chart import CHART, NOTES, VALUE_SETS, Renderer, leaves, one, pods, read, without

# Chart.yaml's kubeVersion, and the newest whose schemas are installed.
KUBERNETES = ("1.27", kubernetes_validate.latest_version())
# Their schemas belong to the operators that define them.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}

EVERYWHERE = "0.0.0.0"  # noqa: S104 - inside a pod; Services and policies decide who reaches it

each_value_set = pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.name)


@each_value_set
def test_helm_finds_nothing_to_complain_about(values: Path) -> None:
    report = helm_python.lint(CHART, read(values), strict=True)
    assert not report["errors"]
    assert {message["error"] for message in report["messages"]} == {"icon is recommended"}


@each_value_set
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_every_object(renderer: Renderer, values: Path, version: str) -> None:
    for item in renderer.objects(read(values)):
        if item["kind"] in CUSTOM:
            with pytest.raises(kubernetes_validate.SchemaNotFoundError):
                kubernetes_validate.validate(item, version, strict=True)
        else:
            kubernetes_validate.validate(item, version, strict=True)


def test_the_oldest_version_is_the_one_the_chart_names() -> None:
    assert read(CHART / "Chart.yaml")["kubeVersion"] == f">={KUBERNETES[0]}.0-0"


@each_value_set
def test_the_product_reads_the_settings(
    renderer: Renderer, values: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKIAGRAPH_LISTENER__DATABASE_URL", "postgresql://user@host/skiagraph")
    given = read(values)
    objects = renderer.objects(given)
    (tmp_path / "skiagraph.yaml").write_text(
        one(objects, "ConfigMap", _fullname(given))["data"]["skiagraph.yaml"]
    )
    for variable in one(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]:
        if variable["name"].startswith("SKIAGRAPH_SERVICE"):
            monkeypatch.setenv(variable["name"], variable["value"])
    loaded = settings.load(tmp_path / "skiagraph.yaml")
    listener = loaded.listener
    assert [item.name for item in listener.destinations] == [
        item["name"] for item in given["settings"]["listener"]["destinations"]
    ]
    # What the pods, the probes and the Services rely on.
    assert (listener.host, listener.port, listener.console_host, listener.console_port) == (
        EVERYWHERE, 11112, EVERYWHERE, 8080,
    )  # fmt: skip
    assert (loaded.service.host, loaded.service.port) == (EVERYWHERE, 3000)
    scheme = "https" if loaded.service.tls else "http"
    assert (
        listener.service_url == f"{scheme}://{one(objects, 'Service', '-service')['metadata']['name']}:3000"
    )
    assert (listener.service_tls is None) is (loaded.service.tls is None)
    grace = {name: pod["spec"].get("terminationGracePeriodSeconds", 30) for name, pod in pods(objects)}
    assert grace[f"{_fullname(given)}-listener"] >= listener.drain_seconds + 20
    assert grace[f"{_fullname(given)}-service"] >= loaded.service.drain_seconds + 20
    mounts = {
        mount["mountPath"]: mount
        for _name, pod in pods(objects)
        for container in pod["spec"]["containers"]
        for mount in container.get("volumeMounts", [])
    }
    assert str(listener.folder) in mounts
    files = [listener.tls.certificate, listener.tls.key, listener.tls.client_ca] if listener.tls else []
    files += [item.tls.ca for item in listener.destinations if item.tls]
    files += [loaded.service.tokens_file]
    files += [loaded.service.tls.key, listener.service_tls.ca] if loaded.service.tls else []
    assert all(str(file.parent) in mounts for file in files if file)
    assert listener.tls is None or listener.tls.port == 2762
    if loaded.service.plan_cache is not None:
        assert str(loaded.service.plan_cache) in mounts


def test_numbers_of_any_size_stay_numbers(renderer: Renderer) -> None:
    given = {"settings": {"listener": {"reserve_bytes": 10_000_000, "max_instance_bytes": 2**40}}}
    text = one(renderer.objects(given), "ConfigMap")["data"]["skiagraph.yaml"]
    assert yaml.safe_load(text)["listener"]["max_instance_bytes"] == 2**40
    assert "reserve_bytes: 10000000\n" in text


@each_value_set
def test_every_pod_keeps_the_restricted_profile(renderer: Renderer, values: Path) -> None:
    checked = 0
    for _name, pod in pods(renderer.objects(read(values))):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "memory" in container["resources"]["limits"]
            checked += 1
    assert checked == 5


@each_value_set
def test_what_names_something_names_something_that_is_there(renderer: Renderer, values: Path) -> None:
    objects = renderer.objects(read(values))
    names = {(item["kind"], item["metadata"]["name"]) for item in objects}
    assert len(names) == len(objects)
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(objects)}
    ports = {
        port["name"]: name
        for name, pod in pods(objects)
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
    }
    for item in objects:
        spec = item.get("spec", {})
        match item["kind"]:
            case "Service":
                chosen = [name for name, its in labels.items() if spec["selector"].items() <= its.items()]
                assert {ports[port["targetPort"]] for port in spec["ports"]} == set(chosen)
                assert len(chosen) == 1
            case "PodDisruptionBudget":
                wanted = spec["selector"]["matchLabels"].items()
                assert sum(wanted <= its.items() for its in labels.values()) == 1
                assert spec["maxUnavailable"] == 1
                assert "minAvailable" not in spec
            case "HorizontalPodAutoscaler" | "ScaledObject":
                assert ("Deployment", spec["scaleTargetRef"]["name"]) in names
            case "StatefulSet":
                assert ("Service", spec["serviceName"]) in names
                assert spec["replicas"] == 1
            case "ServiceMonitor":
                wanted = spec["selector"]["matchLabels"].items()
                offered = {
                    port["name"]
                    for other in objects
                    if other["kind"] == "Service" and wanted <= other["metadata"]["labels"].items()
                    for port in other["spec"]["ports"]
                }
                assert spec["endpoints"][0]["port"] in offered
    for _name, pod in pods(objects):
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])} | {"data"}
        for container in pod["spec"]["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes


@each_value_set
def test_probes_ask_http_and_never_the_dicom_port(renderer: Renderer, values: Path) -> None:
    for name, pod in pods(renderer.objects(read(values))):
        for container in pod["spec"]["containers"]:
            probes = {kind: container[kind] for kind in container if kind.endswith("Probe")}
            if name.endswith("-test"):
                assert not probes
                continue
            assert {kind: probe["httpGet"]["port"] for kind, probe in probes.items()} == dict.fromkeys(
                ("startupProbe", "livenessProbe", "readinessProbe"),
                "console" if name.endswith("-listener") else "http",
            )
            assert probes["livenessProbe"]["httpGet"]["path"] == "/livez"
            assert probes["readinessProbe"]["httpGet"]["path"] == "/readyz"
            if name.endswith("-service"):  # it asks its runners for up to five seconds
                assert probes["readinessProbe"]["timeoutSeconds"] > 5


@each_value_set
def test_every_value_of_the_set_changes_something(renderer: Renderer, values: Path) -> None:
    """No dead options: with one value left out, other text comes out, or the chart refuses."""
    given = read(values)
    whole = renderer.texts(given)
    for path in leaves(given):
        try:
            changed = renderer.texts(without(given, path))
        except helm_python.HelmError:
            continue
        assert changed != whole, f"{'.'.join(path)} does nothing"


def test_every_key_of_the_chart_is_in_a_value_set() -> None:
    known = set(
        leaves({key: value for key, value in read(CHART / "values.yaml").items() if key != "settings"})
    )
    used = {path for values in VALUE_SETS for path in leaves(read(values))}
    unused = {path for path in known if not any(_same_place(path, other) for other in used)}
    assert {".".join(path) for path in unused} == set()


@each_value_set
def test_the_notes_say_what_to_type_into_the_modality(renderer: Renderer, values: Path) -> None:
    given = read(values)
    notes = renderer.texts(given)[NOTES]
    assert f"AE title  {given['settings']['listener'].get('ae_title', 'SKIAGRAPH')}\n" in notes
    ports = given.get("listener", {}).get("service", {})
    tls = f", over TLS {ports['tlsPort']}" if "tlsPort" in ports else ""
    assert f"port      {ports.get('port', 11112)}{tls}\n" in notes


def test_the_chart_and_the_product_have_one_version() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert read(CHART / "Chart.yaml")["appVersion"] == project["version"]


def test_the_rule_object_holds_the_rule_file_and_the_dashboard_the_file(renderer: Renderer) -> None:
    on = {"prometheusRule": {"enabled": True}, "dashboards": {"enabled": True}}
    objects = renderer.objects(on)
    assert one(objects, "PrometheusRule")["spec"] == read(CHART / "files" / "alerts.yaml")
    (path,) = (CHART / "dashboards").glob("*.json")
    content = one(objects, "ConfigMap", "-dashboard-skiagraph")["data"][path.name]
    assert json.loads(content) == json.loads(path.read_text())


def _fullname(given: dict[str, str]) -> str:
    return given.get("fullnameOverride", "site-skiagraph")


def _same_place(known: tuple[str, ...], used: tuple[str, ...]) -> bool:
    shorter = min(len(known), len(used))
    return known[:shorter] == used[:shorter]
