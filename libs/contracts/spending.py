"""What a swarm's thinking has cost, as the API shows it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0)]


class SpendBy(StrEnum):
    """By what it is summed up."""

    PERSONA = "persona"
    ROLE = "role"
    SWARM = "swarm"
    HOUR = "hour"


class Spend(Struct, frozen=True, kw_only=True):
    """Thoughts and what they cost."""

    thoughts: Count = 0
    tokens: Count = 0
    """Of prompts and completions, as models report them."""

    cpu_ms: Count = 0
    """Milliseconds of thinking; of a batch each thought has its share."""


class SpendRow(Spend, frozen=True, kw_only=True):
    """One row of a sum."""

    key: str | None
    """A persona's id, a role, a swarm's id (null: of personas without one), or an hour's beginning in UTC.

    `(others)` stands for roles or swarms of which there are too many to keep them apart.
    """


class SpendPage(Struct, frozen=True, kw_only=True):
    """What was spent: the most tokens first, hours newest first."""

    by: SpendBy
    swarm_id: str | None
    """Only what this swarm's personas have spent; null: all have."""

    since: datetime | None
    """The first hour that is counted, of at most 48; null: whole lives, as they are by persona."""

    total: Spend
    """Of all rows, those that are left out among them."""

    rows: list[SpendRow]
    left_out: Count
    """Rows beyond `limit`."""
