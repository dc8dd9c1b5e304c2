"""Whoever speaks NATS can follow a swarm: these clients know nothing of this project's code."""

from __future__ import annotations

import json
import queue
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from libs.contracts.thoughts import EventType
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
JS = HERE / "js"
BIN = Path(sys.executable).parent
THOUGHT_KEYS = {
    "phase", "thought_count", "persona", "context_event_count", "thinking", "source", "model",
    "finish_reason", "usage", "latency_ms", "error",
}  # fmt: skip


class Lines:
    """What a process prints, line by line, waited for."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._thread.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._lines.put(line.rstrip("\n"))

    def take(self, count: int, within: float = 30.0) -> list[str]:
        return [self._lines.get(timeout=within) for _ in range(count)]


@contextmanager
def started(*command: str | Path, cwd: Path = HERE) -> Iterator[Lines]:
    process = subprocess.Popen(
        [str(part) for part in command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield Lines(process)
    finally:
        process.kill()
        process.wait()


def is_run_of(stored: Sequence[str], received: Sequence[str]) -> bool:
    """Whether what was received is what is stored, from some place on, in order and without a gap."""
    size = len(received)
    return any(list(stored[at : at + size]) == list(received) for at in range(len(stored) - size + 1))


@pytest.fixture(scope="module")
def node() -> Path:
    """Node with the client's packages installed as its lock file pins them."""
    npm = [str(BIN / "npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    done = subprocess.run(npm, cwd=JS, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return BIN / "node"


@pytest.mark.fact("3.6")
@pytest.mark.fact("3.14")
def test_a_javascript_client_receives_each_event_as_it_is_stored(running: Swarm, node: Path) -> None:
    """`@nats-io/transport-node` gets the same events, in the order of the stream, on documented subjects."""
    with started(node, "subscriber.mjs", running.nats_url, "22", cwd=JS) as lines:
        assert json.loads(lines.take(1)[0]) == {"subscribed": True}
        messages = [json.loads(line) for line in lines.take(22)]
    events = [message["event"] for message in messages]
    for message, event in zip(messages, events, strict=True):
        assert message["subject"] == f"perpetua.events.swarm-core.root-thinker.{event['event_type']}"
        assert set(event) == {"id", "event_type", "persona_id", "swarm_id", "timestamp", "payload"}
        assert event["event_type"] in set(EventType)
        assert event["timestamp"].endswith("Z")
    thoughts = [event["payload"] for event in events if "thinking" in event["payload"]]
    assert len(thoughts) == 16, "eight thoughts make eleven events"
    assert all(payload.keys() == THOUGHT_KEYS for payload in thoughts)
    counts = [payload["thought_count"] for payload in thoughts]
    assert counts == list(range(counts[0], counts[0] + 16))
    received = [event["id"] for event in events]
    eventually_sync(lambda: is_run_of([event["id"] for event in running.events()], received), 30)


@pytest.mark.fact("2.6")
def test_an_id_that_is_no_nats_token_is_encoded_in_subjects_only(running: Swarm, node: Path) -> None:
    odd = "a.b > *ü"
    with started(node, "subscriber.mjs", running.nats_url, "1000", cwd=JS) as lines:
        lines.take(1)
        body = {"persona_id": odd, "name": "Odd", "role": "r", "charter": "c", "swarm_id": "_"}
        running.post("/v1/swarm/personas", body)
        messages = iter(lambda: json.loads(lines.take(1)[0]), None)
        message = next(m for m in messages if m["event"]["persona_id"] == odd)
    assert message["subject"] == "perpetua.events.=5F.a=2Eb=20=3E=20=2A=C3=BC.persona_spawned"
    assert message["event"]["swarm_id"] == "_"


def test_the_readme_s_lines_of_nats_py_follow_the_thoughts(running: Swarm) -> None:
    """The program as it stands there, but for the address, prints each thought of the stream."""
    written = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(written) == 1
    program = written[0].replace("nats://127.0.0.1:4222", running.nats_url)
    with started(sys.executable, "-u", "-c", program) as lines:
        printed = lines.take(6)

    def stored() -> list[str]:
        return [
            f"{event['persona_id']} {event['payload']['thought_count']} {event['payload']['thinking']}"
            for event in running.events()
            if event["event_type"] == "thought_generated"
        ]

    eventually_sync(lambda: is_run_of(stored(), printed), 30)
