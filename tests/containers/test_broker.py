"""The services on a broker that runs in a container, started by testcontainers over podman's Docker API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import containers
from tests.support.eventually import eventually_sync
from tests.support.swarm import swarm

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]

CONFIG = """
port: 4222
max_payload: 8MB
feature_flags { js_ack_fc_v2: false }
jetstream { store_dir: "/data" }
"""


@pytest.fixture
def contained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a broker in a container."""
    containers.make_bases()
    with containers.socket(tmp_path) as address:
        for name, value in {
            "DOCKER_HOST": address,
            "TESTCONTAINERS_RYUK_DISABLED": "true",
            "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
            "TESTCONTAINERS_HOST_OVERRIDE": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        from testcontainers.core.container import DockerContainer  # reads the environment when it is loaded

        (tmp_path / "nats.conf").write_text(CONFIG)
        container = DockerContainer(f"localhost/{containers.NATS}").with_exposed_ports(4222)
        container.with_volume_mapping(str(tmp_path / "nats.conf"), "/nats.conf", "ro").with_command(
            "-c /nats.conf"
        )
        with container:
            yield f"nats://127.0.0.1:{container.get_exposed_port(4222)}"


def test_a_swarm_thinks_on_a_broker_in_a_container(contained: str) -> None:
    with swarm("--nats-url", contained, settings={"LOOP_INTERVAL_MS": "200"}) as running:
        (persona,) = running.get("/v1/swarm/personas")["personas"]
        path = f"/v1/swarm/personas/{persona['identity']['id']}"
        eventually_sync(lambda: running.get(path)["thought_count"] >= 5, 60, "thoughts")
