"""Storms in short: `just chaos` blows longer ones, and tells what `--seed` would repeat them."""

from __future__ import annotations

import os
import random

import pytest

from tests.chaos.plan import CLOCKED, Kind, plan
from tests.chaos.storm import Options, blow
from tests.conftest import STRICT

SEED = int(os.environ.get("PERPETUA_STORM_SEED", "0")) or random.randrange(1, 10**6)


@pytest.mark.parametrize("brokers", [1, 3])
def test_a_storm_is_the_same_each_time_and_leaves_no_kind_of_fault_out(brokers: int) -> None:
    first = plan(7, 40, brokers, clocks=True, disk=True)
    assert first == plan(7, 40, brokers, clocks=True, disk=True)
    assert first != plan(8, 40, brokers, clocks=True, disk=True)
    unknown = {Kind.LEADER_KILL} if brokers == 1 else {Kind.DISK_FULL}
    assert {fault.kind for fault in first} == set(Kind) - unknown
    assert {fault.target for fault in first if fault.kind is Kind.CLOCK} <= set(CLOCKED)
    without = plan(7, 40, brokers, clocks=False, disk=False)
    assert not {Kind.CLOCK, Kind.DISK_FULL} & {fault.kind for fault in without}


@pytest.mark.storm
@pytest.mark.fact("3.3")
@pytest.mark.fact("3.15")
@pytest.mark.fact("4.3")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("brokers", "faults"), [(1, 16), pytest.param(3, 9, marks=pytest.mark.long)])
async def test_after_a_storm_everything_is_there_once_and_in_order(brokers: int, faults: int) -> None:
    report = await blow(Options(SEED, faults, brokers, personas=100, interval_ms=200))
    assert report.findings == [], f"seed {SEED}: {report}"
    assert report.faults > faults / 2
    assert report.thoughts > 0
    assert not (STRICT and report.beyond), "each kind of fault is to be among those drawn"


@pytest.mark.storm
@pytest.mark.fact("3.2")
@pytest.mark.fact("3.3")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("brokers", "faults", "sync_always"), [(1, 4, True), pytest.param(3, 9, False, marks=pytest.mark.long)]
)
async def test_without_leases_two_owners_of_every_shard_and_two_publishers_leave_no_gap_and_no_repeat(
    brokers: int, faults: int, sync_always: bool
) -> None:
    """Each scheduler takes every shard from the other, again and again, and each compressor publishes."""
    report = await blow(
        Options(SEED, faults, brokers, personas=60, interval_ms=300, sync_always=sync_always, leases=False)
    )
    assert report.findings == [], f"seed {SEED}: {report}"
    assert report.facts["sessions of publishers"].keys() == {"compressor-1", "compressor-2"}
    assert report.facts["shards lost by"].keys() == {"scheduler-1", "scheduler-2"}
    assert report.thoughts > 4 * report.personas, "everybody goes on while two fight for their shards"


@pytest.mark.storm
@pytest.mark.long
@pytest.mark.fact("3.3")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("brokers", [1, 3])
async def test_a_broker_that_flushes_each_write_weathers_a_storm(brokers: int) -> None:
    report = await blow(Options(SEED, 9, brokers, personas=100, interval_ms=200, sync_always=True))
    assert report.findings == [], f"seed {SEED}: {report}"
    assert report.faults > 4
    assert report.thoughts > 0


@pytest.mark.storm
@pytest.mark.fact("A2")
@pytest.mark.fact("A5")
@pytest.mark.fact("A16")
@pytest.mark.fact("A18")
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("brokers", "faults"), [(1, 10), pytest.param(3, 9, marks=pytest.mark.long)])
async def test_after_a_storm_messages_posts_and_roll_ups_have_ended_once_and_credits_agree(
    brokers: int, faults: int
) -> None:
    report = await blow(Options(SEED, faults, brokers, personas=60, interval_ms=500, lively=True))
    assert report.findings == [], f"seed {SEED}: {report}"
    assert report.faults > faults / 2
    assert report.facts["messages"] > 60
    assert report.facts["post answers"] >= 3, "each calm post has one at least"
    assert report.facts["declined"] > 0
    assert report.facts["by a model"] > 0
