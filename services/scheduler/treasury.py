"""Credits as admission: what thoughts are expected to cost is reserved before they are dispatched [A16].

A thought needs credits of its persona and of all its ancestors, whose accounts the owners of their shards
keep. Nothing here is remembered: reservations are keyed by persona and thought number, and that of the next
thought carries what the last one has really cost.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from libs.bus.connection import Bus
from libs.contracts import subjects
from libs.contracts.accounts import (
    AccountAsk,
    AccountShort,
    AccountsReply,
    AccountsRequest,
    Credits,
    Settlement,
)
from libs.contracts.refusals import Refusal
from libs.contracts.tokens import shard_of
from libs.roster.state import Roster
from services.scheduler.bank import Bank, limits_of
from services.scheduler.owner import Fenced
from services.scheduler.soon import NotYet

K = TypeVar("K")

_WITHIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Want:
    """A thought that is to be thought."""

    persona_id: str
    thought: int
    cost: Credits
    settled: Settlement | None = None
    """What the persona's last thought has cost."""

    payer: str | None = None
    """Whose account pays, with those above it; null: the persona's own."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a thought may be dispatched."""

    granted: bool
    short: AccountShort | None = None
    """Whose credits are out; none where an account could not be asked: try again soon."""


class Treasury:
    """Asks the accounts of whoever wants to think, and of all above it."""

    def __init__(self, bus: Bus, roster: Roster, banks: Mapping[int, Bank]) -> None:
        self._bus = bus
        self._roster = roster
        self._banks = banks

    async def admit(self, wants: list[Want]) -> list[Admission]:
        """Reserve what thoughts are expected to cost, everywhere or nowhere, each by itself."""
        chains = [self._chain(want.payer or want.persona_id) for want in wants]
        asks = {
            (index, account): AccountAsk(account, want.persona_id, want.thought, want.cost, want.settled)
            for index, (want, chain) in enumerate(zip(wants, chains, strict=True))
            for account in chain
        }
        answers = await self._ask(asks)
        found: list[Admission] = []
        given_back: list[AccountAsk] = []
        for index, (want, chain) in enumerate(zip(wants, chains, strict=True)):
            said = [answers.get((index, account), _SILENT) for account in chain]
            short = next((s for s in said if isinstance(s, AccountShort)), None)
            granted = all(answer is None for answer in said)
            if not granted:
                given_back += [
                    AccountAsk(account, want.persona_id, want.thought, release=True)
                    for account, answer in zip(chain, said, strict=True)
                    if answer is None
                ]
            found.append(Admission(granted, short))
        await self._ask(dict(enumerate(given_back)))
        return found

    async def settle(self, persona_id: str, settled: Settlement, payer: str | None = None) -> None:
        """Tell what a thought has cost. Who does not hear it is told with the next reservation."""
        chain = self._chain(payer or persona_id)
        asks = [AccountAsk(a, persona_id, settled.thought, settled=settled) for a in chain]
        await self._ask(dict(enumerate(asks)))

    def least_limits(self, persona_id: str) -> Credits:
        """Return the least that any account of a persona has in a minute, of each kind."""
        limits = [limits_of(self._roster, account) for account in self._chain(persona_id)]
        return Credits(min(one.tokens for one in limits), min(one.cpu_ms for one in limits))

    def root_of(self, persona_id: str) -> str:
        """Return the root of a persona's tree."""
        return self._chain(persona_id)[-1]

    def _chain(self, persona_id: str) -> list[str]:
        """Return a persona and its ancestors, root last."""
        chain = [persona_id]
        while (record := self._roster.personas.get(chain[-1])) and record.identity.parent_id is not None:
            chain.append(record.identity.parent_id)
        return chain

    async def _ask(self, asks: Mapping[K, AccountAsk]) -> dict[K, AccountShort | None]:
        """Return the answers that came, by the keys of their asks."""
        by_shard: dict[int, list[K]] = defaultdict(list)
        for key, ask in asks.items():
            by_shard[shard_of(ask.account)].append(key)
        requests = (self._of_shard(shard, [asks[key] for key in keys]) for shard, keys in by_shard.items())
        replies = await asyncio.gather(*requests)
        return {
            key: short
            for keys, reply in zip(by_shard.values(), replies, strict=True)
            if reply is not None
            for key, short in zip(keys, reply.shorts, strict=True)
        }

    async def _of_shard(self, shard: int, asks: Iterable[AccountAsk]) -> AccountsReply | None:
        """Ask whoever owns a shard: this process, unless another one has taken the shard over meanwhile."""
        request = AccountsRequest(asks=list(asks))
        try:
            if (bank := self._banks.get(shard)) is not None:
                with suppress(Fenced):
                    return await bank.answer(request)
            return await self._bus.ask(subjects.accounts(shard), request, AccountsReply, timeout=_WITHIN_S)
        except (Refusal, NotYet):
            return None


class _Silent:
    """Stands for an answer that did not come."""


_SILENT = _Silent()
