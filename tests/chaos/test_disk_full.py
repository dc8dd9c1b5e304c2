"""The disk of `perpetua up` is full: it says so, and goes on by itself once there is room [3.3]."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.supervisor.disk import Disk
from tests.chaos.brokers import mounted, unmounted
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm

SETTINGS = {"LOOP_INTERVAL_MS": "100", "MAX_EVENTS": "5000"}
MIB = 1 << 20


@pytest.fixture
def small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="perpetua-disk-"))
    assert mounted(folder, 256)
    try:
        yield folder
    finally:
        unmounted(folder)


@pytest.mark.fact("3.3")
@pytest.mark.small_disk
@pytest.mark.timeout(180)
def test_a_full_disk_stops_everything_until_there_is_room_and_costs_nothing(small_disk: Path) -> None:
    running = Swarm(settings=SETTINGS, data=small_disk / "data")
    try:
        running.start()
        eventually_sync(lambda: numbers(running)[-1] > 5, 30, "thoughts")
        ballast = small_disk / "ballast"
        fill(ballast)
        running.until_output("is full; make room", 60)
        ballast.unlink()
        running.until_output("there is room on the disk again", 30)
        before = eventually_sync(lambda: numbers(running)[-1], 40, "thoughts")
        eventually_sync(lambda: numbers(running)[-1] > before + 5, 40, "thinking going on")
        found = numbers(running)
        assert found == list(range(1, len(found) + 1))
    finally:
        running.close()


def numbers(running: Swarm) -> list[int]:
    return [e["payload"]["thought_count"] for e in running.events() if "thinking" in e["payload"]]


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(MIB))
        except OSError:
            return


def test_only_what_the_broker_says_from_now_on_counts(tmp_path: Path) -> None:
    log = tmp_path / "nats.log"
    log.write_text("[ERR] no space left on device\n")
    disk = Disk(tmp_path, log)
    assert not sees_it_full(disk)
    with log.open("a") as lines:
        lines.write("[INF] all is well\n[ERR] write 1.blk: no space left on device\n")
    assert sees_it_full(disk)
    assert disk.has_room
    disk.full = False
    log.write_text("[ERR] no space left on device\n")
    assert sees_it_full(disk), "the log was rotated"


@pytest.mark.small_disk
def test_a_disk_on_which_the_broker_can_say_nothing_is_full(small_disk: Path) -> None:
    """Found by reading: where its log's last block is full, too, it does not say that space is lacking."""
    disk = Disk(small_disk, small_disk / "nats.log")
    assert not sees_it_full(disk)
    fill(small_disk / "ballast")
    assert sees_it_full(disk)
    assert not disk.has_room


def sees_it_full(disk: Disk) -> bool:
    disk.look()
    return disk.full
