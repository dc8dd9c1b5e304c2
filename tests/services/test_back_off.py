"""What keeps failing is tried more and more seldom, up to a cap, and never in a hot loop [H10]."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nats.errors
import pytest

from libs.bus.errors import NoAnswer
from libs.bus.follow import Follower
from libs.bus.patience import until_answered
from libs.concurrency.waiting import BackOff
from libs.contracts import streams
from libs.supervisor.child import Child
from services.compressor.publishing import Publishing
from services.scheduler.shards import Shards
from services.thinker.results import Owners
from tests.support.eventually import eventually
from tests.unit.make import chunk

TRIES = 12
_sleep = asyncio.sleep


class Enough(Exception):
    """So many pauses are enough to see how they grow."""


async def refused(*_: Any, **__: Any) -> Any:
    raise NoAnswer("x", "it never answers")


async def nobody(*_: Any, **__: Any) -> Any:
    raise nats.errors.NoRespondersError


async def no(*_: Any) -> bool:
    return False


def bus(**more: Any) -> Any:
    return SimpleNamespace(connected=True, waiting_for=set(), on_reconnect=lambda _: nullcontext(), **more)


async def patience() -> None:
    await until_answered(bus(), "what never answers", refused)


async def following() -> None:
    follower: Any = Follower(bus(), streams.JOURNAL, None)  # type: ignore[arg-type]
    follower._open = no
    await follower.run()


async def publishing() -> None:
    publisher: Any = object.__new__(Publishing)
    publisher._in_charge = lambda: True
    publisher._session = refused
    publisher.publishes = asyncio.Event()
    await publisher.run()


async def an_owner_that_is_away() -> None:
    owners = Owners(bus(client=SimpleNamespace(request=nobody)), "thinker-1")
    await owners.grant(chunk("c", "a"), 1, 1, reads=False)


async def a_process_that_ends_at_once() -> None:
    child: Any = object.__new__(Child)
    child._stopping, child.exit_status, child.restarts = False, 1, 0
    child.service, child.instance = "thinker", "thinker-1"
    child._on_line = child._on_gone = lambda *_: None

    async def ends() -> tuple[float, str]:
        return 0.1, "ended"

    child._run_once = ends
    await child._keep()


RETRYING: dict[str, tuple[Callable[[], Awaitable[None]], float]] = {
    "a call that the broker does not answer": (patience, 0.5),
    "a stream that cannot be followed": (following, 2.0),
    "a session of publishing": (publishing, 2.0),
    "a thinker without its shard's owner": (an_owner_that_is_away, 1.0),
    "a process that ends at once": (a_process_that_ends_at_once, 2.0),
}
"""Who tries again, and the most seconds that it then waits."""


@pytest.mark.fact("H10")
@pytest.mark.parametrize("who", RETRYING)
async def test_pauses_grow_up_to_a_cap(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    work, most = RETRYING[who]
    pauses: list[float] = []

    async def paused(seconds: float, result: Any = None) -> Any:
        pauses.append(seconds)
        if len(pauses) == TRIES:
            raise Enough
        return await _sleep(0, result)

    monkeypatch.setattr(asyncio, "sleep", paused)
    with pytest.raises(Enough):
        await work()
    assert pauses == sorted(pauses)
    assert pauses[0] < most / 2, "a single failure costs little"
    assert pauses[-1] == pauses[-2] == most


@pytest.mark.fact("H10")
def test_a_success_begins_anew() -> None:
    pauses = BackOff(1.0, 5.0)
    assert [pauses.next() for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]
    pauses.reset()
    assert pauses.next() == 1.0


@pytest.mark.fact("H10")
async def test_a_shard_that_is_lost_again_and_again_is_left_alone_for_longer() -> None:
    shards: Any = object.__new__(Shards)
    shards._not_before, shards._lost_again = {}, {}
    now = asyncio.get_running_loop().time
    pauses = []
    for _ in range(8):
        shards._wait(5)
        pauses.append(shards._not_before[5] - now())
    assert 0.9 < pauses[0] <= 2.5
    assert all(6.3 < pause <= 16.0 for pause in pauses[3:])


@pytest.mark.fact("H10")
async def test_a_command_that_fails_at_once_is_started_only_so_often(tmp_path: Path) -> None:
    """For real: after 0.1, 0.3 and 0.7 s."""
    command = [sys.executable, "-S", "-c", "raise SystemExit(1)"]
    lines: list[str] = []
    child = Child(
        "thinker", "t", command, {}, tmp_path / "log", lambda: None, lambda _, text: lines.append(text)
    )
    began = time.monotonic()
    keeping = asyncio.create_task(child.keep())
    for restarts, least in ((1, 0.1), (2, 0.3), (3, 0.7)):
        await eventually(lambda restarts=restarts: child.restarts >= restarts)  # type: ignore[misc]
        assert time.monotonic() - began >= least
    await child.stop(5.0)
    await asyncio.wait_for(keeping, 30)
    assert lines[0] == "ended (exit status 1); starting it again"


@pytest.mark.fact("H10")
async def test_a_command_that_cannot_be_started_again_is_tried_until_it_can(tmp_path: Path) -> None:
    """As where no process or memory is left for it: the supervisor and its other processes go on."""
    program = tmp_path / "program"
    lines: list[str] = []
    child = Child(
        "thinker", "t", [str(program)], {}, tmp_path / "log", lambda: None, lambda _, text: lines.append(text)
    )

    def install(does: str) -> None:
        program.write_text(f"#!/bin/sh\n{does}\n")
        program.chmod(0o700)

    install('rm "$0"')
    keeping = asyncio.create_task(child.keep())
    await eventually(lambda: len(lines) > 2)
    assert lines[0] == "ended (exit status 0); starting it again"
    assert lines[1].startswith("cannot be started (") and "No such file" in lines[1]
    install("exec sleep 60")
    await eventually(lambda: child.record().state == "running")
    await child.stop(5.0)
    await asyncio.wait_for(keeping, 30)


@contextmanager
def no_threads() -> Iterator[None]:
    """As where the system's limit of threads is reached: none can be started while the context is open."""
    before = threading.stack_size(2**62)
    try:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            threading.Thread(target=print).start()
        yield
    finally:
        threading.stack_size(before)


@pytest.mark.fact("H10")
async def test_processes_are_started_again_where_no_thread_can_be_started(tmp_path: Path) -> None:
    """A thread for each was asked for once the process was there; where there was none, the swarm ended."""
    lines: list[str] = []
    command = [sys.executable, "-c", "print('once', flush=True)"]
    child = Child(
        "thinker", "t", command, {}, tmp_path / "log", lambda: None, lambda _, text: lines.append(text)
    )
    with no_threads():
        keeping = asyncio.create_task(child.keep())
        await eventually(lambda: child.restarts > 1 or keeping.done())
        await child.stop(5.0)
        await asyncio.wait_for(keeping, 30)
    assert lines[:4] == ["once", "ended (exit status 0); starting it again"] * 2
