"""How sources share what room a prompt has for context [H13]. Pure; sizes are in tokens.

Each source has its floor first, messages before events before what the swarm remembers. What no floor has
used they share, a unit each in turn, so that none has it all. A unit goes whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

INBOX = "inbox"
CONTEXT = "context"
SHARED = "shared"
ORDER = (INBOX, CONTEXT, SHARED)

SATISFIED, FLOOR, DROPPED = "satisfied", "floor", "dropped"

_FLOORS = 8
"""A floor is the whole by this. With three sources one message may so have three quarters of it: who is
written to at length is better told that than all it remembers."""


class Source(Struct, frozen=True):
    """What a source has to tell."""

    sizes: list[int]
    """Of its units, the most wanted first."""

    may_skip: bool = False
    """A unit may be told though one before it has no room; of events no older one may."""


class Share(Struct, frozen=True):
    """What a source has room for."""

    taken: list[int]
    """Indices of its units, the most wanted first."""

    units: int
    hopeless: list[int] = []
    """Indices of units that would have no room, were they the first of their source."""

    @property
    def allocation(self) -> str:
        """Return it in a word: all that the source has, part of it, or nothing."""
        if len(self.taken) == self.units:
            return SATISFIED
        return FLOOR if self.taken else DROPPED


def floor_of(whole: int) -> int:
    """Return what each source has before any has more."""
    return max(whole, 0) // _FLOORS


def leading(sizes: list[int], room: int) -> list[int]:
    """Return the sizes of the first units that fit."""
    for count, size in enumerate(sizes):
        if size > room:
            return sizes[:count]
        room -= size
    return sizes


def allocate(sources: Mapping[str, Source], room: int, floor: int) -> dict[str, Share]:
    """Return what each source has of the room; there may be less of it than the floors need."""
    room = max(room, 0)
    taken: dict[str, list[int]] = {}
    used: dict[str, int] = {}
    for name in ORDER:
        first = leading(sources[name].sizes, min(floor, room))
        taken[name], used[name] = list(range(len(first))), sum(first)
        room -= used[name]
    alone = {name: room + used[name] for name in ORDER}
    _share(sources, taken, room)
    return {name: _shared(sources[name], taken[name], alone[name]) for name in ORDER}


def _share(sources: Mapping[str, Source], taken: dict[str, list[int]], room: int) -> None:
    """Give each source in turn its next unit that fits, until no more do."""
    waiting = {name: list(range(len(taken[name]), len(sources[name].sizes))) for name in ORDER}
    while any(waiting.values()):
        for name in ORDER:
            sizes = sources[name].sizes
            while waiting[name]:
                unit = waiting[name].pop(0)
                if sizes[unit] <= room:
                    room -= sizes[unit]
                    taken[name].append(unit)
                    break
                if not sources[name].may_skip:
                    waiting[name].clear()


def _shared(source: Source, taken: list[int], alone: int) -> Share:
    left = set(range(len(source.sizes))) - set(taken)
    return Share(taken, len(source.sizes), sorted(unit for unit in left if source.sizes[unit] > alone))
