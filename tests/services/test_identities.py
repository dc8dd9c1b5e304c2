"""Roles and identities are durable together, under the persona's id, never paired by position [H6]."""

from __future__ import annotations

import random

import msgspec
import pytest

from libs.bus.connection import Bus
from libs.contracts import streams, subjects
from libs.contracts.personas import PersonaIdentity
from libs.contracts.registry import StoredPersona
from tests.bus.support import held
from tests.services.support import Registry, registry
from tests.support.eventually import eventually
from tests.unit.make import create

ROLES = ("architect", "critic", "scout", "observer", "critic")
WHO = {f"p{number:02}": ROLES[number % len(ROLES)] for number in range(20)}


def identities(one: Registry) -> dict[str, PersonaIdentity]:
    return {name: record.identity for name, record in one.roster.personas.items()}


async def created(one: Registry, order: list[str]) -> None:
    for name in order:
        await one.create(create(name, role=WHO[name], charter=f"The {WHO[name]}'s charter, {name}'s own."))


@pytest.mark.fact("H6")
async def test_whoever_loads_them_in_whatever_order_has_everybody_with_their_own_role(bus: Bus) -> None:
    order = sorted(WHO)
    random.Random(7).shuffle(order)
    async with registry(bus) as first:
        await created(first, order)
        await eventually(lambda: first.buckets.written == first.tail.sequence, what="the buckets")
        known = identities(first)
    assert {name: identity.role for name, identity in known.items()} == WHO
    async with registry(bus, number=2) as second:  # by the journal and the buckets
        assert identities(second) == known
    await bus.api(f"STREAM.PURGE.{streams.JOURNAL}", {"filter": subjects.JOURNAL_REGISTRY, "keep": 1})
    async with registry(bus, number=3) as third:  # by the buckets alone
        assert identities(third) == known


@pytest.mark.fact("H6")
async def test_one_record_has_id_role_and_charter_and_lies_under_that_id(bus: Bus) -> None:
    """So that no two lists have to be kept in step: each record says by itself who plays what."""
    async with registry(bus) as one:
        await created(one, list(WHO))
        await eventually(lambda: one.buckets.written == one.tail.sequence, what="the buckets")
    for stored in await held(bus, streams.PERSONAS):
        identity = msgspec.json.decode(stored.data, type=StoredPersona).record.identity
        assert stored.subject == subjects.persona_key(identity.id)
        assert (identity.role, identity.charter) == (
            WHO[identity.id],
            f"The {WHO[identity.id]}'s charter, {identity.id}'s own.",
        )
