"""Every overlay renders, fits the schemas of Kubernetes and its extensions, and keeps our policies.

No cluster runs here: what a cluster would do with these manifests is not shown. The schemas under `crds` are
this project's own extracts of those that KEDA and the Prometheus Operator publish.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest

from libs.contracts.permissions import permissions
from tests.kubernetes.rendering import (
    OVERLAYS,
    SERVICES,
    containers,
    named,
    of_kind,
    pods,
    rendered,
    settings,
)

CRDS = Path(__file__).parent / "crds"
KUBERNETES = ("1.30", "1.33", "1.37")
EXTENSIONS = {"ScaledObject": "scaledobject", "PodMonitor": "podmonitor", "PrometheusRule": "prometheusrule"}


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


def test_brokers_are_three_apart_and_the_streams_have_three_replicas() -> None:
    nats = of_kind("production", "StatefulSet")["nats"]
    assert nats["spec"]["replicas"] == 3
    spread = nats["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spread[0]["whenUnsatisfiable"] == "DoNotSchedule"
    assert settings("production")["PERPETUA_REPLICAS"] == "3"
    assert settings("dev")["PERPETUA_REPLICAS"] == "1"


def test_the_broker_takes_the_configuration_of_both_overlays(tmp_path: Path) -> None:
    """`nats-server -t` reads it, with the users of `perpetua keys`."""
    from libs.supervisor.broker import find_server
    from libs.supervisor.keys import make_keys

    make_keys(tmp_path / "users")
    for overlay in ("dev", "production"):
        config = named(overlay, "nats-config")
        (tmp_path / "nats.conf").write_text(config["data"]["nats.conf"])
        done = subprocess.run(
            [find_server(), "-t", "-c", tmp_path / "nats.conf"],
            env={"POD_NAME": "nats-0"}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
