"""What `perpetua up` prints may get lost; what it runs goes on."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm

ENDS_WITHIN_S = 15.0
CTRL_S = b"\x13"

NO_THREADS = """
import sys, threading
threading.stack_size(2**62)  # as where the system's limit is reached: no thread can be started
from libs.cli.__main__ import main
sys.argv = ["perpetua", "up", "--data-dir", sys.argv[1]]
main()
"""


def full_disk() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def reader_gone() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize("output", [full_disk, reader_gone])
def test_up_goes_on_where_nothing_can_be_printed(output: Callable[[], int]) -> None:
    """`perpetua up > up.log` on the disk that fills, `perpetua up | tee` whose tee has ended."""
    running = Swarm(settings={"LOOP_INTERVAL_MS": "100"})
    stdout = output()
    try:
        running.start(until_ready=False, stdout=stdout)
        path = "/v1/swarm/personas/root-thinker"
        eventually_sync(lambda: running.get(path)["thought_count"] > 5, 40, "thoughts, and a line of each")
        assert running.stop() == 0
        assert running.output == []
    finally:
        os.close(stdout)
        running.close()


def full_pipe() -> tuple[int, int]:
    """A pipe that takes nothing more, and the end from which nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    return writing, reading


def stopped_terminal() -> tuple[int, int]:
    """A terminal at which somebody has pressed Ctrl-S."""
    keyboard, terminal = pty.openpty()
    os.write(keyboard, CTRL_S)
    return terminal, keyboard


@pytest.mark.fact("H8")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("output", [full_pipe, stopped_terminal])
def test_a_blocked_screen_holds_up_nobody(
    output: Callable[[], tuple[int, int]], number: signal.Signals
) -> None:
    """What was killed is started again meanwhile, and it ends in its usual time."""
    running = Swarm(settings={"LOOP_INTERVAL_MS": "100"})
    stdout, other_end = output()
    try:
        running.start(until_ready=False, stdout=stdout)
        path = "/v1/swarm/personas/root-thinker"
        eventually_sync(lambda: running.get(path)["thought_count"] > 5, 40, "thoughts, and a line of each")
        killed = running.pid("thinker")
        os.kill(killed, signal.SIGKILL)

        def is_back() -> bool:
            row = next((r for r in running.ps() if r["service"] == "thinker"), None)
            return row is not None and row["pid"] != killed and row["ready"] and row["restarts"] == 1

        eventually_sync(is_back, 40, "the thinker again")
        assert running.process is not None
        children = psutil.Process(running.process.pid).children(recursive=True)
        assert running.stop(number, ENDS_WITHIN_S) == 0
        assert not [child for child in children if child.is_running()]
        assert running.output == []
    finally:
        os.close(stdout)
        os.close(other_end)
        running.close()


def test_where_no_thread_can_be_started_up_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_THREADS, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "the limit of processes and threads is reached, see `ulimit -u`" in done.stderr
