"""What batches do with thoughts that are late, by a clock of the tests' own: no machine is too slow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.simulation.clock import run
from libs.cognition.compose import Answer
from services.thinker.backends.batching import Row
from tests.support.eventually import eventually
from tests.unit.test_batching import Model, ask, batcher_of


def test_a_late_thought_is_answered_at_its_deadline_and_its_neighbours_are_unharmed() -> None:
    """The deadline is each thought's own, from when it came; the model is told to end what is over."""

    async def scenario() -> None:
        model = Model()
        rows: list[Row] = []

        async def think(batch: Sequence[Row]) -> list[Answer]:
            rows.extend(batch)
            return await model.run(batch)

        batcher = batcher_of(think, 8, timeout_s=0.5)
        early = ask(batcher, 1)
        await asyncio.sleep(0.3)  # the other comes later, and so is late later
        assert not rows or not rows[0].is_over()
        late = await early[0]
        assert late.text is None
        assert late.error == "no answer within 500 ms"
        assert rows[0].is_over()
        fresh = ask(batcher, 2, 3)
        await asyncio.sleep(0)
        model.go.set()
        assert [answer.text for answer in await asyncio.gather(*fresh)] == ["2", "3"]

    run(scenario())


def test_a_thought_that_waits_too_long_for_a_batch_is_late_too_and_takes_no_place_in_one() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = batcher_of(model.run, 1, timeout_s=0.3)
        running = ask(batcher, 1)
        await eventually(lambda: model.batches)
        waiting = await ask(batcher, 2)[0]
        assert waiting.error == "no answer within 300 ms: it waited for a batch all that time"
        model.go.set()
        assert (await running[0]).error == "no answer within 300 ms"
        assert (await ask(batcher, 3)[0]).text == "3"
        assert model.batches == [[1], [3]]

    run(scenario())


def test_a_slow_model_is_given_no_more_than_it_can_think_in_time() -> None:
    """Twice the capacity is in hand, which takes half the timeout: rows a second × timeout / 4."""

    async def scenario() -> None:
        async def think(batch: Sequence[Row]) -> list[Answer]:
            await asyncio.sleep(0.1)
            return [Answer(text="ok")] * len(batch)

        batcher = batcher_of(think, 4, timeout_s=0.8)
        assert batcher.capacity == 2, "half a round while nothing is known"
        await asyncio.gather(*ask(batcher, *[1] * 4))
        assert 4 <= batcher.capacity <= 8, "40 rows a second at best"
        for _ in range(12):
            await asyncio.gather(*ask(batcher, 1))
        assert batcher.capacity in (2, 3), "10 rows a second where each comes alone"

    run(scenario())
