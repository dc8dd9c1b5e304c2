"""How far a pipelined publication has come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.compressor.progress import Progress

RECORDS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=15)
"""By how much each record's sequence is higher than the last one's, and how many messages it makes."""


@pytest.mark.fact("3.3")
@given(RECORDS, st.data())
def test_the_position_never_passes_an_outstanding_record(
    records: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Acks come in any order, while later records are begun. Trimming rests on this."""
    progress = Progress(0)
    left: dict[int, int] = {}
    to_begin: list[tuple[int, int]] = []
    sequence = 0
    for step, count in records:
        sequence += step
        to_begin.append((sequence, count))
    while to_begin or any(left.values()):
        waiting = [s for s, count in left.items() if count]
        if to_begin and (not waiting or data.draw(st.booleans(), "begin another")):
            sequence, count = to_begin.pop(0)
            progress.begin(sequence, count)
            left[sequence] = count
        else:
            acked = data.draw(st.sampled_from(waiting), "acked")
            left[acked] -= 1
            progress.stored(acked)
        unfinished = [s for s, count in left.items() if count]
        done = [s for s in left if s < min(unfinished, default=2**63)]
        assert progress.position == max(done, default=0)
        assert progress.outstanding == sum(1 for s in left if s >= min(unfinished, default=2**63))
    assert progress.position == sequence


def test_a_record_without_messages_is_passed_at_once() -> None:
    progress = Progress(4)
    progress.begin(7, 0)
    assert (progress.position, progress.outstanding) == (7, 0)


def test_the_position_never_goes_back() -> None:
    """A session begins a record before the place it goes on from."""
    progress = Progress(9)
    progress.begin(8, 0)
    assert progress.position == 9
