"""docker-compose.yml, run for real: what its reader is told to expect of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from socket import create_connection
from typing import Any

import nats
import pytest

from libs.bus.connection import connect
from libs.bus.presence import list_present
from libs.bus.telemetry import NoTelemetry
from libs.contracts.presence import PresenceRecord
from libs.settings.broker import BrokerSettings
from libs.supervisor.broker import free_port
from tests.support.containers import ROOT, Compose, environment, inspected, podman
from tests.support.eventually import eventually, eventually_sync
from tests.support.http import fetch

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

HOST = "127.0.0.1"
PROBE = ("python", "-m", "libs.runtime.probe")
SETTINGS = {
    "CODETETHER_COGNITION_LOOP_INTERVAL_MS": "500",
    "CODETETHER_COGNITION_THINKER_BASE_URL": "",
}
SERVICES = ("registry", "scheduler", "compressor", "thinker", "gateway")


def written() -> list[list[str]]:
    """The arguments of each `docker compose` in the README's section, as its reader types them."""
    section = (ROOT / "README.md").read_text().partition("## With Docker")[2].partition("\n## ")[0]
    block = section.partition("```sh\n")[2].partition("```")[0]
    return [line.removeprefix("docker compose ").split() for line in block.strip().splitlines()]


UP, SCALE, DOWN = written()


class System(Compose):
    """The compose file, up."""

    def __init__(self) -> None:
        self.nats_port = free_port(HOST)
        super().__init__(
            f"perpetua-test-{os.getpid()}",
            settings=SETTINGS | {"PERPETUA_NATS_PORT": str(self.nats_port)},
            files=("deploy/compose.nats.yml",),
        )

    def http(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        answer = fetch(self.url + path, method, body, timeout=15)
        return answer.status, answer.json if answer.body else None

    def get(self, path: str) -> Any:
        status, body = self.http("GET", path)
        assert status == 200, body
        return body

    def post(self, path: str, body: object = None) -> Any:
        status, answer = self.http("POST", path, body)
        assert status == 200, answer
        return answer

    def key(self, user: str) -> Path:
        """The seed of a user, out of the volume."""
        mount = podman("volume", "inspect", "--format", "{{.Mountpoint}}", f"{self.name}_keys").strip()
        return Path(mount) / f"{user}.nk"

    async def present(self) -> list[PresenceRecord]:
        broker = BrokerSettings(
            user="admin", url=f"nats://{HOST}:{self.nats_port}", nkey_file=str(self.key("admin"))
        )
        async with connect(broker, "test", NoTelemetry()) as bus:
            return [record for record in await list_present(bus) if record.ready]

    def until_thinking(self) -> None:
        eventually_sync(lambda: self.get("/v1/cognition/status")["running"], 90, "a loop that runs")
        eventually_sync(lambda: self.get("/v1/cognition/events")["events"], 60, "events")


@pytest.fixture(scope="module")
def system(images: None) -> Iterator[System]:
    running = System()
    try:
        running(*UP)
        running.until_thinking()
        yield running
    finally:
        running.close()


def test_every_service_is_up_and_its_health_check_says_so(system: System) -> None:
    for service in SERVICES:
        container = system.container(service)
        eventually_sync(partial(podman, "exec", container, *PROBE), 30, f"a healthy {service}")
        podman("healthcheck", "run", container)


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
    without = podman_compose_config()
    assert {name for name, spec in without["services"].items() if spec.get("ports")} == {"gateway", "grafana"}


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


def stranger(port: int) -> str:
    """What the broker says to somebody without a key."""
    with create_connection((HOST, port), timeout=10) as connection:
        connection.recv(65536)
        connection.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        return connection.recv(65536).decode()


async def test_an_allowed_user_sees_thoughts_from_outside_and_a_stranger_is_refused(system: System) -> None:
    url = f"nats://{HOST}:{system.nats_port}"
    client = await nats.connect(url, nkeys_seed=str(system.key("reader")))
    thoughts = await client.subscribe("perpetua.events.*.*.thought_generated")
    event = json.loads((await thoughts.next_msg(timeout=30)).data)
    assert event["payload"]["thought_count"] >= 1
    await client.close()
    assert "Authorization Violation" in stranger(system.nats_port)


async def test_thinkers_are_scaled_to_three_and_one_may_be_killed(system: System) -> None:
    system(*SCALE)

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
    system(*DOWN)
    assert not podman("ps", "-aq", "--filter", f"name={system.name}_").strip()
    system(*UP)
    system.until_thinking()
    after = {p["identity"]["id"]: p["thought_count"] for p in system.get("/v1/swarm/personas")["personas"]}
    assert after.keys() == before.keys()
    assert all(after[name] >= count for name, count in before.items())
    assert system.key("reader").read_bytes() == seed


def podman_compose_config() -> dict[str, Any]:
    import yaml

    text = Compose("x")("config")
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def test_the_compose_file_passes_every_setting_of_the_reference_on() -> None:
    from libs.settings.cognition import cognition_reader, read_cognition

    reader = cognition_reader({})
    read_cognition(reader)
    text = (ROOT / "docker-compose.yml").read_text()
    assert [d.name for d in reader.described if f"  {d.name}:\n" not in text] == []
    assert environment()["CONTAINERS_CONF"]
