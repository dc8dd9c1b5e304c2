"""The README's section on compose, followed in a fresh clone, which is up for all tests of this folder."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.bus.connection import connect
from libs.bus.presence import list_present
from libs.bus.telemetry import NoTelemetry
from libs.contracts.presence import PresenceRecord
from libs.settings.broker import BrokerSettings
from tests.support import containers
from tests.support.compose import Compose, clone
from tests.support.eventually import eventually_sync
from tests.support.ports import free_port

SETTINGS = {
    "CODETETHER_COGNITION_LOOP_INTERVAL_MS": "500",
    "CODETETHER_COGNITION_THINKER_BASE_URL": "",
}


def written(folder: Path) -> list[str]:
    """The commands of the README's section, as its reader types them."""
    section = (folder / "README.md").read_text().partition("## With Docker")[2].partition("\n## ")[0]
    lines = section.partition("```sh\n")[2].partition("```")[0].strip().splitlines()
    assert all(line.startswith("docker compose ") for line in lines)
    return lines


class System(Compose):
    """The compose file, up, its broker published too."""

    def __init__(self, folder: Path) -> None:
        self.nats_port = free_port(containers.HOST)
        super().__init__(
            f"perpetua-test-{os.getpid()}",
            folder,
            settings=SETTINGS | {"PERPETUA_NATS_PORT": str(self.nats_port)},
            files=("docker-compose.yml", "deploy/compose.nats.yml"),
        )
        self.up, self.scale, self.down = written(folder)

    def key(self, user: str) -> Path:
        """The seed of a user, out of the volume."""
        return self.volume("keys") / f"{user}.nk"

    async def present(self) -> list[PresenceRecord]:
        broker = BrokerSettings(
            user="admin", url=f"nats://{containers.HOST}:{self.nats_port}", nkey_file=str(self.key("admin"))
        )
        async with connect(broker, "test", NoTelemetry()) as bus:
            return [record for record in await list_present(bus) if record.ready]

    def until_thinking(self) -> None:
        eventually_sync(lambda: self.get("/v1/cognition/status")["running"], 90, "a loop that runs")
        eventually_sync(lambda: self.get("/v1/cognition/events")["events"], 60, "events")


@pytest.fixture(scope="session")
def fresh_clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone, and the base images that its Dockerfile and compose file name."""
    containers.make_bases()
    for target in containers.TARGETS:  # what an earlier run built is no image of this clone
        name = f"localhost/perpetua-{target}:{containers.VERSION}"
        subprocess.run(
            ["podman", "untag", name, name], env=containers.environment(), capture_output=True, check=False
        )
    return clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="session")
def system(fresh_clone: Path) -> Iterator[System]:
    """What the README's first command brings up; it builds the images."""
    running = System(fresh_clone)
    try:
        running.type(running.up)
        running.until_thinking()
        yield running
    finally:
        running.close()
