"""What is shown of personas: their lives one by one, and how all of them fare [A6]."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.cognition.compose import Answer, compose
from libs.contracts.accounts import AccountAsk, AccountsRequest, Credit, Credits, Settlement
from libs.contracts.journal import Pause, ThoughtEntry
from libs.contracts.lives import PersonaLife
from libs.contracts.personas import ReapPersonaRequest
from libs.contracts.thoughts import Usage
from libs.contracts.tokens import shard_of
from libs.roster.state import Roster
from services.scheduler.admission import Admitting
from services.scheduler.bank import Bank
from services.scheduler.census import Census
from services.scheduler.inbox import Held, Inbox
from services.scheduler.inner_state import Mood
from services.scheduler.mail import Standing
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.notes import Note
from services.scheduler.owner import ShardOwner
from services.scheduler.showing import Showing
from services.scheduler.treasury import Treasury
from tests.services.support import owner
from tests.services.test_credits import LIMITS, MINUTE, NAMES, ROOT, Clock, family
from tests.services.test_shard_owners import owning
from tests.unit.make import NOW, Tree, inbox_item, item

pytestmark = pytest.mark.usefixtures("patient")

CHILD = NAMES[0]
PAUSE = Pause(
    ROOT,
    ROOT,
    Credit.TOKENS,
    datetime.fromtimestamp(60.0 * MINUTE, UTC),
    datetime.fromtimestamp(60.0 * (MINUTE + 1), UTC),
)
HALF = Credits(1000, 100)


def life(one: ShardOwner, roster: Roster, clock: Clock, name: str = ROOT, *, enforced: bool) -> PersonaLife:
    """What the API shows of a persona whose shard an owner has."""
    showing = Showing(roster, lambda _: None, lambda _: ["c9"], enforced=enforced, wall=clock)
    (counters,) = showing.counters(one, [name])
    assert counters.life is not None
    return counters.life


def thought(name: str, tokens: int, at: float, ms: int = 100) -> ThoughtEntry:
    """A persona's first thought, at a wall time."""
    due = structs.replace(item(name), tick_at=datetime.fromtimestamp(at, UTC))
    answer = Answer(text="So be it.", usage=Usage(total_tokens=tokens), latency_ms=ms)
    return compose(due, 1, answer, due.tick_at)


@pytest.mark.fact("A6", "A16")
async def test_the_budget_shown_is_the_one_that_admission_goes_by(bus: Bus) -> None:
    """The root has never thought: what is gone of its credits its child has spent, and reserved."""
    roster, clock = family(), Clock()
    one = owner(bus, shard_of(ROOT), "boot")
    async with owning(one):
        banks = {one.shard: Bank(one, roster, clock)}
        metrics = SchedulerMetrics(CollectorRegistry())
        treasury = Treasury(bus, roster, banks)
        admission = Admitting(treasury, roster, {one.shard: one}, banks, 100, metrics, clock)
        assert life(one, roster, clock, enforced=True).compute_budget == admission.share_left(ROOT) == 1.0
        await banks[one.shard].answer(AccountsRequest(asks=[AccountAsk(ROOT, CHILD, 1, HALF)]))
        assert life(one, roster, clock, enforced=True).compute_budget == admission.share_left(ROOT) == 0.5
        spent = Settlement(1, MINUTE, Credits(1500, 100))
        await banks[one.shard].answer(AccountsRequest(asks=[AccountAsk(ROOT, CHILD, 1, settled=spent)]))
        assert life(one, roster, clock, enforced=True).compute_budget == admission.share_left(ROOT) == 0.25
        clock.minute += 1
        assert life(one, roster, clock, enforced=True).compute_budget == admission.share_left(ROOT) == 1.0


@pytest.mark.fact("A6")
async def test_where_nobody_asks_for_credits_the_budget_is_of_own_thoughts(bus: Bus) -> None:
    """Under `fixed` no accounts are kept."""
    roster, clock = family(), Clock()
    one = owner(bus, shard_of(ROOT), "boot")
    async with owning(one):
        await one.submit([thought(ROOT, 500, clock(), ms=2000)])
        shown = life(one, roster, clock, enforced=False)
        assert (shown.compute_budget, shown.tokens, shown.cpu_ms) == (0.75, 500, 2000)
        clock.minute += 1
        assert life(one, roster, clock, enforced=False).compute_budget == 1.0


@pytest.mark.fact("A6")
async def test_of_who_has_no_credits_none_is_left_before_its_first_thought_too(bus: Bus) -> None:
    tree, clock = Tree(), Clock()
    tree.create(ROOT, policy=structs.replace(LIMITS, token_credits_per_minute=0))
    one = owner(bus, shard_of(ROOT), "boot")
    async with owning(one):
        for enforced in (True, False):
            assert life(one, tree.roster, clock, enforced=enforced).compute_budget == 0.0


@pytest.mark.fact("A6", "A7")
async def test_a_life_is_shown_as_it_is_now(bus: Bus) -> None:
    roster, clock = family(), Clock()
    one = owner(bus, shard_of(ROOT), "boot")
    async with owning(one):
        unlived = life(one, roster, clock, enforced=True)
        assert (unlived.energy, unlived.attention, unlived.mood) == (1.0, 1.0, "idle")
        assert (unlived.last_activity_at, unlived.idle_secs, unlived.tokens) == (None, 0, 0)
        ended = clock() - 2.0
        await one.submit([thought(ROOT, 500, ended - 8.0, ms=8000)])
        await one.note(Note(pauses=[PAUSE]))
        shown = life(one, roster, clock, enforced=True)
        assert shown.energy == 0.9, "a fifth of it spent, a tenth rested"
        assert shown.last_activity_at == datetime.fromtimestamp(ended, UTC)
        assert (shown.inbox_load, shown.waiting_for) == (0, ["c9"])
        assert shown.paused is not None
        assert (shown.paused.account, shown.paused.resumes_at) == (ROOT, PAUSE.resumes_at)
        stranger = Showing(roster, lambda _: None, lambda _: [], enforced=True).counters(one, ["nobody"])
        assert stranger[0].life is None


@pytest.mark.fact("A6", "H4")
async def test_the_census_counts_the_living_of_the_shards_that_are_ours(bus: Bus) -> None:
    """The root has thought and waits for credits, two others of its shard have not, a child is elsewhere."""
    clock, tree = Clock(), Tree()
    mates = [name for name in (f"m{n}" for n in range(1000)) if shard_of(name) == shard_of(ROOT)][:3]
    for name in (ROOT, *mates, CHILD):
        tree.create(name)
    tree.carry_out(tree.rules.reap(tree.view, mates[2], ReapPersonaRequest(), NOW))
    one, ticking, wanted = owner(bus, shard_of(ROOT), "boot"), [True], [shard_of(ROOT), shard_of(CHILD)]
    census = Census(tree.roster, {one.shard: one}, lambda: wanted, lambda: ticking[0], clock)
    async with owning(one):
        await one.submit([thought(ROOT, 500, clock() - 8.0, ms=8000)])
        await one.note(Note(pauses=[PAUSE]))
        crowded = one.ledger.persona(mates[0])
        one.ledger.life(mates[0])
        crowded.inbox = Inbox()
        for number in range(51):
            crowded.inbox.add(Held(number, Standing(50), 0.0, inbox_item()), 0.0)
        found = samples(census)
    energy, depth = "perpetua_persona_energy", "perpetua_inbox_depth"
    assert [found[f"{energy}_bucket", bound] for bound in ("0.7", "0.9", "1.0", "+Inf")] == [0, 1, 3, 3]
    assert found[f"{energy}_gsum", ""] == pytest.approx(2.8)
    assert [found[f"{depth}_bucket", bound] for bound in ("0.0", "50.0", "100.0")] == [2, 2, 3]
    assert found[f"{depth}_gsum", ""] == 51
    moods = {mood: found["perpetua_personas_in_mood", mood] for mood in Mood}
    assert moods == {Mood.OVERWHELMED: 1, Mood.TIRED: 0, Mood.ACTIVE: 0, Mood.IDLE: 2}
    assert found["perpetua_personas_paused", ""] == 1
    assert found["perpetua_personas_ticked", ""] == 3
    assert found["perpetua_personas_not_ticked", "shard"] == 1
    ticking[0] = False
    stopped = samples(Census(tree.roster, {one.shard: one}, lambda: wanted, lambda: ticking[0], clock))
    assert stopped["perpetua_personas_ticked", ""] == 0
    assert stopped["perpetua_personas_not_ticked", "loop"] == 3


def samples(census: Census) -> dict[tuple[str, str], float]:
    """What a scrape gets, by name and the one label of its sample."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for metric in census.collect()
        for sample in metric.samples
    }
