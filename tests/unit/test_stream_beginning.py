"""Where a client's stream begins, and its frames [5.3]."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.event_log import Held
from services.gateway.feed import comment, frame, lag
from services.gateway.sse import beginning

HELD = Held(first=11, last=30)


@pytest.mark.fact("5.3")
@pytest.mark.parametrize(
    ("wanted", "after"),
    [
        (None, 30),  # the next event
        ("0", 0),  # the oldest held
        ("000", 0),
        ("10", 10),
        ("15", 15),
        (" 15 ", 15),
        ("30", 30),  # nothing missed
        ("3", 3),  # evicted ones are told by a lag
    ],
)
def test_a_usable_id_is_resumed_behind_without_a_remark(wanted: str | None, after: int) -> None:
    assert beginning(wanted, HELD) == (after, None)


@pytest.mark.fact("5.3")
@pytest.mark.parametrize(
    "wanted", ["31", "999999999999999999", "-1", "1.5", "abc", "", " ", "0x1", "٣", "1e3", "9" * 40, "\n5\n6"]
)
def test_an_unusable_or_future_id_begins_live_and_says_so(wanted: str) -> None:
    after, remark = beginning(wanted, HELD)
    assert after == 30
    assert remark is not None
    assert "live from here" in remark
    assert "\n" not in remark


@pytest.mark.fact("5.3")
@pytest.mark.parametrize("wanted", [None, "0"])
def test_an_empty_stream_begins_with_its_first_event(wanted: str | None) -> None:
    assert beginning(wanted, Held(first=1, last=0)) == (0, None)
    assert beginning(wanted, Held(first=8, last=7)) == (7, None), "all are evicted or purged"


@given(st.integers(0, 40), st.integers(0, 40))
def test_nobody_begins_behind_the_last_event(wanted: int, last: int) -> None:
    assert 0 <= beginning(str(wanted), Held(first=1, last=last))[0] <= last


@pytest.mark.fact("5.3")
def test_a_frame_has_sequence_name_and_event() -> None:
    made = frame(7, "perpetua.events.s.p.thought_generated", b'{"id":"x"}')
    assert made.sequence == 7
    assert made.data == b'id: 7\nevent: cognition\ndata: {"id":"x"}\n\n'


@pytest.mark.fact("3.14")
def test_types_of_this_project_s_own_are_sent_under_another_name() -> None:
    assert frame(1, "perpetua.events.s.p.credit_spent", b"{}").data.startswith(b"id: 1\nevent: perpetua\n")


@pytest.mark.fact("5.3")
def test_a_lag_says_how_many_and_has_the_last_skipped_as_its_id() -> None:
    assert lag(12, 40) == b"id: 40\nevent: lag\ndata: skipped 12\n\n"


def test_a_comment_is_one_that_clients_ignore() -> None:
    assert comment("keep-alive") == b": keep-alive\n\n"
