"""Which checkpoint page holds which persona. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from libs.contracts.journal import CheckpointPage
from services.scheduler.ledger import Ledger


class Pages:
    """Which checkpoint page holds which persona: for good, so that pages can be written one by one."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._page_of: dict[str, int] = {}
        self._members: list[list[str]] = [[]]
        self._weight = [0]

    def __len__(self) -> int:
        return len(self._members)

    def restore(self, page: int, persona_ids: Iterable[str]) -> None:
        """Take the members of a stored page."""
        while len(self._members) <= page:
            self._members.append([])
            self._weight.append(0)
        for persona_id in persona_ids:
            self._put(page, persona_id)

    def touched(self, persona_ids: Iterable[str]) -> list[int]:
        """Return the pages on which these personas stand, giving newcomers a place."""
        return sorted({self._place(persona_id) for persona_id in persona_ids})

    def page(self, number: int, ledger: Ledger, sequence: int) -> CheckpointPage:
        """Return a page with its members' counters as they are now."""
        members = self._members[number]
        pairs = zip(members, ledger.counters(members), strict=True)
        return CheckpointPage(
            sequence=sequence,
            counters={name: (counters.thought_count, counters.last_tick_at) for name, counters in pairs},
            lives=ledger.stored_lives(members),
        )

    def _place(self, persona_id: str) -> int:
        page = self._page_of.get(persona_id)
        if page is None:
            page = len(self._members) - 1
            if self._weight[page] + _weigh(persona_id) > self._most:
                self._members.append([])
                self._weight.append(0)
                page += 1
            self._put(page, persona_id)
        return page

    def _put(self, page: int, persona_id: str) -> None:
        self._page_of[persona_id] = page
        self._members[page].append(persona_id)
        self._weight[page] += _weigh(persona_id)


_COUNTERS_BYTES = 640
"""Of counters and a life: a life with a pause and many responses is the longest."""

_ESCAPED = 2


def _weigh(persona_id: str) -> int:
    """Return the most bytes that a persona takes on a page: quotes and backslashes double in JSON."""
    return len(persona_id.encode()) * _ESCAPED + _COUNTERS_BYTES
