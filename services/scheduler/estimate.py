"""What a thought is expected to cost [A16]. Pure."""

from __future__ import annotations

from libs.contracts.accounts import Credits
from services.scheduler.account import NOTHING
from services.scheduler.ledger import PersonaLedger

MARGIN = 1.2
"""A thought is expected to cost so many times what the last one did."""

FIRST_CPU_MS = 1000
_BYTES_A_TOKEN = 3
_CONTEXT_TOKENS = 640
"""Of the system prompt and eight events."""

_FRAME_TOKENS = 200
"""Of a summary's system prompt and question."""


def expected(entry: PersonaLedger, charter: str, max_tokens: int, least: Credits, minute: int) -> Credits:
    """Return the expected cost of a persona's next thought in a minute; `least` is what its accounts allow.

    A persona whose last thought is known is expected to spend a fifth more than that. What is more than a
    minute allows is expected to take all of one once the minutes since that thought allow it together: so
    one slow thought ends nobody, and who always costs more thinks that much less often. Of others nothing is
    known but the lengths of what they are told, so their expectation is never more than `least`. It is at
    least 1.
    """
    life, told = entry.life, _told(entry)
    if life is not None and life.cost != NOTHING:
        return _known(life.cost, told, least, minute - life.minute)
    return _first(len(charter) // _BYTES_A_TOKEN + _CONTEXT_TOKENS + max_tokens + told, least)


def summary(last: Credits, minutes: int, chars: int, max_tokens: int, least: Credits) -> Credits:
    """Return the expected cost of summing so many characters up, by the same rules.

    `last` is what its swarm's last summary has cost, as many minutes ago; nothing where that is not known.
    """
    if last != NOTHING:
        return _known(last, 0, least, minutes)
    return _first(chars // _BYTES_A_TOKEN + _FRAME_TOKENS + max_tokens, least)


def _known(last: Credits, told: int, least: Credits, minutes: int) -> Credits:
    return Credits(
        _spread(int(last.tokens * MARGIN) + told, least.tokens, minutes),
        _spread(int(last.cpu_ms * MARGIN), least.cpu_ms, minutes),
    )


def _first(tokens: int, least: Credits) -> Credits:
    return Credits(max(min(tokens, least.tokens), 1), max(min(FIRST_CPU_MS, least.cpu_ms), 1))


def _spread(cost: int, least: int, minutes: int) -> int:
    """Minutes below 0 are those by which the clock was set back: else none passed until it is there again."""
    return least if least < cost <= least * abs(minutes) else max(cost, 1)


def _told(entry: PersonaLedger) -> int:
    """Return about how many tokens the items that may be taken up have."""
    if not entry.inbox:
        return 0
    best = entry.inbox.best(float("inf"))
    return sum(len(held.item.content) for held in best) // _BYTES_A_TOKEN
