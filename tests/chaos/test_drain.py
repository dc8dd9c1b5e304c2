"""Every process is restarted in turn under load: nothing is lost, missed, or paid for twice."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from libs.supervisor.data_dir import DataDir
from tests.support.endpoint import endpoint
from tests.support.eventually import eventually_sync
from tests.support.sse import Stream
from tests.support.swarm import Swarm, swarm
from tests.up.test_outage import asked

PERSONAS = 40
SETTINGS = {"LOOP_INTERVAL_MS": "200", "MAX_EVENTS": "100000", "THINKER_TIMEOUT_MS": "60000"}
_AGAIN_S = 0.2
TWO_OF_EACH = ("--thinkers", "2", "--schedulers", "2", "--registries", "2", "--compressors", "2")


class Client(threading.Thread):
    """Follows the stream as EventSource does: after each end it names what it saw last."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.seen: list[int] = []
        self.others: list[str] = []
        self.connections = 0
        self.ending = False
        self._url = f"{url}/v1/cognition/stream"

    def run(self) -> None:
        while not self.ending:
            with suppress(OSError, ValueError):
                self._follow()
            time.sleep(_AGAIN_S)

    def _follow(self) -> None:
        last = str(self.seen[-1]) if self.seen else "0"
        with Stream(self._url, {"Last-Event-ID": last}, timeout=5.0) as stream:
            if " 200 " not in stream.head().splitlines()[0]:
                return  # a gateway that has just begun
            self.connections += 1
            for frame in stream.frames():
                if frame.name in ("cognition", "perpetua"):
                    self.seen.append(frame.identifier or 0)
                elif frame.name != ":":
                    self.others.append(frame.name)
                if self.ending:
                    return


def thoughts(running: Swarm) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for event in running.events():
        if "thinking" in event["payload"]:
            found.setdefault(event["persona_id"], []).append(event["payload"]["thought_count"])
    return found


def restart(running: Swarm, instance: str) -> None:
    """End a service as an update does, and wait until its successor is ready."""
    before = row(running, instance)
    os.kill(before["pid"], signal.SIGTERM)
    eventually_sync(
        lambda: row(running, instance)["ready"] and row(running, instance)["pid"] != before["pid"],
        60,
        f"{instance} again",
    )


def row(running: Swarm, instance: str) -> dict[str, Any]:
    return {row["instance"]: row for row in running.ps()}[instance]


@pytest.mark.long
@pytest.mark.fact("3.3")
@pytest.mark.fact("5.3")
@pytest.mark.timeout(300)
def test_a_rolling_restart_loses_nothing_and_asks_no_model_twice() -> None:
    with (
        endpoint() as model,
        swarm("--quiet", *TWO_OF_EACH, settings=SETTINGS | {"THINKER_BASE_URL": model.base_url}) as running,
    ):
        model.delay = 0.5
        for number in range(1, PERSONAS):
            body = {"persona_id": f"p{number}", "name": "P", "role": "r", "charter": "c", "swarm_id": "s"}
            running.post("/v1/swarm/personas", body)
        client = Client(running.url)
        client.start()
        eventually_sync(lambda: len(thoughts(running)) == PERSONAS, 30, "everybody thinking")
        record = DataDir(running.data).read()
        assert record is not None
        for child in record.children:
            if child.service != "nats":
                restart(running, child.instance)
        before = {name: len(counts) for name, counts in thoughts(running).items()}
        eventually_sync(
            lambda: all(len(counts) > before[name] + 1 for name, counts in thoughts(running).items()), 40
        )
        running.post("/v1/cognition/stop")
        last = running.get("/v1/cognition/events?limit=1")["last_sequence"]
        eventually_sync(lambda: client.seen and client.seen[-1] == last, 30, "the client at the end")
        client.ending = True
        assert client.seen == list(range(1, last + 1))
        assert client.others == [], "no `lag`: nothing was missed"
        assert client.connections >= 2
        for name, counts in thoughts(running).items():
            assert counts == list(range(1, len(counts) + 1)), name
        errors = {e["payload"].get("error") for e in running.events() if "thinking" in e["payload"]}
        assert errors == {None}, "every thought is a model's"
        repeated = {thought: times for thought, times in asked(model).items() if times > 1}
        assert repeated == {}
        assert json.loads(running.cli("deadletters", "list", "--json").stdout) == []
        restarts = [r["restarts"] for r in running.ps() if r["service"] != "nats"]
        assert restarts == [1] * len(restarts)
