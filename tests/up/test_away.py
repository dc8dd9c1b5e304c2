"""What `perpetua up` waits for: a broker that is away, a share whose process is gone, its own processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from libs.contracts.limits import PRESENCE_TTL_S, SHARDS
from tests.chaos.test_schedulers import shards
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm
from tests.up.test_up import count, family

TRIES = 3


@pytest.mark.timeout(150)
def test_a_broker_that_goes_away_for_30_seconds_costs_nothing_but_time() -> None:
    with swarm(settings={"LOOP_INTERVAL_MS": "100", "MAX_EVENTS": "5000"}) as running:
        eventually_sync(lambda: count(running) > 5)
        broker = running.pid("nats")
        os.kill(broker, signal.SIGSTOP)
        time.sleep(30)
        os.kill(broker, signal.SIGCONT)
        assert "is away; everything waits for it" in running.until_output("is away")
        running.until_output("the broker is back")
        before = eventually_sync(lambda: count(running), 40)
        eventually_sync(lambda: count(running) > before + 3, 40)
        thoughts = [e["payload"]["thought_count"] for e in running.events() if "thinking" in e["payload"]]
        assert thoughts == list(range(1, len(thoughts) + 1))


def test_up_without_a_broker_that_answers_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "libs.cli", "up", "--data-dir", str(tmp_path),
            "--nats-url", "nats://127.0.0.1:1", "--gateway-port", "0",
        ],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no broker answers at nats://127.0.0.1:1" in done.stderr


def test_when_up_is_killed_its_processes_end_and_nothing_is_lost() -> None:
    first = Swarm(settings={"LOOP_INTERVAL_MS": "100"})
    try:
        first.start()
        eventually_sync(lambda: count(first) > 3)
        children = family(first)
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL
        eventually_sync(lambda: not [c for c in children if c.is_running()], 60, "no process left")
        with swarm(settings={"LOOP_INTERVAL_MS": "100"}, data=first.data) as again:
            before = eventually_sync(lambda: count(again))
            eventually_sync(lambda: count(again) > before)
            thoughts = [e["payload"]["thought_count"] for e in again.events() if "thinking" in e["payload"]]
            assert thoughts == list(range(1, len(thoughts) + 1))
    finally:
        first.close()


@pytest.mark.fact("H9")
def test_the_share_of_a_process_that_is_given_up_is_another_s_at_once() -> None:
    """It was killed, and cannot start again: nobody waits until its presence expires.

    A machine that stands still meanwhile gets another try: where somebody waits, it is in each of them.
    """
    took: list[float] = []
    while len(took) < TRIES and not (took and took[-1] < PRESENCE_TTL_S / 2):
        took.append(seconds_until_a_share_is_another_s())
    assert took[-1] < PRESENCE_TTL_S / 2, took


def seconds_until_a_share_is_another_s() -> float:
    """Return how long that takes, counted from the word that nobody starts the process again."""
    with swarm("--quiet", "--schedulers", "2", settings={"LOOP_INTERVAL_MS": "100"}) as running:
        eventually_sync(lambda: len(shards(running)) == 2 and sum(shards(running).values()) == SHARDS, 40)
        (running.data / "keys" / "scheduler.nk").unlink()
        os.kill(next(r["pid"] for r in running.ps() if r["instance"] == "scheduler-2"), signal.SIGKILL)
        running.until_output("is not started again")
        began = time.monotonic()
        eventually_sync(lambda: shards(running) == {"scheduler-1": SHARDS}, 40)
        return time.monotonic() - began
