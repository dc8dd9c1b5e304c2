"""Summing up what shards say that their personas have spent. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from libs.contracts.lives import SpendReply, Spent, SpentInHour
from libs.contracts.spending import Spend, SpendBy, SpendPage, SpendRow

_HOUR_S = 3600

_KEYS: dict[SpendBy, Callable[[SpentInHour], str | None]] = {
    SpendBy.ROLE: lambda spent: spent.role,
    SpendBy.SWARM: lambda spent: spent.swarm_id,
    SpendBy.HOUR: lambda spent: _time(spent.hour).isoformat(),
}


def spend_page(
    replies: list[SpendReply], by: SpendBy, swarm_id: str | None, members: set[str] | None, limit: int
) -> SpendPage:
    """Return at most `limit` rows. `members` are the swarm's personas, where only these are wanted."""
    hours = [
        spent for reply in replies for spent in reply.hours if swarm_id is None or spent.swarm_id == swarm_id
    ]
    if by is SpendBy.PERSONA:
        parts: Iterable[tuple[str | None, Spent]] = (
            (one.persona_id, one.spent)
            for reply in replies
            for one in reply.personas
            if members is None or one.persona_id in members
        )
    else:
        parts = ((_KEYS[by](one), one.spent) for one in hours)
    rows = _ordered(_summed(parts), by)
    first = min((spent.hour for spent in hours), default=None)
    return SpendPage(
        by=by,
        swarm_id=swarm_id,
        since=None if by is SpendBy.PERSONA or first is None else _time(first),
        total=Spend(
            thoughts=sum(row.thoughts for row in rows),
            tokens=sum(row.tokens for row in rows),
            cpu_ms=sum(row.cpu_ms for row in rows),
        ),
        rows=rows[:limit],
        left_out=max(len(rows) - limit, 0),
    )


def knows(replies: list[SpendReply], swarm_id: str) -> bool:
    """Whether anything is known to have been spent in a swarm."""
    return any(spent.swarm_id == swarm_id for reply in replies for spent in reply.hours)


def _summed(parts: Iterable[tuple[str | None, Spent]]) -> list[SpendRow]:
    sums: dict[str | None, Spent] = {}
    for key, spent in parts:
        sums[key] = sums.get(key, Spent()).plus(spent)
    return [
        SpendRow(key=key, thoughts=spent.thoughts, tokens=spent.tokens, cpu_ms=spent.cpu_ms)
        for key, spent in sums.items()
    ]


def _ordered(rows: list[SpendRow], by: SpendBy) -> list[SpendRow]:
    if by is SpendBy.HOUR:
        return sorted(rows, key=lambda row: row.key or "", reverse=True)
    return sorted(rows, key=lambda row: (-row.tokens, -row.cpu_ms, -row.thoughts, row.key or ""))


def _time(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * _HOUR_S, UTC)
