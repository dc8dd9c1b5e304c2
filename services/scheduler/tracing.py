"""The trace of a thought as its shard's owner sees it: from its dispatch until it is stored.

A thought that takes up messages goes on in the trace of the best of them whose call is sampled, so that one
trace leads from the call to what came of it; the calls of the others are links. Any other thought begins a
trace of its own, if that is sampled.
"""

from __future__ import annotations

from collections.abc import Sequence

from libs.contracts.personas import PersonaIdentity
from libs.contracts.work import TakenItem
from libs.tracing.spans import Span, Tracer, thought_attributes
from services.scheduler.inbox import Inbox

TRACED_MOST = 4
"""Thoughts that go on in the trace of one item's call."""

_THOUGHT = "thought"
_QUEUE = "queue wait"
_HANDED_OVER = "perpetua.thought.handed_over"


class ThoughtTrace:
    """The span of a thought, and within it of its wait for a thinker."""

    __slots__ = ("_span", "_waiting", "traceparent")

    def __init__(self, span: Span) -> None:
        self.traceparent = span.traceparent
        self._span = span
        self._waiting = span.child(_QUEUE)

    def granted(self) -> None:
        """Note that a thinker has it; again changes nothing."""
        self._waiting.end()

    def hand_over(self) -> None:
        """Note that another process owns the shard from now on, which goes on below this span."""
        self._span.note({_HANDED_OVER: True})
        self.end()

    def end(self) -> None:
        """Note that it is stored, or no longer wanted."""
        self._waiting.end()
        self._span.end()


def traced(
    tracer: Tracer, identity: PersonaIdentity, thought_count: int, calls: Sequence[str]
) -> ThoughtTrace | None:
    """Begin the trace of a thought, in the first of those of `calls`; None where it is not sampled."""
    about = thought_attributes(identity.id, identity.swarm_id, thought_count)
    parent, *others = calls or (None,)
    span = tracer.begin(_THOUGHT, "internal", parent, [call for call in others if call], about)
    return ThoughtTrace(span) if span is not None else None


def take_calls(inbox: Inbox, taken: Sequence[TakenItem]) -> list[str]:
    """Return the traces of the calls that have sent what a thought takes up, best first, each once.

    An item counts so often at most: where no model can be asked it is taken up at every tick, for ever.
    """
    calls: dict[str, None] = {}
    for one in taken:
        held = inbox.get(one.sequence)
        if held is not None and held.item.traceparent is not None and held.traced < TRACED_MOST:
            held.traced += 1
            calls[held.item.traceparent] = None
    return list(calls)
