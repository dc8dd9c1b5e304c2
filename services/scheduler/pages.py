"""Which checkpoint page holds which persona. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from libs.contracts.journal import CheckpointPage
from services.scheduler.ledger import Ledger

_FRAME_BYTES = 128
_COUNTERS_BYTES = 64
_ESCAPED = 2

_encode = msgspec.json.Encoder().encode


class Pages:
    """Which page holds which persona, so that pages can be written one by one.

    A persona that outgrows its page moves to a later one, never to an earlier one: where two have it, the
    later one is right. Who is alone on a page stays there, whatever it weighs.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._page_of: dict[str, int] = {}
        self._members: list[dict[str, int]] = [{}]
        """By page, its members and what each weighs."""

        self._weight = [_FRAME_BYTES]

    def __len__(self) -> int:
        return len(self._members)

    def restore(self, page: int, persona_ids: Iterable[str], ledger: Ledger) -> None:
        """Take the members of a stored page. Pages are taken in their order."""
        self._begin(page)
        for persona_id in persona_ids:
            self._put(page, persona_id, weigh(persona_id, ledger))

    def touched(self, persona_ids: Iterable[str], ledger: Ledger) -> list[int]:
        """Return the pages on which these personas stand now, or did so far."""
        found: set[int] = set()
        others: list[str] = []
        for persona_id in persona_ids:
            page = self._page_of.get(persona_id)
            if page is not None:
                found.add(page)
            if page is None or not ledger.is_bare(persona_id):
                others.append(persona_id)
        found.update(self._place(persona_id, weigh(persona_id, ledger)) for persona_id in sorted(others))
        return sorted(found)

    def page(self, number: int, ledger: Ledger, sequence: int) -> CheckpointPage:
        """Return a page with its members as they are now."""
        members = list(self._members[number])
        pairs = zip(members, ledger.counters(members), strict=True)
        return CheckpointPage(
            sequence=sequence,
            counters={name: (counters.thought_count, counters.last_tick_at) for name, counters in pairs},
            lives=ledger.stored_lives(members),
            mail=ledger.stored_mail(members),
        )

    def _place(self, persona_id: str, weight: int) -> int:
        page = self._page_of.get(persona_id, -1)
        if page >= 0:
            members, others = self._members[page], self._weight[page] - self._members[page][persona_id]
            if len(members) == 1 or others + weight <= self._most:
                self._put(page, persona_id, weight)
                return page
        page = next((n for n in range(page + 1, len(self)) if self._has_room(n, weight)), len(self))
        self._begin(page)
        self._put(page, persona_id, weight)
        return page

    def _has_room(self, page: int, weight: int) -> bool:
        return not self._members[page] or self._weight[page] + weight <= self._most

    def _begin(self, page: int) -> None:
        while len(self._members) <= page:
            self._members.append({})
            self._weight.append(_FRAME_BYTES)

    def _put(self, page: int, persona_id: str, weight: int) -> None:
        before = self._page_of.get(persona_id)
        if before is not None:
            self._weight[before] -= self._members[before].pop(persona_id)
        self._page_of[persona_id] = page
        self._members[page][persona_id] = weight
        self._weight[page] += weight


def weigh(persona_id: str, ledger: Ledger) -> int:
    """Return the most bytes that a persona takes on a page now: quotes and backslashes double in JSON."""
    name = len(persona_id.encode()) * _ESCAPED + _COUNTERS_BYTES
    parts = *ledger.stored_lives([persona_id]).values(), *ledger.stored_mail([persona_id]).values()
    return name + sum(name + len(_encode(part)) for part in parts)
