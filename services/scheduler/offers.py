"""Who of this scheduler's personas gets a place to answer a swarm-wide post, and who waits for answers [A5].

Each copy of a post waits in its inbox until its persona has a place, or as many have answered as may. First
come by priority and relevance: the less a post concerns a persona, the later it asks. A place that is given
back is offered again in the same way: of whoever declines, is reaped, loses its copy, or does not use it.

Everything is done by looking at a post: at what its key says, what inboxes hold and what journals have
decided. So a look may be repeated, and what one owner of a shard has not done the next one does. It waits a
while for the journals, and then goes on without those that have not answered: one may have no room for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import structlog

from libs.bus.errors import BusError
from libs.concurrency.tasks import Background
from libs.concurrency.waiting import set_within
from libs.contracts.inbox import Post
from libs.contracts.tokens import shard_of
from services.scheduler import places
from services.scheduler.inbox import Held
from services.scheduler.notes import Note
from services.scheduler.owner import ShardOwner
from services.scheduler.posts import Posts
from services.scheduler.priority import URGENT
from services.scheduler.soon import ANSWERED_WITHIN_S

log = structlog.get_logger("offers")

HOLD_BACK_S = 0.5
"""So many seconds later than the most concerned does the least concerned persona ask."""

UNUSED_S = 10.0
"""Seconds after which a place that no thought uses goes to others who want it; each time twice as long."""

WAITS_S = 30.0
"""For so long after the last change of a post, in seconds, a copy waits for a place or for the answers."""

_PATIENCE_MOST = 64
_AGAIN_S = 0.5
_SOON_S = 1.0

News = Callable[[str, bool], None]
"""Is told the persona that may take something up, and whether it is urgent."""


@dataclass(slots=True, eq=False)
class Copy:
    """A persona's copy of a post that waits, or has a place."""

    held: Held
    asks_from: float
    """Monotonic time in seconds."""

    has_place: bool = False
    unused_since: float = 0.0
    unused: int = 0
    """How often its place was taken from it unused."""

    @property
    def patience(self) -> float:
        """Seconds for which it may leave a place unused."""
        return UNUSED_S * min(1 << self.unused, _PATIENCE_MOST)

    def asks_at(self, room_since: float) -> float:
        """Return when it asks for a place, where one is free since then."""
        return max(self.asks_from, room_since) + HOLD_BACK_S * (100 - self.held.base) / 100


@dataclass(slots=True, eq=False)
class Desk:
    """What this scheduler has to do with one post."""

    copies: dict[str, Copy] = field(default_factory=dict)
    """By persona."""

    room_since: float = 0.0
    """When a place was last seen to be free again."""


class Offers:
    """Looks after posts: of those shards whose inboxes are open."""

    def __init__(self, posts: Posts, news: News, boot: str) -> None:
        self._posts = posts
        self._news = news
        self._boot = boot
        self._owners: dict[int, ShardOwner] = {}
        self._loaded: set[int] = set()
        self._desks: dict[str, Desk] = {}
        self._due: dict[str, float] = {}
        self._looking: set[str] = set()
        self._storing: dict[str, dict[str, asyncio.Future[None]]] = {}
        """By post and persona whose copy is gone: done once what was under way then is in the journal."""

        self._wake = asyncio.Event()

    def enter(self, owner: ShardOwner) -> None:
        """Take in copies of a shard's personas from now on."""
        self._owners[owner.shard] = owner

    def loaded(self, owner: ShardOwner) -> None:
        """Take it that the shard's inboxes hold whatever the last owner's have held."""
        self._loaded.add(owner.shard)
        self.decided(owner)
        for post in self._posts.known():
            if any(shard_of(persona_id) == owner.shard for persona_id in places.undecided(post)):
                self._look_at(post.id)

    def leave(self, owner: ShardOwner) -> None:
        """Have no more to do with a shard."""
        self._owners.pop(owner.shard, None)
        self._loaded.discard(owner.shard)
        for storing in self._storing.values():
            for persona_id in [name for name in storing if shard_of(name) == owner.shard]:
                del storing[persona_id]
        for desk in self._desks.values():
            for persona_id in [name for name in desk.copies if shard_of(name) == owner.shard]:
                del desk.copies[persona_id]

    def copied(self, held: Held) -> None:
        """Take note that a copy of a post has come into an inbox, or has left it without a thought."""
        post_id, persona_id = held.item.post_id, held.item.persona_id
        assert post_id is not None
        desk = self._desks.setdefault(post_id, Desk())
        known = desk.copies.get(persona_id)
        if not self._holds(held) or (known is not None and known.held is held):
            return self._look_at(post_id)
        if known is not None:  # the post was sent again: its persona has one place, not two
            known.held.may_answer = False
        copy = desk.copies[persona_id] = Copy(held, _now())
        held.may_answer = False
        _waits(held)
        return self._look_at(post_id, copy.asks_at(desk.room_since))

    def decided(self, owner: ShardOwner) -> None:
        """Take note of what the shard's journal says of decisions on posts."""
        for post_id, _ in owner.ledger.decisions:
            self._look_at(post_id)

    def changed(self, before: Post | None, post: Post) -> None:
        """Take note of what has become of a post."""
        desk = self._desks.get(post.id)
        if desk is not None:
            if places.has_room(post) and before is not None and not places.has_room(before):
                desk.room_since = _now()
            for copy in desk.copies.values():
                if not copy.has_place:
                    _waits(copy.held)
        if desk is not None or any(shard_of(name) in self._loaded for name in places.undecided(post)):
            self._look_at(post.id)

    async def run(self) -> None:
        """Look at posts when it is time, until cancelled."""
        async with Background() as tasks:
            while True:
                self._wake.clear()
                now = _now()
                for post_id in [name for name, at in self._due.items() if at <= now]:
                    if post_id not in self._looking:
                        del self._due[post_id]
                        self._looking.add(post_id)
                        tasks.create_task(self._look(post_id), name="look-at-post")
                at = min((at for name, at in self._due.items() if name not in self._looking), default=None)
                await set_within(self._wake, None if at is None else max(at - now, 0.0))

    def _look_at(self, post_id: str, at: float = 0.0) -> None:
        """Look at a post at a monotonic time, at the latest."""
        self._due[post_id] = min(at, self._due.get(post_id, at))
        self._wake.set()

    async def _look(self, post_id: str) -> None:
        try:
            await self._tell(post_id)
            again = await self._attend(post_id)
        except BusError as error:  # perhaps `Fenced`: then that shard will have left by then
            log.debug("post_not_changed", post=post_id, error=str(error))
            again = _now() + _AGAIN_S
        finally:
            self._looking.discard(post_id)
        if again is not None:
            self._look_at(post_id, again)
        self._wake.set()

    async def _tell(self, post_id: str) -> None:
        """Have a post say what the journals of our shards have decided on it."""
        for shard in list(self._loaded):
            if (owner := self._owners.get(shard)) is None:
                continue
            decisions = owner.ledger.decisions
            for key, one in [(key, one) for key, one in decisions.items() if one.post_id == post_id]:
                await self._posts.change(post_id, partial(places.decided, decision=one))
                if decisions.get(key) is one:
                    del decisions[key]

    async def _attend(self, post_id: str) -> float | None:
        """Do what is to be done about a post, and return when to look at it again."""
        post = self._posts.get(post_id) or await self._posts.change(post_id, lambda post: post)
        desk = self._desks.get(post_id, Desk())
        self._forget_gone(desk)
        if post is None or places.is_complete(post):
            self._let_read(desk, set() if post is None else set(post.granted))
            self._desks.pop(post_id, None)
        if post is None:
            self._storing.pop(post_id, None)
            return None
        returned = await self._give_back(post)
        if places.is_complete(post):
            return returned
        times = [returned, await self._take_back(post, desk), await self._ask(post_id, desk)]
        if desk.copies:
            times.append(_now() + 2 * WAITS_S)  # perhaps they are read by then
        elif self._desks.get(post_id) is desk:
            del self._desks[post_id]
        return min((at for at in times if at is not None), default=None)

    def _holds(self, held: Held) -> bool:
        """Whether an inbox of ours holds a copy."""
        owner = self._owners.get(shard_of(held.item.persona_id))
        entry = owner.ledger.known(held.item.persona_id) if owner is not None else None
        return entry is not None and entry.inbox is not None and entry.inbox.get(held.sequence) is held

    def _in_flight(self, persona_id: str) -> bool:
        owner = self._owners.get(shard_of(persona_id))
        return owner is not None and owner.dispatches.in_flight(persona_id)

    def _forget_gone(self, desk: Desk) -> None:
        for persona_id in [name for name, copy in desk.copies.items() if not self._holds(copy.held)]:
            del desk.copies[persona_id]

    def _let_read(self, desk: Desk, granted: set[str]) -> None:
        """Have those read the post who are not to answer it any more."""
        for persona_id, copy in desk.copies.items():
            copy.held.may_answer = persona_id in granted
            self._free(copy.held)

    def _free(self, held: Held) -> None:
        held.not_before = 0.0
        self._news(held.item.persona_id, held.base > URGENT)

    async def _give_back(self, post: Post) -> float | None:
        """Free places of personas of ours whose copies are gone, and that have not answered."""
        vacant = [name for name in places.undecided(post) if self._is_vacant(post.id, name)]
        idle = [name for name in vacant if not self._in_flight(name)]
        before = self._storing.pop(post.id, {})
        storing = {name: before.get(name) or self._owners[shard_of(name)].begin(Note()) for name in idle}
        self._storing[post.id] = storing
        await _a_while(stored for name, stored in storing.items() if name not in before)
        for persona_id, stored in [(name, stored) for name, stored in storing.items() if stored.done()]:
            storing.pop(persona_id, None)
            if _is_well(stored) and self._is_vacant(post.id, persona_id):
                await self._posts.change(post.id, partial(places.given_back, persona_id=persona_id))
        if not storing:
            del self._storing[post.id]
        return _now() + _SOON_S if storing or len(idle) < len(vacant) else None

    def _is_vacant(self, post_id: str, persona_id: str) -> bool:
        """Whether a place is of a persona of ours that has no copy, and on which nothing is to be told."""
        shard = shard_of(persona_id)
        desk = self._desks.get(post_id)
        copy = desk.copies.get(persona_id) if desk is not None else None
        return (
            shard in self._loaded
            and (copy is None or not self._holds(copy.held))
            and (post_id, persona_id) not in self._owners[shard].ledger.decisions
        )

    async def _take_back(self, post: Post, desk: Desk) -> float | None:
        """Take places from personas that have long left them unused, where others want them."""
        times: list[float] = []
        unused: list[str] = []
        for persona_id, copy in desk.copies.items():
            if not copy.has_place or not self._holds(copy.held):
                continue
            if self._in_flight(persona_id):
                copy.unused_since = _now()
            if post.wanted and copy.unused_since + copy.patience <= _now():
                copy.has_place = copy.held.may_answer = False
                copy.unused += 1
                copy.asks_from = _now() + 2 * HOLD_BACK_S
                _waits(copy.held)
                unused.append(persona_id)
            elif post.wanted:
                times.append(copy.unused_since + copy.patience)
        ours = await self._still_ours({shard_of(persona_id) for persona_id in unused})
        for persona_id in unused:
            if shard_of(persona_id) in ours:
                if (late := desk.copies.get(persona_id)) is not None:  # however long its journal took
                    late.asks_from = _now() + 2 * HOLD_BACK_S
                await self._posts.change(
                    post.id, partial(places.unused, persona_id=persona_id, boot=self._boot)
                )
        return min(times, default=None)

    async def _still_ours(self, shards: Iterable[int]) -> set[int]:
        """Return those of these shards that are not another's by now, as their journals say."""
        asked = {shard: owner.confirm() for shard in shards if (owner := self._owners.get(shard)) is not None}
        await _a_while(asked.values())
        return {shard for shard, confirmed in asked.items() if _is_well(confirmed)}

    async def _ask(self, post_id: str, desk: Desk) -> float | None:
        """Ask for places for those whose time has come."""
        post = self._posts.get(post_id)
        waiting = [copy for copy in desk.copies.values() if not copy.has_place]
        if post is None or not waiting:
            return None
        now = _now()
        ready = [
            copy for copy in waiting if copy.asks_at(desk.room_since) <= now and not self._is_taken(copy)
        ]
        ready.sort(key=lambda copy: copy.asks_at(desk.room_since))
        granted = set(post.granted)
        if ready and (
            places.has_room(post)
            or not post.wanted
            or any(copy.held.item.persona_id in granted for copy in ready)
        ):
            askers = [(copy.held.item.persona_id, copy.held.sequence) for copy in ready]
            post = await self._posts.change(post_id, partial(places.asked, askers=askers, boot=self._boot))
            self._seat(ready, post)
        if post is None or (post.wanted and not places.has_room(post)):
            return None
        times = [
            now + _SOON_S if self._is_taken(copy) else copy.asks_at(desk.room_since)
            for copy in waiting
            if not copy.has_place
        ]
        return min(times, default=None)

    def _is_taken(self, copy: Copy) -> bool:
        """Whether a thought under way has the copy in its prompt, as one that it may not answer."""
        return copy.held.taken_up and self._in_flight(copy.held.item.persona_id)

    def _seat(self, ready: list[Copy], post: Post | None) -> None:
        """Have those take the post up who have a place by now."""
        for copy in ready:
            if post is not None and copy.held.item.persona_id in post.granted and self._holds(copy.held):
                copy.has_place = copy.held.may_answer = True
                copy.unused_since = _now()
                self._free(copy.held)


async def _a_while(answers: Iterable[asyncio.Future[None]]) -> None:
    """Wait for journals, as long as whoever asks their owners anything does."""
    if waiting := [one for one in answers if not one.done()]:
        await asyncio.wait(waiting, timeout=ANSWERED_WITHIN_S)


def _is_well(answer: asyncio.Future[None]) -> bool:
    return answer.done() and not answer.cancelled() and answer.exception() is None


def _waits(held: Held) -> None:
    held.not_before = max(held.not_before, _now() + WAITS_S)


def _now() -> float:
    return asyncio.get_running_loop().time()
