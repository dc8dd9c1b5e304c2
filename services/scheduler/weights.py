"""How many bytes a thought takes in a record, and which thoughts no stream would take. Pure."""

from __future__ import annotations

from libs.contracts.journal import ThoughtEntry
from libs.contracts.limits import EVENT_BYTES, THOUGHT_BYTES

TOO_LARGE = f"the thought weighs more than {THOUGHT_BYTES} bytes, or an event of it more than {EVENT_BYTES}"

_ENTRY_OVERHEAD = 256
_EFFORT_BYTES = 2 * 1024
"""With the longest role, a signature and ten items."""

_EVENT_HEADROOM = 2 * 1024
"""For an event's subject and headers, which its stream counts as well."""


def fits(thought: ThoughtEntry) -> bool:
    """Whether a thought can be stored and then published: what no stream takes would stop all publishing."""
    heaviest = max([len(event) for _, event in thought.events], default=0)
    return weigh(thought) <= THOUGHT_BYTES and heaviest + _EVENT_HEADROOM <= EVENT_BYTES


def weigh(thought: ThoughtEntry) -> int:
    """Return about how many bytes a thought takes in a record, and no less."""
    effort = _EFFORT_BYTES if thought.effort is not None else 0
    return _ENTRY_OVERHEAD + effort + sum([len(event) for _, event in thought.events])
