"""From which novelty a thought is new is a setting of thinkers; others go by their verdict [A19]."""

from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.cognition.answer import Answer
from libs.cognition.compose import compose
from libs.cognition.novelty import signature
from libs.contracts.journal import ThoughtEntry
from libs.contracts.personas import PolicyRequest
from services.scheduler.life import Life
from services.scheduler.memory import Memory
from services.thinker.metrics import ThinkerMetrics
from tests.unit.make import NOW, Tree, item

TEXT = "The door stands open since noon, and nobody has come through it yet."
HALF_NEW = f"{TEXT} Now somebody knocks at the window twice, and waits in the dark for an answer."
AT = NOW.timestamp()


def half_new(threshold: float) -> ThoughtEntry:
    """A snapshot of which about half is new."""
    asked = structs.replace(item("ann", 4), swarm_id="s", recent=[signature(TEXT)], shares=True)
    thought = compose(asked, 1, Answer(text=HALF_NEW, model="m"), NOW, novelty_threshold=threshold)
    assert thought.effort is not None and thought.effort.novelty is not None
    assert 0.3 < thought.effort.novelty < 0.8
    return thought


class _Connected:
    async def subscribe(self, *_: Any) -> None:
        pass


class _Message:
    def __init__(self, data: bytes) -> None:
        self.data = data


@pytest.mark.fact("A19")
@pytest.mark.parametrize(("threshold", "repeats"), [(0.0, False), (0.3, False), (0.8, True), (1.0, True)])
async def test_the_threshold_decides_progress_whom_it_wakes_and_what_is_counted(
    threshold: float, repeats: bool
) -> None:
    thought = half_new(threshold)
    assert thought.effort is not None

    clock = [0.0]
    life = Life(lambda: clock[0])
    clock[0] = 10.0
    life.thought(4, AT + 10, thought.effort)
    assert (life.idle_s == 10.0) is repeats, "the idle clock"

    tree = Tree()
    for name in ("ann", "bob"):
        tree.create(name, swarm_id="s", policy=PolicyRequest(share_memory=True))
    woken: list[str] = []
    memory = Memory(cast("Bus", _Connected()), tree.roster, woken.append)
    await memory.prime([])
    await memory._receive(cast("Any", _Message(bytes(thought.events[0][1]))))
    assert woken == ([] if repeats else ["bob"]), "others"
    assert memory.of("s", "bob"), "it is remembered in any case"

    registry = CollectorRegistry()
    ThinkerMetrics(registry, lambda: 0).composed(thought)
    assert registry.get_sample_value("perpetua_thoughts_repeating_total") == repeats


@pytest.mark.fact("A19")
def test_nothing_repeats_below_nothing() -> None:
    again = structs.replace(item("ann", 1), recent=[signature(TEXT)])
    thought = compose(again, 1, Answer(text=TEXT, model="m"), NOW, novelty_threshold=0.0)
    assert thought.effort is not None
    assert (thought.effort.novelty, thought.effort.repeats) == (0.0, False)
