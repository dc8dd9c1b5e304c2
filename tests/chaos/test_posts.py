"""Of a post to a swarm exactly so many answer as may, whichever scheduler is killed meanwhile [A5]."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from libs.contracts.inbox import copy_id
from tests.chaos.test_schedulers import pid, shared
from tests.support.endpoint import Endpoint, endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm
from tests.unit.messages import decision

NAMES = [f"p{number:02}" for number in range(12)]
MOST = 2
POSTS = 4
SETTINGS = {"LOOP_INTERVAL_MS": "200", "MAX_EVENTS": "100000"}

pytestmark = pytest.mark.long


def reply(request: dict[str, Any]) -> str:
    """Of those who are asked about a post every second one declines, each after a while."""
    told = str(request["messages"][-1]["content"])
    if "messages to the persona" not in told:
        return f"Thought {hash(told)}."
    time.sleep(0.2 + random.random() / 2)
    number = next(number for number, name in enumerate(NAMES) if f"id: {name}\n" in told)
    return decision(number % 2 == 1, f"So says {NAMES[number]}." if number % 2 else "")


@pytest.fixture
def model() -> Iterator[Endpoint]:
    with endpoint(reply) as running:
        yield running


@pytest.fixture
def running(model: Endpoint) -> Iterator[Swarm]:
    settings = SETTINGS | {"THINKER_BASE_URL": model.base_url}
    with swarm("--quiet", "--schedulers", "2", settings=settings) as brought_up:
        for name in NAMES:
            body = {"persona_id": name, "name": name, "role": "r", "charter": "c", "swarm_id": "posted"}
            brought_up.post("/v1/swarm/personas", body)
        yield brought_up


def handled(running: Swarm, post_id: str) -> dict[str, list[str | None]]:
    """By persona, what each thought that handled its copy of a post has responded."""
    found: dict[str, list[str | None]] = {}
    for event in running.events():
        if event["event_type"] != "inbox_handled":
            continue
        name, payload = event["persona_id"], event["payload"]
        if any(
            one["id"] == copy_id(post_id, name) and one["outcome"] == "handled" for one in payload["items"]
        ):
            found.setdefault(name, []).append(payload["response"])
    return found


@pytest.mark.fact("A5")
@pytest.mark.timeout(240)
def test_schedulers_that_are_killed_cost_no_answer_and_add_none(running: Swarm) -> None:
    rng = random.Random(5)
    for number in range(POSTS):
        eventually_sync(lambda: shared(running), 30, "shards shared")
        body = {"content": f"Who knows, {number}?", "answers_most": MOST, "id": f"post-{number}"}
        running.post("/v1/swarm/swarms/posted/inbox", body)
        time.sleep(rng.uniform(0.1, 1.5))
        os.kill(pid(running, f"scheduler-{number % 2 + 1}"), signal.SIGKILL)

        def all_decided(post_id: str = f"post-{number}") -> dict[str, list[str | None]] | None:
            found = handled(running, post_id)
            return found if len(found) == len(NAMES) else None

        decided = eventually_sync(all_decided, 60, f"post {number} handled by everybody") or {}
        assert all(len(thoughts) == 1 for thoughts in decided.values()), "nobody handles it twice"
        said = [name for name, thoughts in decided.items() if thoughts[0] is not None]
        assert len(said) == MOST, f"post {number}: {said}"
