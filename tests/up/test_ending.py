"""How `perpetua up` ends: in order, in the time that drains are given, or at once where it is asked again."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm


def frozen(running: Swarm, service: str) -> int:
    """Have a process not end by itself; return its pid."""
    pid = running.pid(service)
    os.kill(pid, signal.SIGSTOP)
    return pid


def family(running: Swarm) -> list[psutil.Process]:
    assert running.process is not None
    return psutil.Process(running.process.pid).children(recursive=True)


@pytest.mark.fact("H8")
def test_what_does_not_end_is_ended_after_the_drain_and_what_ends_it() -> None:
    with swarm("--quiet", own={"DRAIN_MS": "500"}) as running:
        frozen(running, "compressor")
        children = family(running)
        assert running.stop() == 0
        assert "compressor-1: did not end within 4.5 s; ending it" in " ".join(running.output)
        assert not [child for child in children if child.is_running()]


@pytest.mark.fact("H8")
def test_asked_again_it_ends_at_once() -> None:
    with swarm("--quiet", own={"DRAIN_MS": "120000"}) as running:
        frozen(running, "thinker")
        frozen(running, "compressor")
        children = family(running)
        assert running.process is not None
        running.process.send_signal(signal.SIGINT)
        assert "again: to end at once" in running.until_output("stopping: thoughts in flight")
        time.sleep(1.0)  # what comes sooner is the same wish
        assert running.process.poll() is None
        assert running.stop(within=60) == 0
        assert any("ending at once" in line for line in running.output)
        assert not any("did not end" in line for line in running.output)
        assert not [child for child in children if child.is_running()]


def test_it_ends_in_order_where_its_terminal_is_closed() -> None:
    with swarm("--quiet") as running:
        children = family(running)
        assert running.stop(signal.SIGHUP) == 0
        assert not [child for child in children if child.is_running()]
        assert any("stopped; what was thought is kept" in line for line in running.output)
        assert not (running.data / "up.json").exists()


def test_nohup_keeps_it_where_its_terminal_is_closed() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with swarm("--quiet") as running:
            assert running.process is not None
            running.process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            eventually_sync(lambda: running.get("/v1/cognition/status")["running"])
            assert running.process.poll() is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_of_an_up_that_was_killed_no_address_is_used() -> None:
    with swarm("--quiet") as running:
        assert running.stop(signal.SIGKILL) == -signal.SIGKILL
        assert running.url in (running.data / "up.json").read_text()
        assert running.url not in running.cli("status").stderr, "the default address is asked"
        assert str(running.data) in running.cli("ps").stderr
