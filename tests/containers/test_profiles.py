"""The profiles `ollama` and `gpu`, run as far as a machine without either allows."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import containers
from tests.support.compose import Compose, clone
from tests.support.containers import VERSION, inspected, podman
from tests.support.eventually import eventually_sync
from tests.support.http import fetch
from tests.support.ollama import SAYS

pytestmark = [
    pytest.mark.containers,
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("system"),
]

NVIDIA = Path("/var/run/cdi/perpetua-test.json")


def up(name: str, folder: Path, settings: dict[str, str]) -> Compose:
    fast = {"CODETETHER_COGNITION_LOOP_INTERVAL_MS": "500"}
    return Compose(f"perpetua-{name}-{os.getpid()}", folder, settings=fast | settings)


def thoughts(system: Compose, source: str) -> list[dict[str, Any]]:
    events = [entry["event"] for entry in system.get("/v1/cognition/events?limit=1000")["events"]]
    return [event["payload"] for event in events if event["payload"].get("source") == source]


@pytest.fixture
def ollama(tmp_path: Path) -> Iterator[Compose]:
    """The compose file with what deploy/example.env says of Ollama."""
    containers.make_ollama_base()
    folder = clone(tmp_path)
    lines = re.findall(r"(?m)^#(\w+)=(.*ollama.*|qwen2.*)$", (folder / "deploy/example.env").read_text())
    running = up("ollama", folder, dict(lines))
    try:
        yield running
    finally:
        running.close()


def test_with_ollama_beside_it_thoughts_are_of_the_model(ollama: Compose) -> None:
    """The image is a stand-in that serves the API; that the real one does is not shown here."""
    ollama("up", "-d")
    ollama("exec", "ollama", "ollama", "pull", "qwen2.5:3b-instruct")
    eventually_sync(lambda: ollama.http("GET", "/readyz")[0] == 200, 60, "a gateway")
    eventually_sync(lambda: thoughts(ollama, "model"), 90, "thoughts of the model")
    assert {thought["thinking"] for thought in thoughts(ollama, "model") if "thinking" in thought} == {SAYS}


@pytest.fixture
def gpu(tmp_path: Path) -> Iterator[Compose]:
    """The thinker's image under the name of the CUDA one, and a device of NVIDIA's that is none."""
    cuda = f"localhost/perpetua-thinker-cuda:{VERSION}"
    podman("tag", f"localhost/perpetua-thinker:{VERSION}", cuda)
    NVIDIA.parent.mkdir(parents=True, exist_ok=True)
    device = {"name": "all", "containerEdits": {"env": ["GIVEN=all of no GPUs"]}}
    NVIDIA.write_text(json.dumps({"cdiVersion": "0.3.0", "kind": "nvidia.com/gpu", "devices": [device]}))
    running = up("gpu", clone(tmp_path), {"CODETETHER_COGNITION_THINKER_BASE_URL": ""})
    try:
        yield running
    finally:
        running.close()
        NVIDIA.unlink()
        podman("untag", cuda, cuda)  # alone it would take every name away


def test_the_gpu_profile_reserves_the_devices_and_its_thinker_thinks(gpu: Compose) -> None:
    """No GPU and no CUDA image here: what is shown is that the engine is asked for all GPUs."""
    gpu("--profile", "gpu", "up", "-d", "--scale", "thinker=0")
    assert "GIVEN=all of no GPUs" in inspected(gpu.container("thinker-gpu"))["Config"]["Env"]
    eventually_sync(lambda: gpu.http("GET", "/readyz")[0] == 200, 60, "a gateway")
    eventually_sync(lambda: thoughts(gpu, "fallback"), 60, "thoughts")
    eventually_sync(lambda: "thinker" in scraped(gpu), 60, "a thinker that Prometheus knows as one")
    names = podman("ps", "-a", "--filter", f"name={gpu.name}_", "--format", "{{.Names}}").split()
    assert [name for name in names if "thinker" in name] == [gpu.container("thinker-gpu")]


def scraped(system: Compose) -> set[str]:
    """The services that Prometheus reaches."""
    targets = fetch(f"http://{system.address('prometheus')}:9090/api/v1/targets").json["data"][
        "activeTargets"
    ]
    return {target["labels"].get("service") for target in targets if target["health"] == "up"}
