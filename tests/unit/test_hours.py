"""What was spent by hour is bounded: the least of the oldest hours counts together [A16]."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from msgspec import structs

from libs.contracts.journal import ThoughtEntry
from libs.contracts.lives import OTHERS, Spent
from services.scheduler import spending
from services.scheduler.spending import HOURS_KEPT, Spending
from tests.unit.make import NOW, thought
from tests.unit.test_life import effort


def spent(hour: int, name: str, tokens: int) -> ThoughtEntry:
    entry = structs.replace(thought("p", 1), swarm_id=name, effort=effort(role=name, tokens=tokens))
    return structs.replace(entry, tick_at=NOW + timedelta(hours=hour))


def total(of: Spending) -> Spent:
    found = Spent()
    for one in of.dump():
        found = found.plus(one.spent)
    return found


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending, "SPENDING_BYTES", 8000)
    monkeypatch.setattr(spending, "_FREED_BYTES", 1000)


@pytest.mark.fact("A16")
@pytest.mark.parametrize("name", ["", "s" * 100, '\x7f"\\' * 20, "\U0001f980" * 100])
def test_it_weighs_no_more_than_it_may_and_nothing_of_it_is_lost(name: str) -> None:
    kept, thoughts = Spending(), 0
    for hour in range(HOURS_KEPT):
        for number in range(30):
            kept.add(spent(hour, f"{number}{name}", 2**40 + number))
            thoughts += 1
            assert len(msgspec.json.encode(kept.dump())) <= 8000
    assert total(kept).thoughts == thoughts
    assert total(kept).tokens == HOURS_KEPT * sum(2**40 + number for number in range(30))


@pytest.mark.fact("A16")
def test_the_newest_hours_and_what_spent_most_are_kept_apart() -> None:
    kept = Spending()
    for hour in range(3):
        for number in range(30):
            kept.add(spent(hour, f"s{number}", 10 + number))
    oldest, *_, newest = sorted({one.hour for one in kept.dump()})
    assert {one.role for one in kept.dump() if one.hour == newest} == {f"s{number}" for number in range(30)}
    apart = {one.role for one in kept.dump() if one.hour == oldest} - {OTHERS}
    least = 30 - len(apart)
    assert least and apart == {f"s{number}" for number in range(least, 30)}


@pytest.mark.fact("A16")
def test_a_new_owner_goes_on_as_the_old_one_would_have() -> None:
    old, new = Spending(), Spending()
    for number in range(90):
        old.add(spent(number // 30, f"s{number}", number))
    new.restore(old.dump())
    for number in range(200):
        for one in (old, new):
            one.add(spent(3 + number // 20, f"s{number % 40}", number))
    assert new.dump() == old.dump()
    assert new._bytes == old._bytes
