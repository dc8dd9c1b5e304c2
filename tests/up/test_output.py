"""What `perpetua up` prints may get lost; what it runs goes on."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm


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
