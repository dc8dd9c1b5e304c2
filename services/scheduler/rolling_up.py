"""Roll-ups of a shard's swarms: whether a model may be asked, and what came of it, journaled once [A16, A18].

The root of the tree whose snapshot is the newest pays: what the summary is expected to cost is reserved with
its account as a thought's is, and settled once the roll-up is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from time import time

import msgspec

from libs.bus.endpoints import Request
from libs.bus.loop import Postpone
from libs.cognition.rollup import roll_up_event
from libs.contracts.accounts import AccountShort, Credits, Settlement
from libs.contracts.journal import RollUpCost
from libs.contracts.rollups import (
    ROLL_UP,
    RollUpAnswer,
    RollUpAsk,
    RollUpReply,
    RollUpRequest,
    RollUpTerms,
    spender,
)
from services.scheduler import estimate
from services.scheduler.accounts import window_of
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.notes import Note
from services.scheduler.owner import Fenced, ShardOwner
from services.scheduler.soon import soon
from services.scheduler.treasury import Treasury, Want

_FOLDED_IN = "another roll-up has folded in some of it"

_encode = msgspec.json.Encoder().encode


class RollingUp:
    """Answers compressors for one shard."""

    def __init__(
        self,
        owner: ShardOwner,
        treasury: Treasury | None,
        max_tokens: int,
        metrics: SchedulerMetrics,
        wall: Callable[[], float] = time,
    ) -> None:
        """Without a `treasury` credits are not enforced; a summary has `max_tokens` at most."""
        self._owner = owner
        self._treasury = treasury
        self._max_tokens = max_tokens
        self._metrics = metrics
        self._wall = wall
        self._storing: set[str] = set()

    async def admit(self, message: RollUpAsk, _: Request) -> bytes:
        """Set the expected cost of a summary aside. Raises `Postpone` where an account cannot be asked."""
        behind = self._owner.ledger.roll_ups.behind(message.swarm_id, message.first)
        if behind is not None:
            return _encode(RollUpAnswer(refused=_FOLDED_IN, behind=behind))
        if self._treasury is None:
            return _encode(RollUpAnswer())
        root, window = self._treasury.root_of(message.persona_id), window_of(self._wall())
        last, minute = self._owner.ledger.roll_ups.cost(message.swarm_id)
        least = self._treasury.least_limits(root)
        cost = estimate.summary(last, window - minute, message.chars, self._max_tokens, least)
        number = _number(message.id)
        want = Want(spender(message.swarm_id), number, cost, payer=root)
        (admission,) = await self._treasury.admit([want])
        if admission.short is not None:
            return _encode(RollUpAnswer(refused=_short(admission.short)))
        if not admission.granted:
            raise Postpone(f"the account of {root} cannot be asked")
        return _encode(RollUpAnswer(terms=RollUpTerms(account=root, number=number, window=window)))

    async def store(self, message: RollUpRequest, _: Request) -> bytes:
        """Journal what a swarm remembers, unless some of it is folded in already; settle what it cost."""
        if message.swarm_id in self._storing:
            raise Postpone("one of this swarm is being stored")
        known = self._owner.ledger.roll_ups
        repeated = known.last(message.swarm_id) == message.id
        behind = None if repeated else known.behind(message.swarm_id, message.first)
        if not repeated and behind is None:
            try:
                await soon("storing it", self._journal(message))
            except Fenced as error:
                raise Postpone(str(error)) from error
        await self._settle(message)
        return _encode(RollUpReply(repeated=repeated, behind=behind))

    def _journal(self, message: RollUpRequest) -> asyncio.Future[None]:
        """Have it stored once, whoever waits for that."""
        now = datetime.fromtimestamp(self._wall(), UTC)
        note = Note(events=[roll_up_event(message, now)], rolled_up=[(message.swarm_id, message.id)])
        if message.last is not None:
            note.folded_in[message.swarm_id] = message.last
        if message.spent.thoughts:
            note.roll_up_costs.append(RollUpCost(message.swarm_id, now, message.spent))
        self._storing.add(message.swarm_id)
        stored = self._owner.begin(note)
        stored.add_done_callback(lambda _: self._over(message, stored))
        return stored

    def _over(self, message: RollUpRequest, stored: asyncio.Future[None]) -> None:
        self._storing.discard(message.swarm_id)
        if message.spent.thoughts and not stored.cancelled() and stored.exception() is None:
            self._metrics.spent.add(message.swarm_id, ROLL_UP, message.spent)

    async def _settle(self, message: RollUpRequest) -> None:
        """Tell the account that pays. Where that does not hear it, the expected cost stays its own."""
        terms, spent = message.terms, message.spent
        if self._treasury is not None and terms is not None:
            settled = Settlement(terms.number, terms.window, Credits(spent.tokens, spent.cpu_ms))
            await self._treasury.settle(spender(message.swarm_id), settled, terms.account)


def _number(roll_up_id: str) -> int:
    """Return what stands for a thought's number in accounts: the same for the same roll-up."""
    return int.from_bytes(sha256(roll_up_id.encode()).digest()[:6])


def _short(short: AccountShort) -> str:
    return (
        f"no credits: a summary is expected to cost {short.cost} {short.credit}, and {short.account} has "
        f"committed {short.committed} of the {short.limit} of this minute"
    )
