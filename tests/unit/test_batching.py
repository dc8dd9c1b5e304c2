"""Forming batches of what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from libs.cognition.compose import Answer
from services.thinker.backends.batching import Batcher
from tests.support.eventually import eventually


class Model:
    """Answers a batch when it is told to; a prompt's answer is its length."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.now = 0
        self.most = 0
        self.go = asyncio.Event()

    async def run(self, batch: Sequence[list[str]]) -> list[Answer]:
        self.batches.append([len(tokens) for tokens in batch])
        self.now += 1
        self.most = max(self.most, self.now)
        await self.go.wait()
        self.now -= 1
        return [Answer(text=str(len(tokens))) for tokens in batch]


def ask(batcher: Batcher, *lengths: int) -> list[asyncio.Task[Answer]]:
    return [asyncio.create_task(batcher.answer(["t"] * length)) for length in lengths]


async def test_everybody_gets_the_answer_to_their_own_prompt() -> None:
    model = Model()
    model.go.set()
    batcher = Batcher(model.run, size=4, workers=2)
    lengths = [7, 1, 9, 3, 3, 8, 2, 6, 5, 4, 30]
    answers = await asyncio.gather(*ask(batcher, *lengths))
    assert [answer.text for answer in answers] == [str(length) for length in lengths]
    assert all(len(batch) <= 4 for batch in model.batches)


async def test_prompts_that_come_together_share_a_batch() -> None:
    model = Model()
    model.go.set()
    batcher = Batcher(model.run, size=16, workers=1)
    await asyncio.gather(*ask(batcher, 1, 2, 3))
    assert sorted(model.batches[0]) == [1, 2, 3]
    assert len(model.batches) == 1


async def test_a_batch_is_the_oldest_prompt_and_those_nearest_to_it_in_length() -> None:
    model = Model()
    batcher = Batcher(model.run, size=3, workers=1)
    first = ask(batcher, 100)
    await eventually(lambda: model.batches)
    rest = ask(batcher, 50, 10, 48, 90, 53)
    await asyncio.sleep(0)
    model.go.set()
    await asyncio.gather(*first, *rest)
    assert sorted(model.batches[1]) == [48, 50, 53]
    assert sorted(model.batches[2]) == [10, 90]


async def test_no_more_batches_run_at_once_than_there_are_workers() -> None:
    model = Model()
    batcher = Batcher(model.run, size=1, workers=2)
    tasks = ask(batcher, 1, 2, 3, 4, 5)
    await eventually(lambda: model.now == 2)
    model.go.set()
    await asyncio.gather(*tasks)
    assert model.most == 2


async def test_a_batch_that_fails_is_an_answer_that_says_so() -> None:
    async def fail(batch: Sequence[list[str]]) -> list[Answer]:
        raise RuntimeError("out of memory")

    answers = await asyncio.gather(*ask(Batcher(fail, size=8, workers=1), 1, 2))
    assert [(answer.text, answer.error) for answer in answers] == [(None, "RuntimeError: out of memory")] * 2


async def test_who_gave_up_waiting_takes_no_place_in_a_batch() -> None:
    model = Model()
    batcher = Batcher(model.run, size=2, workers=1)
    first = ask(batcher, 1)
    await eventually(lambda: model.batches)
    gone, stays = ask(batcher, 2), ask(batcher, 3)
    await asyncio.sleep(0)
    gone[0].cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    model.go.set()
    await asyncio.gather(*first, *stays)
    assert model.batches == [[1], [3]]


async def test_closing_waits_for_what_runs_and_cancels_what_waits() -> None:
    model = Model()
    batcher = Batcher(model.run, size=1, workers=1)
    running = ask(batcher, 1)
    await eventually(lambda: model.batches)
    waiting = ask(batcher, 2)
    await asyncio.sleep(0)
    closing = asyncio.create_task(batcher.close())
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    assert not closing.done()
    model.go.set()
    await closing
    assert (await running[0]).text == "1"
    assert model.batches == [[1]]
