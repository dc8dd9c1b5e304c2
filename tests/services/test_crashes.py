"""Whichever task crashes: it is logged, counted and published, and ends or restarts its owner [H7]."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import msgspec
import pytest
from nats.aio.msg import Msg
from structlog.testing import capture_logs

from libs.bus.connection import Bus
from libs.bus.errors import PublishRefused
from libs.bus.presence import list_present
from libs.contracts import subjects
from libs.contracts.presence import Crash, PresenceRecord
from libs.runtime.health import HealthServer
from services.scheduler.owner import Fenced
from tests.services.crashing import CRASHING, Boom, Running
from tests.support.broker import Broker
from tests.support.eventually import eventually

EVERYWHERE = {"beat", "connection", "presence", "publisher-deadlines"}
TASKS = {
    "registry": {
        "announce", "broker-metrics", "buckets", "commit", "finish-stops", "follow-journal", "peers",
    },
    "scheduler": {
        "commit", "earshot", "follow-registry", "inboxes", "lost-work", "mailbox", "offers", "peers", "posts",
        "readiness", "shard", "shards", "sweep", "tick", "tidy",
    },
    "thinker": {"captures", "keep", "look-again", "pull", "summaries"},
    "compressor": {"follow-journal", "peers", "publish", "roll-up", "say-position"},
    "gateway": {"accept", "feed", "http", "peers"},
}  # fmt: skip
WITHOUT = {"serve", "stop-signal"}
"""`serve` is the process itself, and `stop-signal` waits for an event that nothing fails."""

EACH = [(service, task) for service, tasks in TASKS.items() for task in sorted(tasks | EVERYWHERE)]
AUTO = {"CODETETHER_COGNITION_THINKER_ENABLED": "true"}


@pytest.fixture(autouse=True)
def leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the last word be said, however long a busy machine stalls: the next one hears it at once."""
    monkeypatch.setattr("libs.bus.presence._LEAVE_WITHIN_S", 30.0)


@asynccontextmanager
async def running(broker: Broker, service: str, **settings: str) -> AsyncIterator[Running]:
    run = Running(service, broker.url, **settings)
    try:
        yield await run.until_ready()
    finally:
        await run.close()


@asynccontextmanager
async def published(bus: Bus) -> AsyncIterator[list[Crash]]:
    heard: list[Crash] = []

    async def receive(message: Msg) -> None:
        heard.append(msgspec.json.decode(message.data, type=Crash))

    async with bus.subscribed(subjects.CRASHED, receive):
        yield heard


@asynccontextmanager
async def said_by(bus: Bus, service: str) -> AsyncIterator[list[PresenceRecord]]:
    """What processes of a service say of themselves: the last word stays for a second only."""
    heard: list[PresenceRecord] = []

    async def receive(message: Msg) -> None:
        if message.data:
            heard.append(msgspec.json.decode(message.data, type=PresenceRecord))

    async with bus.subscribed(subjects.presence_key(service, f"{service}-x"), receive):
        yield heard


async def record_of(bus: Bus, service: str) -> PresenceRecord | None:
    return next((found for found in await list_present(bus) if found.service == service), None)


@pytest.mark.fact("H7")
@pytest.mark.parametrize("service", TASKS)
async def test_these_are_the_tasks_of_each_service_and_none_is_without_a_name(
    bus: Bus, broker: Broker, service: str
) -> None:
    async with running(broker, service, **AUTO) as run:
        wanted = TASKS[service] | EVERYWHERE | WITHOUT
        await eventually(lambda: run.kinds() - {"handle"} == wanted, what=f"{wanted} are {run.kinds()}")
        assert not [name for name in run.tasks() if name.startswith("Task-")]


@pytest.mark.fact("H7")
@pytest.mark.parametrize(("service", "task"), EACH)
async def test_a_crash_is_logged_counted_published_and_ends_the_process(
    bus: Bus, broker: Broker, service: str, task: str
) -> None:
    with capture_logs() as logs:
        async with (
            published(bus) as heard,
            said_by(bus, service) as said_of_itself,
            running(broker, service, **AUTO) as run,
        ):
            # Who has said nothing of itself yet says nothing of its end, either.
            await eventually(lambda: run.can_crash(task) and any(one.ready for one in said_of_itself))
            name = run.crash(task, Boom("nobody foresaw it"))
            assert await asyncio.wait_for(run.ended, 30) == 1
            assert run.tasks() == {}, "cancelled and awaited"
            await eventually(lambda: heard)
    said = [entry for entry in logs if entry["event"] == "task_crashed"]
    assert [(entry["task"], str(entry["exc_info"])) for entry in said] == [(name, "nobody foresaw it")]
    assert run.counted("perpetua_tasks_failed_total", task=task, cause="crash") == 1
    (crash,) = heard
    assert (crash.service, crash.instance, crash.task) == (service, f"{service}-x", name)
    assert crash.error == "Boom: nobody foresaw it"
    assert isinstance(crash.at, datetime)
    if task != "presence":  # which nobody else can renew
        last = said_of_itself[-1]
        assert (last.ready, last.leaving, last.ended) == (False, True, "Boom: nobody foresaw it")


@pytest.mark.fact("H7")
@pytest.mark.parametrize(
    ("service", "task", "error"),
    [
        ("compressor", "say-position", PublishRefused("x", 500, "foreseen")),
        ("compressor", "follow-journal", PublishRefused("x", 500, "foreseen")),
        ("scheduler", "commit", Fenced(5, "another")),
    ],
)
async def test_what_is_foreseen_restarts_its_owner_is_counted_and_ends_nothing(
    bus: Bus, broker: Broker, service: str, task: str, error: Exception
) -> None:
    """Each error is one that the task itself does not try again after, whatever it is just waiting for."""
    with capture_logs() as logs:
        async with published(bus) as heard, running(broker, service) as run:
            await eventually(lambda: run.can_crash(task))
            before = run.tasks()
            name = run.crash(task, error)
            await eventually(lambda: run.tasks().get(name) not in (None, before[name]), what="it again")
            assert not run.ended.done()
            assert run.counted("perpetua_tasks_failed_total", task=task, cause="bus") == 1
    assert heard == []
    assert not [entry for entry in logs if entry["event"] == "task_crashed"]


@pytest.mark.fact("H7")
async def test_a_message_that_crashes_its_receiver_ends_the_process(bus: Bus, broker: Broker) -> None:
    """The client library would go on with the next message."""
    async with published(bus) as heard, running(broker, "compressor") as run:
        await bus.client.publish(CRASHING, b"a message")
        assert await asyncio.wait_for(run.ended, 30) == 1
        await eventually(lambda: heard)
    assert run.counted("perpetua_tasks_failed_total", task="receive", cause="crash") == 1
    assert [(crash.task, crash.error) for crash in heard] == [(f"receive {CRASHING}", "Boom: a message")]


@pytest.mark.fact("H7")
async def test_the_thread_of_the_health_server_has_an_owner_too(
    bus: Bus, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with published(bus) as heard, running(broker, "compressor") as run:
        monkeypatch.setattr(HealthServer, "serves", property(lambda _: False))
        assert await asyncio.wait_for(run.ended, 30) == 1
        await eventually(lambda: heard)
    assert (heard[0].task, "/livez" in heard[0].error) == ("beat", True)


@pytest.mark.fact("H7")
async def test_every_process_counts_the_crashes_of_the_others(bus: Bus, broker: Broker) -> None:
    """The counters of who crashes end with it."""
    async with running(broker, "gateway") as other:
        assert other.counted("perpetua_process_crashes_total", of="compressor") == 0
        for times in (1, 2):
            async with running(broker, "compressor") as run:
                await eventually(lambda run=run: run.can_crash("publish"))  # type: ignore[misc]
                run.crash("publish", Boom())
                await asyncio.wait_for(run.ended, 30)
            await eventually(
                lambda times=times: other.counted("perpetua_process_crashes_total", of="compressor") == times  # type: ignore[misc]
            )
        assert other.counted("perpetua_process_crashes_total", of="gateway") == 0


@pytest.mark.fact("H8")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("service", TASKS)
async def test_asked_to_stop_twice_is_asked_once(
    bus: Bus, broker: Broker, service: str, number: signal.Signals
) -> None:
    with capture_logs() as logs:
        async with published(bus) as heard, running(broker, service) as run:
            os.kill(os.getpid(), number)
            await eventually(lambda: [entry for entry in logs if entry["event"] == "draining"])
            os.kill(os.getpid(), number)
            assert await asyncio.wait_for(run.ended, 30) == 0
            assert run.tasks() == {}, "cancelled and awaited"
    events: list[Any] = [entry["event"] for entry in logs]
    assert (events.count("draining"), events.count("stopped")) == (1, 1)
    assert heard == []
    assert await record_of(bus, service) is None, "it has left the bus"
