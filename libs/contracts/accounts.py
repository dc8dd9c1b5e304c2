"""Credits: what thinking costs, and what the owner of an account journals and stores of it [A16].

A window is a whole minute of UTC, named by its number: seconds since the epoch divided by 60, rounded down.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

Amount = Annotated[int, Meta(ge=0, le=2**53)]


class Credits(Struct, frozen=True, array_like=True, gc=False):
    """An amount of both kinds: the cost of a thought, or what an account may spend in one minute."""

    tokens: Amount
    """Of the prompt and the completion together."""

    cpu_ms: Amount
    """Milliseconds of thinking."""


class Credit(StrEnum):
    """The two kinds."""

    TOKENS = "tokens"
    CPU_MS = "cpu_ms"


class CreditEvent(StrEnum):
    """What can happen to a thought's place in an account."""

    RESERVED = "reserved"
    SETTLED = "settled"
    RELEASED = "released"


class CreditChange(Struct, frozen=True, array_like=True, gc=False):
    """One change of one account. A shard's accounts are the fold of its changes."""

    number: int
    """Rises by one with each change of the shard's accounts; a change is applied once."""

    event: CreditEvent
    account: str
    """Id of the persona whose credits these are."""

    persona_id: str
    """Who thinks: the account's persona or a descendant of it."""

    thought: int
    """The persona's thought number."""

    window: int
    """The one that changes: a settlement's and a release's is that of the reservation."""

    cost: Credits
    """What is reserved, or what the thought has really cost; zero for a release."""


class Settlement(Struct, frozen=True, array_like=True):
    """What a thought has really cost."""

    thought: int
    window: int
    """The one it was reserved in, as far as who settles knows."""

    cost: Credits


class AccountAsk(Struct, frozen=True, array_like=True):
    """What is asked of one account for one persona, in this order: settle, then reserve or release."""

    account: str
    persona_id: str
    thought: int
    reserve: Credits | None = None
    """What the thought is expected to cost; null where nothing is reserved."""

    settled: Settlement | None = None
    release: bool = False


class AccountsRequest(Struct, frozen=True, kw_only=True):
    """Asks of accounts of one shard. Repeated, it changes nothing more."""

    asks: list[AccountAsk]


class AccountShort(Struct, frozen=True, array_like=True):
    """Why an account grants nothing."""

    account: str
    credit: Credit
    limit: Amount
    committed: Amount
    cost: Amount


class AccountsReply(Struct, frozen=True, kw_only=True):
    """For each ask null, or what was short; sent once everything is stored."""

    window: int
    shorts: list[AccountShort | None]


class AccountWindow(Struct, frozen=True, array_like=True):
    """One account in one window, as a checkpoint holds it."""

    account: str
    window: int
    spent: Credits
    """By thoughts that are settled."""

    reserved: list[tuple[str, int, Credits]]
    """Persona, thought number and expected cost of what is not settled yet."""

    settled: dict[str, list[int]]
    """Per persona the settled thought numbers: first and last of each run, one after the other."""


class AccountsCheckpoint(Struct, frozen=True, kw_only=True):
    """The accounts of a shard as of a number; at most two windows of each."""

    number: int
    windows: list[AccountWindow]


class BudgetPausedPayload(Struct, frozen=True, kw_only=True):
    """The payload of `budget_paused`: a persona's next thought waits for credits."""

    account: str
    """The persona whose credits are out: itself or an ancestor."""

    credit: Credit
    limit: Amount
    """A minute's credits of that account."""

    committed: Amount
    """Spent in this window, or reserved."""

    cost: Amount
    """What the thought is expected to cost."""

    resumes_at: datetime | None
    """When the window ends; null where the thought alone costs more than a whole window has."""

    reason: str


class BudgetResumedPayload(Struct, frozen=True, kw_only=True):
    """The payload of `budget_resumed`."""

    account: str
    paused_at: datetime
