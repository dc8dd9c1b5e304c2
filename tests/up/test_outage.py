"""An outage while a model thinks: nothing is lost, and nothing is paid for twice [3.3]."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter

import pytest

from tests.support.endpoint import Endpoint, endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

OUTAGE_S = 8.0
"""Longer than the broker waits for a word about work that it has given out."""

PERSONAS = 6


def asked(model: Endpoint) -> Counter[tuple[str, int]]:
    """How often the model was asked for each thought."""
    found: Counter[tuple[str, int]] = Counter()
    for request in list(model.requests):
        prompt = request["messages"][1]["content"]
        persona = re.search(r"^id: (.*)$", prompt, re.MULTILINE)
        count = re.search(r"^thought_count: (\d+)$", prompt, re.MULTILINE)
        assert persona is not None, json.dumps(request)
        assert count is not None, json.dumps(request)
        found[persona[1], int(count[1])] += 1
    return found


def thoughts(running: Swarm) -> list[int]:
    return [e["payload"]["thought_count"] for e in running.events() if "thinking" in e["payload"]]


@pytest.mark.fact("3.3")
@pytest.mark.parametrize("away", ["nats killed", "nats stopped", "scheduler stopped, nats killed"])
def test_no_model_call_is_made_twice_because_one_was_away(away: str) -> None:
    """Who thinks could not say so, or could not be heard, for longer than a silent thinker is waited for."""
    with endpoint() as model:
        settings = {"LOOP_INTERVAL_MS": "100", "MAX_EVENTS": "5000", "THINKER_BASE_URL": model.base_url}
        settings |= {"THINKER_TIMEOUT_MS": "60000"}  # no attempt is repeated for being slow
        with swarm("--thinkers", "2", settings=settings) as running:
            for number in range(1, PERSONAS):
                body = {"persona_id": f"p{number}", "name": "P", "role": "r", "charter": "c"}
                running.post("/v1/swarm/personas", body)
            eventually_sync(lambda: len(thoughts(running)) > 3 * PERSONAS)
            model.delay = OUTAGE_S + 4
            before = len(model.requests)
            eventually_sync(lambda: len(model.requests) >= before + PERSONAS, what="a question of each")
            stopped = {one.split()[0]: running.pid(one.split()[0]) for one in away.split(", ")}
            for pid in stopped.values():
                os.kill(pid, signal.SIGSTOP)
            time.sleep(OUTAGE_S)
            if "nats killed" in away:
                os.kill(stopped.pop("nats"), signal.SIGKILL)
            for pid in stopped.values():
                os.kill(pid, signal.SIGCONT)
            model.delay = 0.0
            stored = len(thoughts(running))
            eventually_sync(lambda: len(thoughts(running)) > stored + 4 * PERSONAS, 60)
        repeated = {thought: times for thought, times in asked(model).items() if times > 1}
        assert repeated == {}
