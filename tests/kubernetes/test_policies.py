"""What an operator relies on: updates, drained nodes, scaling, networks, settings."""

from __future__ import annotations

from os.path import relpath
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from libs.settings.cognition import cognition_reader, read_cognition
from libs.settings.process import CANCELLING_S, process_reader, read_process
from libs.settings.tracing import read_tracing, tracing_reader
from tests.kubernetes.rendering import OVERLAYS, ROOT, SERVICES, of_folder, of_kind, pods, settings

PAUSE_S = 5
"""The pause before the gateway's drain."""

SECRET = {"CODETETHER_COGNITION_THINKER_API_KEY", "PERPETUA_API_TOKENS"}
BY_CONTAINER = {
    "PERPETUA_INSTANCE", "PERPETUA_NATS_NKEY_FILE", "PERPETUA_GATEWAY_HOST", "PERPETUA_GATEWAY_PORT",
}  # fmt: skip
BY_IMAGE = {"PERPETUA_DATA_DIR", "PERPETUA_METRICS_HOST", "PERPETUA_METRICS_PORT"}
OF_UP = {"PERPETUA_RESTARTS"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_is_given_longer_than_it_drains(overlay: str) -> None:
    drain_s = int(settings(overlay)["PERPETUA_DRAIN_MS"]) / 1000
    for name, pod in pods(overlay):
        if name.startswith("Deployment"):
            assert pod["terminationGracePeriodSeconds"] >= drain_s + CANCELLING_S + PAUSE_S, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_update_starts_the_new_pod_first_unless_that_takes_a_gpu(overlay: str) -> None:
    for name, manifest in of_kind(overlay, "Deployment").items():
        takes_one = "nvidia.com/gpu" in str(manifest["spec"]["template"]["spec"])
        assert takes_one is (overlay == "gpu" and name == "thinker")
        first = {"maxSurge": 0, "maxUnavailable": 1} if takes_one else {"maxSurge": 1, "maxUnavailable": 0}
        assert manifest["spec"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": first}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_replicas_are_spread_over_nodes_and_zones_each_version_by_itself(overlay: str) -> None:
    for name, manifest in of_kind(overlay, "Deployment").items():
        spread = manifest["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert [one["topologyKey"] for one in spread] == [
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        ], name
        assert all(one["matchLabelKeys"] == ["pod-template-hash"] for one in spread), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nodes_can_be_drained_but_of_one_broker_at_a_time(overlay: str) -> None:
    budgets = of_kind(overlay, "PodDisruptionBudget")
    assert budgets.keys() == SERVICES | ({"nats"} if overlay != "external-nats" else set())
    for name, budget in budgets.items():
        assert budget["spec"]["maxUnavailable"] == 1
        ready_or_not = budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
        assert ready_or_not is (name != "nats"), name


@pytest.mark.parametrize("overlay", ["production", "gpu", "external-nats"])
def test_without_a_number_thinkers_are_kept_rather_than_scaled_down(overlay: str) -> None:
    scaled = of_kind(overlay, "ScaledObject")["thinker"]["spec"]
    (trigger,) = scaled["triggers"]
    assert "perpetua_work_pending" in trigger["metadata"]["query"]
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert scaled["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert scaled["minReplicaCount"] < scaled["fallback"]["replicas"] < scaled["maxReplicaCount"]
    by_themselves = {"thinker", "gateway"}
    for name, manifest in of_kind(overlay, "Deployment").items():
        assert ("replicas" in manifest["spec"]) is (name not in by_themselves), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_streams_are_made_by_a_job_that_tries_again_and_is_gone_soon(overlay: str) -> None:
    """A Job cannot be changed: the next apply finds it gone."""
    job = of_kind(overlay, "Job")["provision"]["spec"]
    assert job["template"]["spec"]["containers"][0]["args"] == ["provision"]
    assert job["template"]["spec"]["restartPolicy"] == "OnFailure"
    assert job["backoffLimit"] >= 10
    assert job["ttlSecondsAfterFinished"] <= 600


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_fills_a_node(overlay: str) -> None:
    for name, pod in pods(overlay):
        for volume in pod.get("volumes", []):
            assert "emptyDir" not in volume or volume["emptyDir"].get("sizeLimit"), (
                f"{name}: {volume['name']}"
            )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_talks_unless_it_is_allowed_to(overlay: str) -> None:
    policies = of_kind(overlay, "NetworkPolicy")
    assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    allowed = policies["to-broker"]["spec"]["podSelector"]["matchExpressions"][0]["values"]
    assert set(allowed) == SERVICES | {"provision"}
    monitored = policies["metrics"]["spec"]
    assert monitored["ingress"][0]["from"] == [label("perpetua/monitoring")]
    for name, manifest in of_kind(overlay, "Deployment").items():
        labels = manifest["spec"]["template"]["metadata"]["labels"]
        assert monitored["podSelector"]["matchLabels"].items() <= labels.items(), name
    if overlay != "external-nats":
        clients, subscribers, brokers = policies["broker"]["spec"]["ingress"]
        assert clients["from"] == [
            {"podSelector": {"matchLabels": {"app.kubernetes.io/part-of": "perpetua"}}}
        ]
        assert subscribers["from"] == [label("perpetua/subscribers")]
        assert brokers["ports"] == [{"protocol": "TCP", "port": 6222}]


def test_traces_are_let_out_only_where_that_is_asked_for(tmp_path: Path) -> None:
    for overlay in OVERLAYS:
        assert "to-collector" not in of_kind(overlay, "NetworkPolicy")
        assert settings(overlay)["OTEL_EXPORTER_OTLP_ENDPOINT"] == ""
    parts = [
        relpath(ROOT / f"deploy/kubernetes/{part}", tmp_path.resolve())
        for part in ("overlays/dev", "components/traces")
    ]
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": parts[:1], "components": parts[1:]})
    )
    with_traces = of_folder(tmp_path)
    (policy,) = [one for one in with_traces if one["metadata"]["name"] == "to-collector"]
    assert set(policy["spec"]["podSelector"]["matchExpressions"][0]["values"]) == SERVICES
    (rule,) = policy["spec"]["egress"]
    assert rule["to"] == [label("perpetua/traces")]
    configured = next(
        one["data"]
        for one in with_traces
        if one["kind"] == "ConfigMap" and "OTEL_EXPORTER_OTLP_ENDPOINT" in one["data"]
    )
    read = tracing_reader(configured)
    endpoint = read_tracing(read).endpoint
    assert endpoint is not None
    assert urlsplit(endpoint).port == rule["ports"][0]["port"]


def label(name: str) -> dict[str, Any]:
    """Who comes from a namespace that carries a label."""
    return {"namespaceSelector": {"matchLabels": {name: "true"}}}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_thinkers_reach_endpoints_and_no_credentials_of_a_node(overlay: str) -> None:
    (rule,) = of_kind(overlay, "NetworkPolicy")["thinkers-to-endpoints"]["spec"]["egress"]
    blocks = [one["ipBlock"] for one in rule["to"] if "ipBlock" in one]
    assert "169.254.0.0/16" in next(b["except"] for b in blocks if b["cidr"] == "0.0.0.0/0")
    assert "fd00:ec2::254/128" in next(b["except"] for b in blocks if b["cidr"] == "::/0")
    assert {"namespaceSelector": {}} in rule["to"]
    assert rule["ports"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_config_map_names_every_setting_and_no_other(overlay: str) -> None:
    data = settings(overlay)
    cognition, process = cognition_reader(data), process_reader(data)
    read_cognition(cognition)
    read_process(process, "registry")
    tracing = tracing_reader(data)
    read_tracing(tracing)
    known = {one.name for one in (*cognition.described, *process.described, *tracing.described)}
    assert data.keys() - known == set(), "no service knows these"
    assert known - data.keys() == SECRET | BY_CONTAINER | BY_IMAGE | OF_UP, "add them to settings.env"


def test_what_the_image_sets_is_set_there() -> None:
    image = (ROOT / "deploy/Dockerfile").read_text()
    assert all(f"{name}=" in image for name in BY_IMAGE)


def test_an_empty_setting_is_its_default() -> None:
    empty = {
        name: "" for name, value in settings("dev").items() if name.startswith("CODETETHER_") and not value
    }
    assert len(empty) > 20
    assert read_cognition(cognition_reader(empty)) == read_cognition(cognition_reader({}))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_clients_that_share_the_address_of_a_proxy_are_not_bounded_by_it(overlay: str) -> None:
    data = settings(overlay)
    assert (data["PERPETUA_CLIENT_REQUESTS_PER_S"], data["PERPETUA_CLIENT_CONNECTIONS"]) == ("0", "0")
