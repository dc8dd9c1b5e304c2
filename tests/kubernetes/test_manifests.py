"""Every overlay renders, fits the schemas of Kubernetes and its extensions, and keeps our policies.

No cluster runs here: what a cluster would do with these manifests is not shown. The schemas under `crds` are
this project's own extracts of those that KEDA and the Prometheus Operator publish.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from libs.contracts.permissions import permissions
from libs.settings.process import process_reader, read_process

ROOT = Path(__file__).parent.parent.parent
CRDS = Path(__file__).parent / "crds"
OVERLAYS = ("dev", "production", "gpu", "external-nats")
KUBERNETES = ("1.30", "1.33", "1.37")
EXTENSIONS = {"ScaledObject": "scaledobject", "PodMonitor": "podmonitor", "PrometheusRule": "prometheusrule"}
SERVICES = {"registry", "scheduler", "compressor", "gateway", "thinker"}
Manifest = dict[str, Any]


@cache
def rendered(overlay: str) -> list[Manifest]:
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run(
        [kubectl, "kustomize", ROOT / "deploy/kubernetes/overlays" / overlay],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "kustomize warns"
    return list(yaml.safe_load_all(done.stdout))


def pods(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for manifest in rendered(overlay):
        if manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield f"{manifest['kind']} {manifest['metadata']['name']}", manifest["spec"]["template"]["spec"]


def containers(overlay: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, pod in pods(overlay):
        for container in pod["containers"] + pod.get("initContainers", []):
            yield name, container


def of_kind(overlay: str, kind: str) -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m for m in rendered(overlay) if m["kind"] == kind}


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_manifest_fits_its_schema(overlay: str, version: str) -> None:
    for manifest in rendered(overlay):
        if manifest["kind"] in EXTENSIONS:
            schema = json.loads((CRDS / f"{EXTENSIONS[manifest['kind']]}.json").read_text())
            jsonschema.validate(manifest, schema)
        else:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_refuse_what_is_wrong() -> None:
    good = rendered("production")
    deployment = json.loads(json.dumps(next(m for m in good if m["kind"] == "Deployment")))
    deployment["spec"]["template"]["spec"]["contianers"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.33", strict=True)
    scaled = json.loads(json.dumps(next(m for m in good if m["kind"] == "ScaledObject")))
    scaled["spec"]["triggers"][0]["metadata"]["threshold"] = 8
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(scaled, json.loads((CRDS / "scaledobject.json").read_text()))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_is_there(overlay: str) -> None:
    assert set(of_kind(overlay, "Deployment")) == SERVICES
    assert ("nats" in of_kind(overlay, "StatefulSet")) is (overlay != "external-nats")
    assert {m["metadata"].get("namespace") for m in rendered(overlay) if m["kind"] != "Namespace"} == {
        "perpetua"
    }
    if overlay != "dev":
        assert {"thinker"} == set(of_kind(overlay, "ScaledObject"))
        assert {"gateway"} == set(of_kind(overlay, "HorizontalPodAutoscaler"))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_is_root_or_may_become_it(overlay: str) -> None:
    for name, pod in pods(overlay):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] >= 10_000, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        assert not any(key in pod for key in ("hostNetwork", "hostPID", "hostIPC")), name
        assert not any("hostPath" in volume for volume in pod.get("volumes", [])), name
    for name, container in containers(overlay):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["readOnlyRootFilesystem"] is True, name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        assert "privileged" not in security, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everybody_has_requests_limits_and_an_exact_image(overlay: str) -> None:
    for name, container in containers(overlay):
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][kind].keys(), name
        tag = container["image"].rpartition(":")[2]
        assert ":" in container["image"], name
        assert tag != "latest", name
        assert any(character.isdigit() for character in tag), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_stays_is_probed_and_spread_and_disrupted_with_care(overlay: str) -> None:
    budgets = [m["spec"]["selector"]["matchLabels"] for m in of_kind(overlay, "PodDisruptionBudget").values()]
    for manifest in [*of_kind(overlay, "Deployment").values(), *of_kind(overlay, "StatefulSet").values()]:
        name, spec = manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]
        labels = manifest["spec"]["template"]["metadata"]["labels"]
        for container in spec["containers"]:
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                assert container[probe]["httpGet"]["port"] in ports, name
            assert container["readinessProbe"] != container["livenessProbe"], f"{name}: ready is not alive"
        assert spec["topologySpreadConstraints"], name
        assert any(chosen.items() <= labels.items() for chosen in budgets), f"{name} has no budget"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_is_given_longer_than_it_drains(overlay: str) -> None:
    settings = next(m for m in rendered(overlay) if m["metadata"]["name"].startswith("perpetua-settings"))[
        "data"
    ]
    drain_s = int(settings["PERPETUA_DRAIN_MS"]) / 1000
    for name, pod in pods(overlay):
        if name.startswith("Deployment"):
            assert pod["terminationGracePeriodSeconds"] >= drain_s + 2 + 5, name
    for manifest in of_kind(overlay, "Deployment").values():
        assert manifest["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_service_is_given_its_own_key_and_no_other(overlay: str) -> None:
    for name, pod in pods(overlay):
        service = name.split()[1]
        user = "admin" if service == "provision" else service
        wanted = ["users.conf"] if service == "nats" else [f"{user}.nk"]
        given = [
            item["key"]
            for volume in pod["volumes"]
            if volume.get("secret", {}).get("secretName") == "perpetua-keys"
            for item in volume["secret"]["items"]
        ]
        assert given == wanted, name
        assert service == "nats" or user in permissions()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_talks_unless_it_is_allowed_to(overlay: str) -> None:
    policies = of_kind(overlay, "NetworkPolicy")
    assert policies["nothing"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if overlay != "external-nats":
        open_to = policies["broker"]["spec"]["ingress"]
        assert all(rule["from"] for rule in open_to)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_settings_are_ones_that_the_services_know(overlay: str) -> None:
    data = next(m for m in rendered(overlay) if m["metadata"]["name"].startswith("perpetua-settings"))["data"]
    reader = process_reader(data)
    read_process(reader, "registry")
    assert data.keys() <= {described.name for described in reader.described}


def test_brokers_are_three_apart_and_the_streams_have_three_replicas() -> None:
    nats = of_kind("production", "StatefulSet")["nats"]
    assert nats["spec"]["replicas"] == 3
    spread = nats["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread[0]["whenUnsatisfiable"] == "DoNotSchedule"
    settings = next(
        m for m in rendered("production") if m["metadata"]["name"].startswith("perpetua-settings")
    )
    assert settings["data"]["PERPETUA_REPLICAS"] == "3"


def test_the_broker_takes_the_configuration_of_both_overlays(tmp_path: Path) -> None:
    """`nats-server -t` reads it, with the users of `perpetua keys`."""
    from libs.supervisor.broker import find_server
    from libs.supervisor.keys import make_keys

    make_keys(tmp_path / "users")
    for overlay in ("dev", "production"):
        config = next(m for m in rendered(overlay) if m["metadata"]["name"].startswith("nats-config"))
        (tmp_path / "nats.conf").write_text(config["data"]["nats.conf"])
        done = subprocess.run(
            [find_server(), "-t", "-c", tmp_path / "nats.conf"],
            env={"POD_NAME": "nats-0"}, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
