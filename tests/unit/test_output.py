"""What is printed waits for who reads it, in bounds, and holds up nobody; real pipes."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator

import pytest

from libs.supervisor.output import Output

MOST = 100 * 1000
LARGE = b"y" * 200_000 + b"\n"
"""More than a pipe takes."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def left_out(count: int) -> bytes:
    return b"%d left out\n" % count


def read_through(descriptor: int, last: bytes) -> list[bytes]:
    """Return the lines of a pipe, up to one."""
    found = b""
    while not found.endswith(last + b"\n"):
        found += os.read(descriptor, 65536)
    return found.splitlines()


def test_lines_come_in_order_and_all_are_written_at_the_end(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1], left_out)
    for number in range(500):
        output.write(b"%d\n" % number)
    output.finish(30.0)
    os.set_blocking(pipe[0], False)
    assert os.read(pipe[0], 65536).splitlines() == [b"%d" % number for number in range(500)]


def test_what_nobody_reads_gives_way_from_the_oldest_on_and_is_counted(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1], left_out, MOST)
    output.write(LARGE)
    select.select([pipe[0]], [], [])  # it is being written
    line, count = b"x" * 990, 10_000
    for number in range(count):
        output.write(b"%08d %s\n" % (number, line))
    found = read_through(pipe[0], b"%08d %s" % (count - 1, line))
    kept = MOST // 1000
    assert found[:2] == [LARGE.strip(), b"%d left out" % (count - kept)]
    assert [int(text.split()[0]) for text in found[2:]] == list(range(count - kept, count))


def test_a_line_that_is_larger_than_the_bound_is_written_whole(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1], left_out, most=10)
    output.write(LARGE)
    assert read_through(pipe[0], b"y") == [LARGE.strip()]


def test_the_end_waits_for_a_reader_only_so_long(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1], left_out)
    output.write(LARGE)
    began = time.monotonic()
    output.finish(0.2)
    assert 0.2 <= time.monotonic() - began < 10
    reading = threading.Thread(target=read_through, args=(pipe[0], b"y"))
    reading.start()
    output.finish(30.0)
    reading.join(30)
    assert not reading.is_alive()
