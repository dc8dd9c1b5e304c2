"""Work that ends what thinks of it, messages that nobody can read, a model that hangs: none harms others."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nats
import pytest

from libs.contracts import subjects
from libs.contracts.limits import MAX_DELIVER
from libs.contracts.permissions import SERVICES, permissions
from libs.contracts.streams import StreamBounds, specs
from libs.contracts.tokens import shard_of
from tests.support.broker import Broker
from tests.support.endpoint import Endpoint, endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm
from tests.unit.test_permission_table import matches

INNOCENT = [f"p{n}" for n in range(24)]
POISON = "poison"
SETTINGS = {"LOOP_INTERVAL_MS": "200", "MAX_EVENTS": "20000"}
HANGS_MS = 6000
"""When a model counts as hanging: a machine that stands still for some seconds is none."""


def create(running: Swarm, name: str, charter: str = "c") -> None:
    body = {"persona_id": name, "name": name, "role": "r", "charter": charter, "swarm_id": "s"}
    running.post("/v1/swarm/personas", body)


def thoughts(running: Swarm, persona: str) -> list[dict[str, Any]]:
    return [
        e["payload"] for e in running.events() if e["persona_id"] == persona and "thinking" in e["payload"]
    ]


def is_first(body: dict[str, Any], charter: str) -> bool:
    """Whether a model is asked for the first thought of the persona with this charter."""
    prompt = body["messages"][1]["content"]
    return charter in prompt and re.search(r"^thought_count: 1$", prompt, re.MULTILINE) is not None


def count(running: Swarm, persona: str) -> int:
    return int(running.get(f"/v1/swarm/personas/{persona}")["thought_count"])


@contextmanager
def thinking(model: Endpoint, *arguments: str, **more: str) -> Iterator[Swarm]:
    settings = SETTINGS | {"THINKER_BASE_URL": model.base_url} | more
    with swarm("--quiet", "--thinkers", "2", *arguments, settings=settings) as running:
        for name in INNOCENT:
            create(running, name)
        eventually_sync(lambda: all(count(running, name) > 0 for name in INNOCENT), 60, "everybody thinking")
        yield running


@pytest.mark.long
@pytest.mark.fact("3.11")
@pytest.mark.timeout(240)
def test_a_thought_that_ends_its_thinker_ends_as_a_dead_letter_and_harms_nobody() -> None:
    """Four thinkers end over it; then it is the declared fallback, and its persona thinks the next one."""
    deadly = threading.Event()
    ended: list[int] = []

    def reply(body: dict[str, Any]) -> str:
        if (
            deadly.is_set()
            and "deadly charter" in json.dumps(body)
            and "thought_count: 1\\n" in json.dumps(body)
        ):
            ended.append(model.caller())
            os.kill(ended[-1], signal.SIGKILL)
        return "A calm signal. One doubt remains."

    with endpoint(reply) as model, thinking(model) as running:
        deadly.set()
        create(running, POISON, "deadly charter")
        eventually_sync(lambda: count(running, POISON) >= 3, 120, "the persona going on after it")
        first, second, *_ = thoughts(running, POISON)
        assert len(ended) == MAX_DELIVER
        assert (first["thought_count"], first["source"]) == (1, "fallback")
        assert f"given up after {MAX_DELIVER} deliveries" in first["error"]
        assert (second["thought_count"], second["error"]) == (2, None)
        before = {name: count(running, name) for name in INNOCENT}
        eventually_sync(lambda: all(count(running, n) > before[n] for n in INNOCENT), 30, "all going on")
        for name in INNOCENT:
            own = thoughts(running, name)
            assert [t["thought_count"] for t in own] == list(range(1, len(own) + 1))
            assert [t["error"] for t in own if t["error"]] == [], name
        assert_letter_can_be_read(running, deadly)


def assert_letter_can_be_read(running: Swarm, deadly: threading.Event) -> None:
    (letter,) = json.loads(running.cli("deadletters", "list", "--json").stdout)
    assert letter["thoughts"] == [{"persona_id": POISON, "swarm_id": "s", "thought_count": 1}]
    number = str(letter["number"])
    assert f"{POISON} #1" in running.cli("deadletters", "list").stdout
    assert "deadly charter" in running.cli("deadletters", "show", number).stdout
    again = running.cli("deadletters", "retry", number)
    assert again.returncode == 1
    assert "ends what thinks of it again (signal 9)" in again.stderr
    deadly.clear()
    again = running.cli("deadletters", "retry", number, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["thoughts"][0]["answer"]["text"] == "A calm signal. One doubt remains."
    missing = running.cli("deadletters", "show", "999")
    assert (missing.returncode, len(missing.stderr.splitlines())) == (1, 1)


@pytest.mark.fact("3.11")
@pytest.mark.timeout(180)
def test_a_model_that_hangs_over_one_thought_costs_its_persona_that_thought() -> None:
    released = threading.Event()

    def reply(body: dict[str, Any]) -> str:
        if is_first(body, "hanging charter"):
            released.wait(120)
        return "A calm signal. One doubt remains."

    with endpoint(reply) as model, thinking(model, THINKER_TIMEOUT_MS=str(HANGS_MS)) as running:
        create(running, POISON, "hanging charter")
        before = {name: count(running, name) for name in INNOCENT}
        eventually_sync(lambda: count(running, POISON) >= 3, 90, "the persona going on")
        released.set()
        first = thoughts(running, POISON)[0]
        assert (first["thought_count"], first["source"]) == (1, "fallback")
        assert first["error"]
        for name in INNOCENT:
            assert count(running, name) > before[name], "nobody waits for another's thought"
            assert [t["error"] for t in thoughts(running, name) if t["error"]] == []


SENT = subjects.inbox(shard_of("p1"), "p1")
SUBJECTS = [
    "think.3", "think.63", "j.3", "j.7", "j.registry", SENT, "perpetua.captures.p1.1", "perpetua.dead.THINK",
    "perpetua.grant.3", "perpetua.result.3", "perpetua.thinking.3", "perpetua.counters.3", "perpetua.held.3",
    "perpetua.spend.3", "perpetua.accounts.3", "perpetua.roll_up.3", "perpetua.roll_up_credits.3",
    "perpetua.summaries", "perpetua.inbox.p1", "perpetua.inbox_swarm.s", "perpetua.crashed.scheduler.x",
    "perpetua.position", "perpetua.halted", "perpetua.waiting", "perpetua.scheduler.status",
    "perpetua.registry.create", "perpetua.registry.import", "perpetua.registry.reap",
    "perpetua.registry.dependencies", "perpetua.registry.persona", "perpetua.registry.personas",
    "perpetua.registry.lineage", "perpetua.registry.start", "perpetua.registry.stop",
    "perpetua.registry.status", "$KV.leases.scheduler.stranger", "$KV.leases.registry.stranger",
    "$KV.leases.compressor.stranger", "$KV.proposals.stranger", "$KV.personas.stranger",
    "$KV.control.stranger", "$KV.posts.stranger", "$KV.sent.persona.p1.stranger",
    "$KV.sent.swarm.s.stranger", "$KV.checkpoints.63.stranger",
    "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.THINK.thinkers",
]  # fmt: skip
"""Every subject that anything of ours reads; in buckets a key of the stranger's own."""

ENDPOINTS = (
    subjects.CREATE, subjects.IMPORT, subjects.REAP, subjects.DEPENDENCIES, subjects.PERSONA,
    subjects.PERSONAS, subjects.LINEAGE, subjects.START, subjects.STOP, subjects.STATUS,
)  # fmt: skip
"""Of the registry."""

PUBLIC = ["perpetua.in.events.s.p1.thought_generated", "perpetua.in.snapshots.s.p1"]
"""Where only the compressor publishes: whoever else does may push events out of their place."""

GARBAGE = [
    b"", b"garbage", b"\xff\xfe\x00", b'{"service": "\xff", "reason": "\xff"}', b"[]", b"null", b'{"id": 7',
    b"0" * 5000,
]  # fmt: skip


def test_every_subject_that_is_read_gets_messages_that_nobody_can_read() -> None:
    read = {pattern for service in SERVICES for pattern in permissions()[service].subscribe}
    read |= {spec.config["subjects"][0] for spec in specs(StreamBounds(max_events=1, max_snapshots=1))}
    read |= {subjects.registry(endpoint) for endpoint in ENDPOINTS}
    of_the_library = {pattern for pattern in read if pattern.startswith(("_INBOX", "$SRV"))}
    ours, given = read - of_the_library - {subjects.EVENTS}, (*SUBJECTS, *PUBLIC)
    assert [pattern for pattern in ours if not any(matches(pattern, one) for one in given)] == []


async def publish_garbage(url: str, to: list[str]) -> None:
    client = await nats.connect(url)
    for subject in to:
        for body in GARBAGE:
            await client.publish(subject, body, reply=client.new_inbox())
    await client.flush()
    await client.close()


@pytest.mark.fact("3.3")
@pytest.mark.timeout(180)
async def test_messages_that_nobody_can_read_are_set_aside_and_stop_nothing(broker: Broker) -> None:
    """On a broker that lets anybody publish anything: with users of its own it would let no stranger."""
    with swarm("--quiet", "--thinkers", "2", "--nats-url", broker.url, settings=SETTINGS) as running:
        for name in INNOCENT:
            create(running, name)
        eventually_sync(lambda: all(count(running, name) > 0 for name in INNOCENT), 60, "everybody thinking")
        await publish_garbage(broker.url, SUBJECTS)
        assert_all_go_on(running)
        running.post("/v1/cognition/stop")
        await publish_garbage(broker.url, PUBLIC)
        for row in running.ps():  # everything that is read at a start is read anew
            os.kill(row["pid"], signal.SIGKILL)
        broker.kill()
        broker.start()
        eventually_sync(lambda: running.http("POST", "/v1/cognition/start").status == 200, 60, "all again")
        assert_all_go_on(running)
        rows = running.ps()
        assert {row["service"]: row["restarts"] for row in rows} == dict.fromkeys(
            ("registry", "scheduler", "thinker", "compressor", "gateway"), 1
        )
        letters = json.loads(running.cli("deadletters", "list", "--json").stdout)
        assert {"think.3", "think.63", "j.3", "j.7", "j.registry", SENT} <= {
            one["subject"] for one in letters
        }
        for subject in ("think.3", SENT):
            theirs = next(one for one in letters if one["subject"] == subject)
            again = running.cli("deadletters", "retry", str(theirs["number"]))
            assert f"delivered to {subject} once more" in again.stdout
        journal = next(one for one in letters if one["subject"] == "j.3")
        refused = running.cli("deadletters", "retry", str(journal["number"]))
        assert (refused.returncode, "j.3 is a journal" in refused.stderr) == (1, True)


def assert_all_go_on(running: Swarm) -> None:
    def counts() -> dict[str, int]:
        return {name: count(running, name) for name in INNOCENT}

    before = eventually_sync(counts, 60, "counts")
    eventually_sync(lambda: all(n > before[name] + 2 for name, n in counts().items()), 60, "all going on")
    for name in INNOCENT:
        numbers = [t["thought_count"] for t in thoughts(running, name)]
        assert numbers == list(range(1, len(numbers) + 1)), name
    assert running.get("/v1/cognition/status")["running"]
    assert running.get("/v1/cognition/snapshots?limit=1000")["snapshots"]
    assert running.http("GET", "/v1/cognition/snapshots/latest").status == 200
    created = running.http(
        "POST", "/v1/swarm/personas", {"name": "n", "role": "r", "charter": "c", "swarm_id": "s"}
    )
    assert created.status == 200, created.body
