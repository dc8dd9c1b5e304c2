"""A short simulated day by the scheduler's own parts: what must hold whatever is sent."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from msgspec import structs

from bench.simulation.clock import BEGIN
from bench.simulation.day import is_night
from bench.simulation.options import Options
from bench.simulation.people import name_of
from bench.simulation.report import figures
from bench.simulation.world import World, simulate

SHORT = Options(
    personas=40, hours=0.5, seed=3, swarm=20, family=5, slots=4, quiet_swarms=1,
    items_a_day=100, urgent_a_minute=4, posts_an_hour=30, bursts=48, storm_minutes=1, outage_minutes=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def world() -> World:
    return simulate(SHORT)


@pytest.mark.fact("A2")
def test_no_item_is_lost_or_ends_twice(world: World) -> None:
    assert world.record.sent > 200
    assert world.record.twice == []
    assert world.record.ends.keys() & world.held() == set()
    assert len(world.record.ends) + len(world.held()) == world.record.sent


@pytest.mark.fact("A16")
def test_nobody_spends_more_than_its_credits_and_the_error_of_estimate(world: World) -> None:
    assert world.record.pauses > 0
    assert world.record.credits.overspent(world.limits(), world.childless()) == {}


@pytest.mark.fact("A12")
def test_urgent_items_wait_for_less_than_a_minute_in_a_storm_where_credits_are_ample() -> None:
    rich = structs.replace(
        SHORT, hours=0.15, token_credits=10**8, cpu_credits=10**8, urgent_a_minute=20.0, outage_minutes=0.0
    )
    urgent = simulate(rich).record.wait_table()["urgent"]
    assert urgent["items"] > 100
    assert urgent["longest"] < 60


@pytest.mark.fact("A11")
def test_a_swarm_to_whom_nobody_speaks_spends_nothing_at_night(world: World) -> None:
    resting = {name_of(number) for number in range(SHORT.swarm)}
    first_cycle_s = 200.0  # everybody begins at once, and two thoughts a second are thought
    spent = [
        (at, name)
        for at, name, _ in world.record.tokens_at
        if name in resting
        and at > BEGIN + first_cycle_s
        and at - BEGIN < SHORT.seconds / 2
        and is_night(at - BEGIN, SHORT)
    ]
    assert spent == []
    assert any(name in resting for _, name, _ in world.record.tokens_at), "it did think by day"


@pytest.mark.fact("A11")
def test_a_swarm_that_shares_comes_to_rest() -> None:
    """What one shares wakes the others; what they make of that alone wakes nobody."""
    still = Options(
        personas=10, hours=0.25, swarm=10, family=10, slots=4, sharers=10, quiet_swarms=0, items_a_day=0.0,
        urgent_a_minute=0.0, posts_an_hour=0.0, bursts=0, storm_minutes=0.0, outage_minutes=0.0,
    )  # fmt: skip
    minutes = [minute.thoughts for minute in simulate(still).record.minutes]
    assert sum(minutes) > 2 * 4 * 10, "everybody's first cycle wakes everybody for another"
    assert sum(minutes[-8:]) == 0


def test_the_outage_costs_no_item_and_is_over_afterwards(world: World) -> None:
    found = figures(world)
    assert found["fallbacks"] > 0
    assert found["set aside"] == 0
    assert world.record.minutes[-2].fallbacks == 0


def test_the_same_seed_gives_the_same_day_in_any_process() -> None:
    command = [sys.executable, "-m", "bench.simulation", "--personas", "10", "--hours", "0.05", "--json"]
    command += ["--option", "storm_minutes=0.2"]
    days = []
    for hashes in ("1", "2"):
        env = os.environ | {"PYTHONHASHSEED": hashes}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        days.append([line for line in done.stdout.splitlines() if "took s" not in line])
    assert days[0] == days[1]


def test_another_seed_gives_another_day() -> None:
    small = structs.replace(SHORT, personas=10, swarm=10, hours=0.05)
    assert simulate(small).record.sent != simulate(structs.replace(small, seed=4)).record.sent


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("--set=inner_state.NOPE=1", "inner_state.NOPE"),
        ("--set=cadence.wait=1", "cadence.wait"),
        ("--set=x", "NAME=VALUE"),
        ("--option=slots=no", "slots=no"),
        ("--option=slots=0", "$.slots"),
        ("--option=foo=1", "foo"),
    ],
)
def test_what_cannot_be_changed_is_named(change: str, named: str) -> None:
    command = [sys.executable, "-m", "bench.simulation", "--personas", "10", "--hours", "0.05", change]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert named in done.stderr
