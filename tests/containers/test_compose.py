"""docker-compose.yml, run for real: what its reader is told to expect of it."""

from __future__ import annotations

import json
import re
from functools import partial
from socket import create_connection
from typing import Any

import nats
import pytest

from tests.containers.conftest import System
from tests.support.containers import HOST, inspected, podman
from tests.support.eventually import eventually, eventually_sync
from tests.support.http import fetch

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

PROBE = ("python", "-m", "libs.runtime.probe")
SERVICES = ("registry", "scheduler", "compressor", "thinker", "gateway")


def test_every_service_is_up_and_its_health_check_says_so(system: System) -> None:
    for service in SERVICES:
        container = system.container(service)
        eventually_sync(partial(podman, "exec", container, *PROBE), 60, f"a healthy {service}")
        eventually_sync(partial(is_well, container), 60, f"{service} found healthy")


def is_well(container: str) -> bool:
    """Whether the image's health check says so; `podman` fails where it does not."""
    podman("healthcheck", "run", container)
    return True


def test_a_container_sees_the_seed_of_its_own_service_and_no_key_of_a_certificate(system: System) -> None:
    for service in SERVICES:
        found = podman("exec", system.container(service), "find", "/var/lib/perpetua", "-type", "f").split()
        seen = [path for path in found if path.endswith((".nk", ".key", ".old"))]
        assert seen == [f"/var/lib/perpetua/keys/{service}.nk"], service


def test_containers_have_no_rights_and_nowhere_to_write(system: System) -> None:
    for service in (*SERVICES, "nats"):
        found = inspected(system.container(service))
        assert found["HostConfig"]["ReadonlyRootfs"], service
        assert found["EffectiveCaps"] in (None, []), service
        user = podman("exec", system.container(service), "id", "-u") if service != "nats" else "10001"
        assert user.strip() == "10001"


def test_only_the_gateway_grafana_and_here_the_broker_are_published_on_loopback(system: System) -> None:
    published = podman("ps", "--filter", f"name={system.name}_", "--format", "{{.Names}} {{.Ports}}")
    open_ = {line.split()[0].split("_")[1]: line.split()[1:] for line in published.strip().splitlines()}
    assert {name for name, ports in open_.items() if ports} == {"gateway", "grafana", "nats"}
    assert all(re.match(rf"{HOST}:\d+->", port) for ports in open_.values() for port in ports if port)


def test_the_example_requests_are_answered(system: System) -> None:
    status = system.post(
        "/v1/cognition/start",
        {"loop_interval_ms": 500, "seed_persona": {
            "name": "root-orchestrator", "role": "orchestrator", "charter": "Monitor",
            "swarm_id": "swarm-alpha",
        }},
    )  # fmt: skip
    assert status["running"] is True
    made = system.post(
        "/v1/swarm/personas",
        {"persona_id": "alpha", "name": "persona-alpha", "role": "architect", "charter": "Coherence",
         "swarm_id": "swarm-alpha"},
    )  # fmt: skip
    assert made["identity"]["id"] == "alpha"
    child = system.post(
        "/v1/swarm/personas/alpha/spawn", {"name": "reviewer", "role": "reviewer", "charter": "Challenge"}
    )
    assert child["identity"]["depth"] == 1
    assert "alpha" in system.get("/v1/swarm/lineage")["roots"]
    reaped = system.post(
        "/v1/swarm/personas/alpha/reap", {"cascade": True, "reason": "resource_budget_reclaim"}
    )
    assert reaped["count"] == 2


def test_the_command_line_has_a_container_of_its_own_while_it_runs(system: System) -> None:
    """It finds the broker and the gateway by itself, and has what `replay` and `deadletters retry` need."""
    once = ("--profile", "cli", "run", "--rm", "--no-deps", "-T")  # Docker knows the profile by the name

    def answered(*command: str) -> Any:
        said = system(*once, "cli", *command, "--json")
        return json.loads(said[re.search(r"(?m)^[\[{]", said).start() :])  # type: ignore[union-attr]

    def everybody() -> bool:
        return {row["service"] for row in answered("ps") if row["ready"]} == set(SERVICES)

    eventually_sync(everybody, 60, "everybody, ready")
    assert answered("status")["running"]
    assert answered("deadletters", "list") == []
    modules = "import services.thinker.replay, aiohttp, ctranslate2"
    system(*once, "--entrypoint", "python", "cli", "-c", modules)


def stranger(port: int) -> str:
    """What the broker says to somebody without a key."""
    with create_connection((HOST, port), timeout=60) as connection:
        connection.recv(65536)
        connection.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        return connection.recv(65536).decode()


async def test_an_allowed_user_sees_thoughts_from_outside_and_a_stranger_is_refused(system: System) -> None:
    url = f"nats://{HOST}:{system.nats_port}"
    client = await nats.connect(url, nkeys_seed=str(system.key("reader")))
    thoughts = await client.subscribe("perpetua.events.*.*.thought_generated")
    event = json.loads((await thoughts.next_msg(timeout=60)).data)
    assert event["payload"]["thought_count"] >= 1
    await client.close()
    assert "Authorization Violation" in stranger(system.nats_port)


async def test_thinkers_are_scaled_to_three_and_one_may_be_killed(system: System) -> None:
    system.type(system.scale)

    async def thinkers() -> set[str]:
        return {record.instance for record in await system.present() if record.service == "thinker"}

    async def three() -> bool:
        return len(await thinkers()) == 3

    await eventually(three, 60, "three thinkers")
    podman("kill", system.container("thinker", 2))
    system.post(
        "/v1/swarm/personas",
        {"persona_id": "steady", "name": "s", "role": "r", "charter": "c", "swarm_id": "x"},
    )
    eventually_sync(lambda: system.get("/v1/swarm/personas/steady")["thought_count"] >= 6, 60, "thoughts")
    counts = [
        entry["event"]["payload"]["thought_count"]
        for entry in system.get("/v1/cognition/events?limit=1000")["events"]
        if entry["event"]["persona_id"] == "steady" and "thinking" in entry["event"]["payload"]
    ]
    assert counts == list(range(1, len(counts) + 1))


def test_prometheus_scrapes_every_replica(system: System) -> None:
    def healthy() -> bool:
        answer = fetch(f"http://{system.address('prometheus')}:9090/api/v1/targets")
        targets = answer.json["data"]["activeTargets"]
        up = {t["labels"].get("service") for t in targets if t["health"] == "up"}
        return set(SERVICES) <= up

    eventually_sync(healthy, 60, "every service scraped")


def test_dashboards_are_provisioned(system: System) -> None:
    """Grafana's stand-in serves its mounts; that a Grafana takes them is not shown here."""
    assert fetch(f"http://{HOST}:{system.grafana_port}/swarm.json").json["panels"]


def test_down_and_up_keep_the_personas_and_the_keys(system: System) -> None:
    """Runs last: it ends the containers of the others."""
    before = {p["identity"]["id"]: p["thought_count"] for p in system.get("/v1/swarm/personas")["personas"]}
    seed = system.key("reader").read_bytes()
    system.end_scaled()
    assert "SIGKILL" not in system.type(system.down), "a process did not end in its time"
    assert not podman("ps", "-aq", "--filter", f"name={system.name}_").strip()
    system.type(system.up)
    system.until_thinking()
    after = {p["identity"]["id"]: p["thought_count"] for p in system.get("/v1/swarm/personas")["personas"]}
    assert after.keys() == before.keys()
    assert all(after[name] >= count for name, count in before.items())
    assert system.key("reader").read_bytes() == seed
