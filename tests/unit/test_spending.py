"""Summing up what was spent."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.lives import SpendReply, Spent, SpentByPersona, SpentInHour
from libs.contracts.spending import Spend, SpendBy, SpendRow
from services.gateway.spending import spend_page

HOUR = 490_923

REPLIES = [
    SpendReply(
        personas=[SpentByPersona("ann", Spent(8, 400, 90)), SpentByPersona("bob", Spent(3, 600, 20))],
        hours=[
            SpentInHour(HOUR, "s", "critic", Spent(2, 100, 10)),
            SpentInHour(HOUR + 1, "s", "critic", Spent(1, 50, 5)),
        ],
    ),
    SpendReply(
        personas=[SpentByPersona("cat", Spent(1, 600, 30))],
        hours=[
            SpentInHour(HOUR, None, "scout", Spent(4, 500, 7)),
            SpentInHour(HOUR, "t", "critic", Spent(1, 30, 3)),
        ],
    ),
]


def row(key: str | None, thoughts: int, tokens: int, cpu_ms: int) -> SpendRow:
    return SpendRow(key=key, thoughts=thoughts, tokens=tokens, cpu_ms=cpu_ms)


def test_by_persona_it_is_whole_lives_the_most_tokens_first() -> None:
    page = spend_page(REPLIES, SpendBy.PERSONA, None, None, 100)
    assert page.rows == [row("cat", 1, 600, 30), row("bob", 3, 600, 20), row("ann", 8, 400, 90)]
    assert (page.total, page.since) == (Spend(thoughts=12, tokens=1600, cpu_ms=140), None)


def test_by_role_and_swarm_it_is_the_hours_that_schedulers_remember() -> None:
    page = spend_page(REPLIES, SpendBy.ROLE, None, None, 100)
    assert page.rows == [row("scout", 4, 500, 7), row("critic", 4, 180, 18)]
    assert page.since == datetime.fromtimestamp(HOUR * 3600, UTC)
    by_swarm = spend_page(REPLIES, SpendBy.SWARM, None, None, 100)
    assert [one.key for one in by_swarm.rows] == [None, "s", "t"]


def test_hours_are_in_their_order_the_newest_first() -> None:
    page = spend_page(REPLIES, SpendBy.HOUR, None, None, 100)
    assert page.rows == [
        row("2026-01-02T04:00:00+00:00", 1, 50, 5),
        row("2026-01-02T03:00:00+00:00", 7, 630, 20),
    ]


def test_of_one_swarm_only_its_own_is_counted() -> None:
    assert spend_page(REPLIES, SpendBy.ROLE, "s", None, 100).rows == [row("critic", 3, 150, 15)]
    assert spend_page(REPLIES, SpendBy.PERSONA, "s", {"ann"}, 100).rows == [row("ann", 8, 400, 90)]
    nothing = spend_page(REPLIES, SpendBy.HOUR, "none", None, 100)
    assert (nothing.rows, nothing.since, nothing.total) == ([], None, Spend())


def test_what_is_left_out_is_counted_and_in_the_total() -> None:
    page = spend_page(REPLIES, SpendBy.PERSONA, None, None, 1)
    assert ([one.key for one in page.rows], page.left_out, page.total.tokens) == (["cat"], 2, 1600)


SPENT = st.builds(Spent, st.integers(0, 9), st.integers(0, 999), st.integers(0, 999))
HOURS = st.builds(
    SpentInHour, st.integers(HOUR, HOUR + 3), st.sampled_from([None, "s", "t"]), st.sampled_from("ab"), SPENT
)


@given(
    st.lists(st.lists(HOURS, max_size=8).map(lambda hours: SpendReply(personas=[], hours=hours)), max_size=5),
    st.sampled_from([SpendBy.ROLE, SpendBy.SWARM, SpendBy.HOUR]),
)
def test_however_it_is_summed_up_it_is_as_much(replies: list[SpendReply], by: SpendBy) -> None:
    page = spend_page(replies, by, None, None, 1000)
    spent = [one.spent for reply in replies for one in reply.hours]
    assert page.total == Spend(
        thoughts=sum(one.thoughts for one in spent),
        tokens=sum(one.tokens for one in spent),
        cpu_ms=sum(one.cpu_ms for one in spent),
    )
    assert len({one.key for one in page.rows}) == len(page.rows)
    assert spend_page(replies[::-1], by, None, None, 1000) == page


@pytest.mark.parametrize("by", SpendBy)
def test_nothing_spent_is_an_empty_page(by: SpendBy) -> None:
    page = spend_page([], by, None, None, 5)
    assert (page.rows, page.left_out, page.since) == ([], 0, None)
