"""What one value turns on or off, each with its opposite."""

import hashlib
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from skiagraph.settings.listener import ListenerSettings
from skiagraph.settings.service import Token
from tests.helm.chart import NOTES, VALUE_SETS, Object, Renderer, one, read, without


def _pod(objects: list[Object], half: str) -> Object:
    kind = "StatefulSet" if half == "listener" else "Deployment"
    spec: Object = one(objects, kind)["spec"]["template"]["spec"]
    return spec


def test_a_gpu_is_off_until_it_is_asked_for(renderer: Renderer) -> None:
    off = _pod(renderer.objects({}), "service")
    assert "nvidia.com/gpu" not in off["containers"][0]["resources"]["limits"]
    assert "runtimeClassName" not in off
    assert "tolerations" not in off
    on = {"service": {"gpu": {"enabled": True, "runtimeClassName": "nvidia"}, "tolerations": [{"key": "ai"}]}}
    pod = _pod(renderer.objects(on), "service")
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["requests"]
    assert pod["runtimeClassName"] == "nvidia"
    assert [item["key"] for item in pod["tolerations"]] == ["ai", "nvidia.com/gpu"]
    assert {"name": "plans", "emptyDir": {"sizeLimit": "4Gi"}} in pod["volumes"]


def test_gpu_tolerations_can_be_others(renderer: Renderer) -> None:
    pod = _pod(
        renderer.objects({"service": {"gpu": {"enabled": True, "tolerations": [{"key": "tesla"}]}}}),
        "service",
    )
    assert pod["tolerations"] == [{"key": "tesla"}]


def test_a_gpu_rollout_does_not_wait_for_a_second_gpu(renderer: Renderer) -> None:
    on = one(renderer.objects({"service": {"gpu": {"enabled": True}}}), "Deployment")["spec"]["strategy"]
    off = one(renderer.objects({}), "Deployment")["spec"]["strategy"]
    assert on["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert off["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize(
    ("autoscaling", "kind"),
    [
        ({"mode": "none"}, None),
        ({"mode": "hpa", "cpuUtilizationPercent": 60}, "HorizontalPodAutoscaler"),
        (
            {"mode": "keda", "keda": {"serverAddress": "http://prometheus:9090", "cooldownSeconds": 60}},
            "ScaledObject",
        ),
    ],
)
def test_who_scales_decides_whether_replicas_are_written(
    renderer: Renderer, autoscaling: dict[str, Any], kind: str | None
) -> None:
    objects = renderer.objects({"service": {"replicas": 3, "autoscaling": autoscaling}})
    scalers = [item for item in objects if item["kind"] in {"HorizontalPodAutoscaler", "ScaledObject"}]
    assert [item["kind"] for item in scalers] == ([kind] if kind else [])
    assert one(objects, "Deployment")["spec"].get("replicas") == (None if kind else 3)
    if kind == "ScaledObject":
        behavior = scalers[0]["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        assert behavior == {"scaleDown": {"stabilizationWindowSeconds": 60}}
        assert 'namespace="radiology"' in scalers[0]["spec"]["triggers"][0]["metadata"]["query"]
    elif kind:
        assert scalers[0]["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 60


@pytest.mark.parametrize(
    ("values", "concurrency"),
    [
        ({}, 2),
        ({"service": {"replicas": 3}}, 6),
        ({"service": {"replicas": 3, "autoscaling": {"mode": "hpa", "maxReplicas": 5}}}, 10),
        ({"service": {"replicas": 100}}, 64),
        ({"service": {"replicas": 3}, "settings": {"listener": {"scoring_concurrency": 1}}}, 1),
    ],
)
def test_the_listener_sends_as_many_studies_at_a_time_as_the_replicas_can_take(
    renderer: Renderer, values: dict[str, Any], concurrency: int
) -> None:
    text = one(renderer.objects(values), "ConfigMap")["data"]["skiagraph.yaml"]
    assert yaml.safe_load(text)["listener"]["scoring_concurrency"] == concurrency
    ListenerSettings(scoring_concurrency=concurrency)


def test_a_listener_that_never_becomes_ready_is_replaced_by_the_next_upgrade(renderer: Renderer) -> None:
    """OrderedReady would wait for it: Kubernetes, StatefulSets, Forced rollback."""
    assert one(renderer.objects({}), "StatefulSet")["spec"]["podManagementPolicy"] == "Parallel"


def test_the_claim_outlives_the_release(renderer: Renderer) -> None:
    spec = one(renderer.objects({}), "StatefulSet")["spec"]
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert spec["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_without_a_claim_the_notes_warn(renderer: Renderer) -> None:
    values = {"listener": {"persistence": {"enabled": False}}}
    assert "volumeClaimTemplates" not in one(renderer.objects(values), "StatefulSet")["spec"]
    assert {"name": "data", "emptyDir": {}} in _pod(renderer.objects(values), "listener")["volumes"]
    notes = renderer.texts(values)["skiagraph/templates/NOTES.txt"]
    assert "WARNING: listener.persistence.enabled is false" in notes


def test_secrets_come_from_secrets_and_nowhere_else(renderer: Renderer) -> None:
    values = {
        "settings": {"service": {"tokens": [{"name": "listener", "sha256": "0" * 64}]}},
        "listener": {"database": {"existingSecret": "pg"}, "serviceToken": {"existingSecret": "token"}},
    }
    objects = renderer.objects(values)
    environment = {item["name"]: item for item in _pod(objects, "listener")["containers"][0]["env"]}
    assert environment["SKIAGRAPH_LISTENER__DATABASE_URL"]["valueFrom"] == {
        "secretKeyRef": {"name": "pg", "key": "url"}
    }
    assert environment["SKIAGRAPH_LISTENER__SERVICE_TOKEN"]["valueFrom"] == {
        "secretKeyRef": {"name": "token", "key": "token"}
    }
    assert not [item for item in objects if item["kind"] == "Secret"]
    assert "DATABASE" not in str(_pod(renderer.objects({}), "listener")["containers"][0]["env"])


def test_without_a_token_of_the_site_the_chart_makes_one(renderer: Renderer) -> None:
    objects = renderer.objects({})
    secret = one(objects, "Secret", "-access")["stringData"]
    (token,) = TypeAdapter(list[Token]).validate_python(yaml.safe_load(secret["tokens.yaml"]))
    assert token.sha256 == hashlib.sha256(secret["token"].encode()).hexdigest()
    assert len(secret["token"]) >= 40
    shown = {item["name"]: item for item in _pod(objects, "listener")["containers"][0]["env"]}
    assert shown["SKIAGRAPH_LISTENER__SERVICE_TOKEN"]["valueFrom"] == {
        "secretKeyRef": {"name": "site-skiagraph-access", "key": "token"}
    }
    (volume,) = [item for item in _pod(objects, "service")["volumes"] if item["name"] == "access"]
    # The service sees the digests alone.
    assert volume["secret"]["items"] == [{"key": "tokens.yaml", "path": "tokens.yaml"}]
    others = {"settings": {"service": {"allow_anonymous": True}}}
    assert not [item for item in renderer.objects(others) if item["kind"] == "Secret"]
    assert "WARNING: settings.service.allow_anonymous" in renderer.texts(others)[NOTES]


def test_tls_of_the_service_is_asked_for_by_everybody_or_nobody(renderer: Renderer) -> None:
    values = {"service": {"tls": {"existingSecret": "site"}}, "serviceMonitor": {"enabled": True}}
    for given, scheme in ((values, "HTTPS"), (without(values, ("service",)), None)):
        objects = renderer.objects(given)
        container = _pod(objects, "service")["containers"][0]
        probes = [container[kind]["httpGet"].get("scheme") for kind in container if kind.endswith("Probe")]
        assert probes == [scheme] * 3
        endpoint = one(objects, "ServiceMonitor", "-service")["spec"]["endpoints"][0]
        assert endpoint.get("scheme") == (scheme and scheme.lower())
        test = one(objects, "Pod")["spec"]
        assert ("https://site-skiagraph-service:3000" in str(test)) is bool(scheme)
        assert bool(test.get("volumes")) is bool(scheme)
        mounted = [item["name"] for item in _pod(objects, "listener")["volumes"]]
        assert ("service-ca" in mounted) is bool(scheme)
        assert "tls.key" not in str(_pod(objects, "listener"))


def test_tls_has_a_port_of_its_own_everywhere_or_nowhere(renderer: Renderer) -> None:
    files = {"certificate": "/etc/skiagraph-tls/site/tls.crt", "key": "/etc/skiagraph-tls/site/tls.key"}
    policy = {"enabled": True, "modalities": ["10.0.0.0/8"]}
    on = {
        "settings": {"listener": {"tls": files}},
        "listener": {"tlsSecrets": ["site"]},
        "networkPolicy": policy,
    }
    for values, expected in ((on, ["dicom", "dicom-tls"]), ({"networkPolicy": policy}, ["dicom"])):
        objects = renderer.objects(values)
        pod = _pod(objects, "listener")
        names = [port["name"] for port in pod["containers"][0]["ports"]]
        assert [name for name in names if name != "console"] == expected
        offered = one(objects, "Service", "-listener")["spec"]["ports"]
        assert [port["targetPort"] for port in offered] == expected
        allowed = one(objects, "NetworkPolicy", "-listener")["spec"]["ingress"][0]["ports"]
        assert [port["port"] for port in allowed] == expected
    secret = {"secretName": "site", "defaultMode": 0o440}
    assert {"name": "tls-site", "secret": secret} in _pod(renderer.objects(on), "listener")["volumes"]


@pytest.mark.parametrize("kind", ["NodePort", "LoadBalancer"])
def test_modalities_outside_keep_their_own_address(renderer: Renderer, kind: str) -> None:
    values = {"listener": {"service": {"type": kind, "loadBalancerClass": "example.org/metal"}}}
    spec = one(renderer.objects(values), "Service", "-listener")["spec"]
    assert spec["externalTrafficPolicy"] == "Local"
    assert spec.get("loadBalancerClass") == ("example.org/metal" if kind == "LoadBalancer" else None)


def test_network_policies_deny_what_is_not_named(renderer: Renderer) -> None:
    assert not [item for item in renderer.objects({}) if item["kind"] == "NetworkPolicy"]
    values = read(next(path for path in VALUE_SETS if path.name == "external-modalities-values.yaml"))
    objects = renderer.objects(values)
    listener = one(objects, "NetworkPolicy", "-listener")["spec"]
    service = one(objects, "NetworkPolicy", "-service")["spec"]
    assert listener["policyTypes"] == service["policyTypes"] == ["Ingress", "Egress"]
    assert service["egress"] == []
    dicom, console = listener["ingress"]
    assert {"ipBlock": {"cidr": "10.20.0.0/16"}} in dicom["from"]
    assert dicom["ports"] == [{"port": "dicom"}]
    assert console["ports"] == [{"port": "console"}]
    assert [rule["ports"][0]["port"] for rule in listener["egress"]] == [53, 3000, 104]


def test_what_can_be_left_out(renderer: Renderer) -> None:
    objects = renderer.objects(
        {"podDisruptionBudget": {"enabled": False}, "serviceAccount": {"create": False, "name": "mine"}}
    )
    assert not [item for item in objects if item["kind"] in {"PodDisruptionBudget", "ServiceAccount"}]
    assert _pod(objects, "listener")["serviceAccountName"] == "mine"


@pytest.mark.parametrize(
    ("image", "own", "listener", "service"),
    [
        ({}, {}, "skiagraph:0.1.0", "skiagraph:0.1.0"),
        ({"tag": "1"}, {"tag": "1-gpu"}, "skiagraph:1", "skiagraph:1-gpu"),
        (
            {"digest": "sha256:" + "a" * 64},
            {},
            f"skiagraph@sha256:{'a' * 64}",
            f"skiagraph@sha256:{'a' * 64}",
        ),
        ({"digest": "sha256:" + "a" * 64}, {"tag": "1"}, f"skiagraph@sha256:{'a' * 64}", "skiagraph:1"),
        (
            {"digest": "sha256:" + "a" * 64},
            {"repository": "gpu", "tag": "1"},
            f"skiagraph@sha256:{'a' * 64}",
            "gpu:1",
        ),
        (
            {"tag": "1"},
            {"repository": "gpu", "digest": "sha256:" + "b" * 64},
            "skiagraph:1",
            f"gpu@sha256:{'b' * 64}",
        ),
    ],
)
def test_which_image_runs(
    renderer: Renderer, image: dict[str, str], own: dict[str, str], listener: str, service: str
) -> None:
    objects = renderer.objects({"image": image, "service": {"image": own}})
    assert _pod(objects, "listener")["containers"][0]["image"] == listener
    assert _pod(objects, "service")["containers"][0]["image"] == service


def test_the_service_can_be_told_where_to_run(renderer: Renderer) -> None:
    affinity = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    assert _pod(renderer.objects({"service": {"affinity": affinity}}), "service")["affinity"] == affinity


def test_an_alert_can_be_left_out_by_name(renderer: Renderer) -> None:
    values = {"prometheusRule": {"enabled": True, "disabled": ["SkiagraphPeerDown"]}}
    rules = one(renderer.objects(values), "PrometheusRule")["spec"]["groups"]
    names = {rule["alert"] for group in rules for rule in group["rules"]}
    assert "SkiagraphPeerDown" not in names
    assert "SkiagraphOutboxStalled" in names
