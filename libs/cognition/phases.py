"""The loop's phases by thought count [3.1]."""

from __future__ import annotations

from libs.contracts.thoughts import EventType, Phase

_CYCLE = (Phase.COMPRESS, Phase.OBSERVE, Phase.REFLECT, Phase.TEST)
_EVENT = {
    Phase.OBSERVE: EventType.THOUGHT_GENERATED,
    Phase.REFLECT: EventType.HYPOTHESIS_RAISED,
    Phase.TEST: EventType.CHECK_REQUESTED,
    Phase.COMPRESS: EventType.SNAPSHOT_COMPRESSED,
}


def phase_of(thought_count: int) -> Phase:
    """Return the phase of a persona's n-th thought, n from 1."""
    return _CYCLE[thought_count % 4]


def event_of(phase: Phase) -> EventType:
    """Return the type of the event that carries a phase's thought."""
    return _EVENT[phase]


def makes_proposal(thought_count: int) -> bool:
    """Whether the n-th thought, a reflect phase, also makes a proposal [3.8]."""
    return thought_count % 8 == 2
