"""The accounts of a shard's personas, for owners of whoever spends their credits [A16]."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import time

from libs.contracts.accounts import AccountAsk, AccountShort, AccountsReply, AccountsRequest, Credits
from libs.roster.state import Roster
from services.scheduler.accounts import Accounts, window_of
from services.scheduler.notes import Note
from services.scheduler.owner import ShardOwner
from services.scheduler.soon import NotYet, soon


class Bank:
    """Answers once what it grants stands in the journal: a new owner knows of it."""

    def __init__(self, owner: ShardOwner, roster: Roster, wall: Callable[[], float] = time) -> None:
        self._owner = owner
        self._roster = roster
        self._wall = wall
        self._newest: asyncio.Future[None] | None = None
        """Done once every change so far is stored; None before the first."""

        self._is_late = False
        """Whether some were not stored in time."""

    async def answer(self, request: AccountsRequest) -> AccountsReply:
        """Settle, reserve and release.

        Raises `Fenced` where this process gives the shard up, and `NotYet` where the journal does not take
        the changes in time. Until it has taken them no others are made: they would grow without a bound.
        """
        if self._newest is not None and self._is_late and not self._newest.done():
            raise NotYet(f"the journal of shard {self._owner.shard} has no room")
        accounts, window = self._owner.ledger.accounts, window_of(self._wall())
        accounts.forget(window)
        shorts = [self._carry_out(accounts, ask, window) for ask in request.asks]
        changes = accounts.take_changes()
        if changes:
            self._newest = self._owner.begin(Note(credits=changes))
        if self._newest is not None:  # what was granted before, and is asked again, may be unstored still
            await self._until_stored(self._newest)
        return AccountsReply(window=window, shorts=shorts)

    async def _until_stored(self, newest: asyncio.Future[None]) -> None:
        try:
            await soon(f"storing credits of shard {self._owner.shard}", newest)
        except NotYet:
            self._is_late = True
            raise
        self._is_late = False

    def share_left(self, persona_id: str) -> float:
        """Return which part of this minute's credits a persona has left, 0 to 1."""
        window = window_of(self._wall())
        return self._owner.ledger.accounts.share_left(persona_id, self._limits(persona_id), window)

    def _carry_out(self, accounts: Accounts, ask: AccountAsk, window: int) -> AccountShort | None:
        if ask.settled is not None:
            settled = ask.settled
            accounts.settle(ask.account, ask.persona_id, settled.thought, settled.window, settled.cost)
        if ask.release:
            accounts.release(ask.account, ask.persona_id, ask.thought)
        if ask.reserve is None:
            return None
        short = accounts.reserve(
            ask.account, self._limits(ask.account), ask.persona_id, ask.thought, window, ask.reserve
        )
        if short is None:
            return None
        return AccountShort(short.account, short.credit, short.limit, short.committed, short.cost)

    def _limits(self, account: str) -> Credits:
        return limits_of(self._roster, account)


def limits_of(roster: Roster, account: str) -> Credits:
    """Return what a persona may spend in a minute; nothing where there is none of that id."""
    record = roster.personas.get(account)
    if record is None:
        return Credits(0, 0)
    return Credits(record.policy.token_credits_per_minute, record.policy.cpu_credits_per_minute)
