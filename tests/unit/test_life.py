"""What a persona has done, as a fold of its thoughts [A6, A16, A17, A19]."""

from __future__ import annotations

import msgspec
import pytest

from libs.contracts.accounts import Credit, Credits, Settlement
from libs.contracts.journal import Effort, Pause, StoredLife
from services.scheduler.account import NOTHING
from services.scheduler.accounts import window_of
from services.scheduler.life import RECENT_THOUGHTS, Life
from services.scheduler.spending import HOURS_KEPT, Spending
from tests.unit.make import NOW, thought

AT = NOW.timestamp()


def still() -> float:
    """A clock of the loop that stands."""
    return 0.0


def effort(**more: object) -> Effort:
    return msgspec.structs.replace(Effort("critic", 120, 500, True, False), **more)


@pytest.mark.fact("A16")
def test_what_a_life_has_spent_is_counted_whole_and_by_the_minute() -> None:
    life = Life(still)
    life.thought(1, AT, effort())
    life.thought(2, AT + 1, effort(tokens=80))
    minute = window_of(AT + 1)
    assert (life.thoughts, life.tokens, life.cpu_ms) == (2, 200, 1000)
    assert life.settlement == Settlement(2, minute, Credits(80, 500))
    assert life.spent_in(minute) == Credits(200, 1000)
    assert life.spent_in(minute + 1) == NOTHING
    life.thought(3, AT + 61, effort())
    assert life.spent_in(window_of(AT + 61)) == Credits(120, 500)


def test_failures_are_those_one_after_the_other() -> None:
    life = Life(still)
    failed = effort(by_model=False, failed=True, tokens=0)
    for number in (1, 2, 3):
        life.thought(number, AT + number, failed)
    assert life.failures == 3
    life.thought(4, AT + 4, effort())
    assert life.failures == 0


@pytest.mark.fact("A19")
def test_a_thought_that_repeats_or_is_a_fallback_is_no_progress() -> None:
    clock = [0.0]
    life = Life(lambda: clock[0])
    clock[0] = 10.0
    life.thought(1, AT + 10, effort(novelty=0.9))
    assert life.idle_s == 0.0
    clock[0] = 20.0
    life.thought(2, AT + 20, effort(novelty=0.1, repeats=True))
    assert life.idle_s == 10.0
    clock[0] = 30.0
    life.thought(3, AT + 30, effort(by_model=False, failed=True))
    assert life.idle_s == 20.0


@pytest.mark.fact("A19")
def test_signatures_of_the_newest_thoughts_are_kept() -> None:
    life = Life(still)
    for number in range(1, RECENT_THOUGHTS + 4):
        life.thought(number, AT + number, effort(signature=bytes([number])))
    assert life.recent == tuple(bytes([n]) for n in range(4, RECENT_THOUGHTS + 4))


def test_a_life_is_dumped_and_loaded_however_often_it_responded() -> None:
    life = Life(still)
    for number in range(1, 60):
        life.thought(number, AT + number / 10, effort(responded=True))
    life.pause = Pause("p", "root", Credit.TOKENS, NOW, NOW)
    stored = msgspec.json.decode(msgspec.json.encode(life.dump()), type=StoredLife)
    loaded = Life.load(stored, still)
    assert (loaded.thoughts, loaded.tokens, loaded.failures) == (life.thoughts, life.tokens, life.failures)
    assert (loaded.pause, loaded.recent) == (life.pause, life.recent)
    assert (loaded.cost, loaded.settlement) == (life.cost, life.settlement) != (NOTHING, None)
    minute = window_of(AT)
    assert loaded.spent_in(minute) == life.spent_in(minute) != NOTHING
    assert loaded.state.energy_at(AT + 6) == life.state.energy_at(AT + 6)
    assert len(msgspec.json.encode(stored)) < 600


@pytest.mark.fact("A16")
def test_spending_is_by_hour_swarm_and_role_and_only_the_newest_hours_are_kept() -> None:
    spending = Spending()
    one = msgspec.structs.replace(thought("p", 1), effort=effort(), swarm_id="s")
    for hour in range(HOURS_KEPT + 2):
        spending.add(msgspec.structs.replace(one, tick_at=NOW.replace(day=1 + hour // 24, hour=hour % 24)))
    spending.add(msgspec.structs.replace(one, effort=None))
    found = spending.dump()
    assert len(found) == HOURS_KEPT
    assert {(row.swarm_id, row.role) for row in found} == {("s", "critic")}
    assert all(row.spent.tokens == 120 for row in found)
    again = Spending()
    again.restore(found)
    assert again.dump() == found
