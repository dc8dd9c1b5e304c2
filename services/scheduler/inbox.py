"""A persona's inbox [A2, A4, A5]. Pure: times are seconds of a monotonic clock that the caller reads.

It holds what is stored in the INBOX stream; an item leaves it only when the stream may forget it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import islice, takewhile

from msgspec import Struct

from libs.contracts.inbox import HeldItem, InboxItem
from libs.contracts.limits import INBOX_ITEMS, ITEMS_A_THOUGHT
from services.scheduler.mail import Standing

AGED_S = 30.0
"""Seconds of waiting after which an item is as urgent as waiting makes it [A4]."""

AGING = 50.0
"""Hundredths of priority that waiting adds in that time."""

RETRY_S = 2.0
"""Wait before an item's second attempt, in seconds; doubled with each further one."""


class Held(Struct, gc=False, eq=False):
    """An item in an inbox."""

    sequence: int
    """Its place in the INBOX stream."""

    standing: Standing
    """What the journal says of it."""

    arrived: float
    """Monotonic time in seconds."""

    item: InboxItem
    not_before: float = 0.0
    """Monotonic time of its next attempt."""

    taken_up: bool = False
    """A thought that is under way has it in its prompt: nobody else takes it, and it does not give way."""

    traced: int = 0
    """Thoughts that took it up in the trace of its call."""

    may_answer: bool = True
    """False: others answer the swarm-wide post that this is a copy of [A5]."""

    @property
    def base(self) -> int:
        """Its priority when it arrived, in hundredths [A3]."""
        return self.standing.base

    @property
    def attempts(self) -> int:
        """Thoughts that took it up and came to nothing."""
        return self.standing.attempts

    def pause(self, now: float) -> None:
        """Have it wait before its next attempt: 2 s, then 4 s, and so on; not where none has failed."""
        if self.attempts:
            self.not_before = now + RETRY_S * 2 ** (self.attempts - 1)

    def is_aged(self, now: float) -> bool:
        """Whether it has waited so long that waiting adds no more."""
        return now - self.arrived >= AGED_S

    def effective(self, now: float) -> float:
        """Return its priority in hundredths with what waiting has added: 0 to 150 [A4]."""
        return self.standing.base + AGING * min(max(now - self.arrived, 0.0) / AGED_S, 1.0)


class Inbox:
    """At most 1000 items, by effective priority, ties by arrival.

    There is a bucket for each base priority, in order of arrival, so the best and the worst of a bucket stand
    at its ends, and nothing has to be sorted anew while items age. Adding to a full inbox looks at one item
    of each bucket, of which there are at most 101. An empty inbox takes 200 bytes: make one when something
    comes.
    """

    __slots__ = ("_buckets", "_held", "_most")

    def __init__(self, most: int = INBOX_ITEMS) -> None:
        self._most = most
        self._held: dict[int, Held] = {}
        self._buckets: dict[int, dict[int, Held]] = {}

    def __len__(self) -> int:
        """How many items it holds, with those that are taken up: the inbox load [A6]."""
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        """Yield what it holds, in no order that matters."""
        return iter(self._held.values())

    def __contains__(self, sequence: int) -> bool:
        return sequence in self._held

    def get(self, sequence: int) -> Held | None:
        """Return an item by its place in the stream."""
        return self._held.get(sequence)

    def add(self, held: Held, now: float) -> Held | None:
        """Add an item and return the one that gives way, perhaps itself; None where there is room [A2].

        The worst by effective priority gives way, of equals the one that came last. An item that is held
        already changes nothing.
        """
        if held.sequence in self._held:
            return None
        self._put(held)
        if len(self._held) <= self._most:
            return None
        worst = self._worst(now) or held
        self.remove(worst.sequence)
        return worst

    def remove(self, sequence: int) -> Held | None:
        """Let go of an item: it is handled, set aside or dropped. Return it, None where it is not held."""
        held = self._held.pop(sequence, None)
        if held is not None:
            bucket = self._buckets[held.base]
            del bucket[sequence]
            if not bucket:
                del self._buckets[held.base]
        return held

    def best(self, now: float, above: float = -1.0, most: int = ITEMS_A_THOUGHT) -> list[Held]:
        """Return the best items that may be taken up now, best first.

        Those whose effective priority is not above `above` hundredths are left for later [A9], until they
        have waited 30 s. Aging ends there: what is not above it by then never would be, and what waits keeps
        the mood as it is [A4]. Where more would do than there are places, the last place is for the one that
        has waited longest, once it has waited so long: a standing backlog of better ones would starve it.
        """
        chosen = list(islice(self._in_order(now, above), most))
        if len(chosen) == most > 1:
            oldest = self._oldest(now)
            if oldest is not None and oldest not in chosen and oldest.is_aged(now):
                chosen[-1] = oldest
        return chosen

    def highest_base(self, now: float) -> int | None:
        """Return the highest base priority of what may be taken up now [A12]; None where nothing may."""
        return max((base for base, bucket in self._buckets.items() if _first(bucket, now)), default=None)

    def next_retry(self, now: float) -> float | None:
        """Return when the first item that waits for another attempt may be taken up; None if none waits."""
        waiting = (h.not_before for h in self._held.values() if h.not_before > now and not h.taken_up)
        return min(waiting, default=None)

    def take_up(self, sequences: Iterable[int]) -> None:
        """Note that a thought has these in its prompt; those not held are passed over."""
        for sequence in sequences:
            if (held := self._held.get(sequence)) is not None:
                held.taken_up = True

    def put_back(self, sequences: Iterable[int]) -> None:
        """Have these taken up again, as if they never had been: nothing tried them."""
        for sequence in sequences:
            if (held := self._held.get(sequence)) is not None:
                held.taken_up = False

    def returned(self, sequence: int, now: float) -> None:
        """Have an item taken up again after 2 s: no model could be asked, which counts as no attempt."""
        if (held := self._held.get(sequence)) is not None:
            held.taken_up = False
            held.not_before = now + RETRY_S

    def put_all_back(self) -> None:
        """Have nothing taken up: no thought is under way."""
        for held in self._held.values():
            held.taken_up = False

    def failed(self, sequence: int, now: float) -> None:
        """Have an item taken up again, later: an attempt, counted by now, came to nothing."""
        if (held := self._held.get(sequence)) is not None:
            held.taken_up = False
            held.pause(now)

    def shown(self, now: float) -> list[HeldItem]:
        """Return everything it holds for showing, best first."""
        return [_shown(held, now) for held in sorted(self._held.values(), key=_by_priority(now))]

    def _put(self, held: Held) -> None:
        self._held[held.sequence] = held
        bucket = self._buckets.setdefault(held.base, {})
        last = next(reversed(bucket.values()), None)
        bucket[held.sequence] = held
        if last is not None and _arrival(held) < _arrival(last):
            self._buckets[held.base] = dict(sorted(bucket.items(), key=lambda pair: _arrival(pair[1])))

    def _worst(self, now: float) -> Held | None:
        tails = (_last_free(bucket) for bucket in self._buckets.values())
        return max((held for held in tails if held is not None), key=_by_priority(now), default=None)

    def _in_order(self, now: float, above: float) -> Iterator[Held]:
        """Yield what may be taken up and is above a priority or aged, best first.

        Of a bucket that is what came first: it has waited longest.
        """

        def engages(held: Held) -> bool:
            return held.effective(now) > above or held.is_aged(now)

        free = ((h for h in bucket.values() if _is_free(h, now)) for bucket in self._buckets.values())
        return merge(*(takewhile(engages, some) for some in free), key=_by_priority(now))

    def _oldest(self, now: float) -> Held | None:
        heads = (_first(bucket, now) for bucket in self._buckets.values())
        return min((held for held in heads if held is not None), key=_arrival, default=None)


def _is_free(held: Held, now: float) -> bool:
    return not held.taken_up and held.not_before <= now


def _first(bucket: dict[int, Held], now: float) -> Held | None:
    return next((held for held in bucket.values() if _is_free(held, now)), None)


def _last_free(bucket: dict[int, Held]) -> Held | None:
    return next((held for held in reversed(bucket.values()) if not held.taken_up), None)


def _arrival(held: Held) -> tuple[float, int]:
    return held.arrived, held.sequence


def _by_priority(now: float) -> Callable[[Held], tuple[float, float, int]]:
    return lambda held: (-held.effective(now), held.arrived, held.sequence)


def _shown(held: Held, now: float) -> HeldItem:
    return HeldItem(
        id=held.item.id,
        domain=held.item.domain,
        source_id=held.item.source_id,
        content=held.item.content,
        timestamp=held.item.timestamp,
        base_priority=held.base / 100,
        effective_priority=round(held.effective(now) / 100, 3),
        waited_s=round(max(now - held.arrived, 0.0), 3),
        attempts=held.attempts,
        taken_up=held.taken_up,
    )
