"""What must hold once a storm is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import zip_longest
from typing import Any

import msgspec

from libs.bus.connection import Bus
from libs.bus.errors import BusError
from libs.bus.read import all_held, stream_state
from libs.contracts.streams import THINK, THINKERS
from libs.contracts.thoughts import MemorySnapshot, Proposal
from tests.chaos.changes import Changes
from tests.chaos.clients import Clients
from tests.chaos.collector import Collector, Copy

GO_ON_WITHIN_S = 60.0
STATUS_WITHIN_S = 5.0
STOP_WITHIN_S = 60.0
LISTED_WITHIN_S = 60.0
DRAINED_WITHIN_S = 30.0
AGREE_WITHIN_S = 30.0
"""Roll-ups go on after a stop, and so does announcing who is reaped."""

_CONSUMER_TELLS = (
    "delivered",
    "ack_floor",
    "num_ack_pending",
    "num_redelivered",
    "num_waiting",
    "num_pending",
)


async def verdict(
    bus: Bus,
    clients: Clients,
    collector: Collector,
    changes: Changes,
    *,
    lively: bool = False,
    leases: bool = True,
    filled: bool = False,
) -> list[str]:
    """Wait for the calm, stop the loop and return what is not as it must be.

    Where personas have lives, they may rest. Without leases there is no calm: who has lost a shard takes it
    back after a while, and meanwhile the other may have lost it, too. A broker whose disk was `filled` may
    keep work that was acknowledged.
    """
    findings: list[str] = []
    if not lively:
        within = GO_ON_WITHIN_S / 2 if leases else GO_ON_WITHIN_S
        await _everybody_thinks(findings, bus, clients, collector, within=within)
    await _status(findings, clients, running=True)
    clients.stopped = True
    if not await held(STOP_WITHIN_S, lambda: _stopped(clients)):
        return [*findings, f"a stop is not acknowledged within {STOP_WITHIN_S:g} s of the calm"]
    await _status(findings, clients, running=False)
    await _read_to_end(findings, bus, collector)
    personas = await _listed(findings, clients, collector, within=0.0 if leases else LISTED_WITHIN_S)
    findings += await changes.compare(personas)
    await _copies(findings, bus, collector)
    await _queue_empty(findings, bus, filled=filled)
    return findings


def compare(personas: dict[str, Any], book: dict[str, Any], collector: Collector) -> list[str]:
    """Compare what the API lists with what it has acknowledged and with what the stream shows."""
    findings = []
    listed = set(personas)
    reaped = {name for name, state in personas.items() if state["status"] == "reaped"}
    findings += [f"{name} was acknowledged and is gone" for name in book["created"] - listed]
    seeded = {name for name in listed if name.startswith("root")}
    unasked = listed - book["created"] - book["maybe_created"] - seeded
    findings += [f"{name} was never asked for" for name in unasked]
    findings += [f"{name}'s reap was acknowledged and is undone" for name in book["reaped"] - reaped]
    if listed != collector.spawned:
        findings.append(f"listed or announced, not both: {sorted(listed ^ collector.spawned)}")
    if reaped != collector.reaped:
        findings.append(f"reaped or announced as such, not both: {sorted(reaped ^ collector.reaped)}")
    for name, state in personas.items():
        seen = collector.thoughts.get(name, 0)
        if state["thought_count"] != seen:
            findings.append(f"{name} counts {state['thought_count']} thoughts, the stream has {seen}")
    return findings


async def _everybody_thinks(
    findings: list[str], bus: Bus, clients: Clients, collector: Collector, *, within: float
) -> None:
    began = time.monotonic()
    before = dict(collector.thoughts)

    def all_went_on() -> bool:
        return not _standing(before, clients, collector)

    if await held(within, all_went_on):
        return
    still, broker = sorted(_standing(before, clients, collector)), await _broker_says(bus)
    if await held(GO_ON_WITHIN_S - within, all_went_on):
        how = f"think again only {time.monotonic() - began:.0f} s after the calm"
    else:
        how = "think no more after the calm"
    who = {name: await _shown_as(clients, name) for name in still[:10]}
    findings.append(f"{len(still)} personas {how}: {who}; after {within:.0f} s {broker}")


async def _shown_as(clients: Clients, name: str) -> Any:
    status, answer = await clients.ask("GET", f"/v1/swarm/personas/{name}")
    return answer["status"] if status == 200 else status


async def _broker_says(bus: Bus) -> dict[str, Any]:
    """Return what tells whose fault a wait is.

    How far the broker's copies are of what thoughts pass through, and what of the work queue nobody was given
    yet, what is being done, and how many pulls wait: where there is none, thinkers do not ask.
    """
    found: dict[str, Any] = {}
    for stream in ("JOURNAL", "EVENTS", THINK):
        found[stream] = await _told(
            bus, f"STREAM.INFO.{stream}", lambda info: (info["state"]["last_seq"], info.get("cluster"))
        )
    found[THINKERS] = await _told(
        bus,
        f"CONSUMER.INFO.{THINK}.{THINKERS}",
        lambda info: {name: info.get(name) for name in (*_CONSUMER_TELLS, "cluster")},
    )
    return found


async def _told(bus: Bus, subject: str, of: Callable[[dict[str, Any]], Any]) -> Any:
    try:
        return of(await bus.api(subject))
    except BusError as error:
        return str(error)


def _standing(before: dict[str, int], clients: Clients, collector: Collector) -> set[str]:
    return {n for n in clients.book.living if collector.thoughts.get(n, 0) <= before.get(n, 0)}


async def _status(findings: list[str], clients: Clients, *, running: bool) -> None:
    last: Any = None

    async def tells_it() -> bool:
        nonlocal last
        last = await clients.ask("GET", "/v1/cognition/status")
        return bool(last[0] == 200 and last[1]["running"] is running)

    if not await held(STATUS_WITHIN_S, tells_it):
        findings.append(f"status does not say running={running} within {STATUS_WITHIN_S:g} s: {last}")


async def _stopped(clients: Clients) -> bool:
    return (await clients.ask("POST", "/v1/cognition/stop", {}))[0] == 200


async def _read_to_end(findings: list[str], bus: Bus, collector: Collector) -> None:
    last = int((await stream_state(bus, "EVENTS"))["last_seq"])
    if not await held(DRAINED_WITHIN_S, lambda: collector.sequence >= last):
        findings.append(f"the collector stands at {collector.sequence}, the stream at {last}")


async def _listed(
    findings: list[str], clients: Clients, collector: Collector, *, within: float
) -> dict[str, Any]:
    """Return the personas that the API lists, once they are as announced, or long after they should be.

    Whom a registry has reaped that was killed over it is announced by the next one.
    """
    personas = await _personas(findings, clients, within=within)
    found = compare(personas, clients.book.__dict__, collector)

    async def agree() -> bool:
        nonlocal personas, found
        if found:
            personas = await _personas([], clients, within=within)
            found = compare(personas, clients.book.__dict__, collector)
        return not found

    await held(AGREE_WITHIN_S, agree)
    findings += found
    return personas


async def _personas(findings: list[str], clients: Clients, *, within: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    after, deadline = "", time.monotonic() + within
    while True:
        status, page = await clients.ask("GET", f"/v1/swarm/personas?limit=500&after={after}")
        if status == 503 and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            continue
        if status != 200:
            findings.append(f"personas cannot be listed after the calm: {status} {page}")
            return found
        found |= {state["identity"]["id"]: state for state in page["personas"]}
        if page["next_after"] is None:
            return found
        after = page["next_after"]


async def _copies(findings: list[str], bus: Bus, collector: Collector) -> None:
    """Snapshots, in order, and proposals are what the events say that stand for them.

    Roll-ups go on after a stop: one that becomes public while we read is read once more.
    """
    found: list[str] = []

    async def agree() -> bool:
        snapshots = [_snapshot(one.data) async for one in all_held(bus, "SNAPSHOTS")]
        proposals = dict([_proposal(one.data) async for one in all_held(bus, "KV_proposals")])
        found[:] = [
            *differences("snapshots", collector.snapshots, snapshots),
            *differences("proposals", sorted(collector.proposals.items()), sorted(proposals.items())),
        ]
        return not found

    await held(AGREE_WITHIN_S, agree)
    findings += found


def differences(what: str, announced: Sequence[object], kept: Sequence[object]) -> list[str]:
    """Say how many were announced and are kept where these are not the same, and the first that differs."""
    pairs = enumerate(zip_longest(announced, kept))
    first = next(((at, *pair) for at, pair in pairs if pair[0] != pair[1]), None)
    if first is None:
        return []
    at, wanted, found = first
    return [f"{len(announced)} {what} were announced, {len(kept)} are kept; at {at} {found} for {wanted}"]


def _snapshot(data: bytes) -> Copy:
    found = msgspec.json.decode(data, type=MemorySnapshot)
    return Copy(found.generated_at, tuple(found.persona_scope), found.summary)


def _proposal(data: bytes) -> tuple[str, Copy]:
    found = msgspec.json.decode(data, type=Proposal)
    return found.id, Copy(found.created_at, (found.persona_id,))


async def _queue_empty(findings: list[str], bus: Bus, *, filled: bool) -> None:
    """Nothing is left in the queue; where the disk was filled, nothing that is not acknowledged.

    In such storms the broker has kept 2 to 7 chunks whose acknowledgement it counts, most of them of the
    first that came after that. Nobody is given them.
    """
    state: dict[str, Any] = {}
    consumer: dict[str, Any] = {}

    async def empty() -> bool:
        try:
            state.update(await stream_state(bus, THINK))
            consumer.update(await bus.api(f"CONSUMER.INFO.{THINK}.{THINKERS}"))
        except BusError:
            return False
        open_ones = int(consumer["num_pending"]) + int(consumer["num_ack_pending"])
        return not open_ones and (filled or not state["messages"])

    if not await held(DRAINED_WITHIN_S, empty):
        told = {name: consumer.get(name) for name in ("ack_floor", "num_ack_pending", "num_pending")}
        findings.append(f"{state.get('messages')} chunks of work are left in the queue after a stop: {told}")


async def held(within: float, check: Callable[[], bool | Awaitable[bool]]) -> bool:
    """Whether a check came to hold within so many seconds."""
    deadline = time.monotonic() + within
    while True:
        holds = check()
        if isinstance(holds, Awaitable):
            holds = await holds
        if holds:
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.1)
