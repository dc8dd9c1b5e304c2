"""Forming batches of what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.cognition.compose import Answer
from libs.concurrency.tasks import TaskFailed, watch_tasks
from services.thinker.backends.batching import Batcher, Limits, Row
from services.thinker.backends.telemetry import BatchDone, BatchFault, BatchTaken
from tests.support.eventually import eventually

ANY = 1_000_000
NEVER = 600.0


class Model:
    """Answers a batch when it is told to; a prompt's answer is its length."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.now = 0
        self.most = 0
        self.go = asyncio.Event()

    async def run(self, batch: Sequence[Row]) -> list[Answer]:
        self.batches.append([len(row.tokens) for row in batch])
        self.now += 1
        self.most = max(self.most, self.now)
        await self.go.wait()
        self.now -= 1
        return [Answer(text=str(len(row.tokens))) for row in batch]


class Telemetry:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.batches: list[BatchTaken] = []
        self.seconds: list[float] = []
        self.faults: list[str] = []

    def taken(self, details: BatchTaken) -> None:
        self.batches.append(details)

    def done(self, details: BatchDone) -> None:
        self.seconds.append(details.seconds)

    def fault(self, details: BatchFault) -> None:
        self.faults.append(details.kind)


def batcher_of(
    run: Callable[[Sequence[Row]], Awaitable[list[Answer]]],
    size: int,
    workers: int = 1,
    *,
    spread: int = ANY,
    tokens: int = ANY,
    scores: int = ANY * ANY,
    added: int = 0,
    timeout_s: float = NEVER,
) -> Batcher:
    limits = Limits(rows=size, tokens=tokens, scores=scores, spread=spread, added=added)
    return Batcher(run, limits, workers, timeout_s)


def ask(batcher: Batcher, *lengths: int) -> list[asyncio.Task[Answer]]:
    return [asyncio.create_task(batcher.answer(["t"] * length)) for length in lengths]


async def test_everybody_gets_the_answer_to_their_own_prompt() -> None:
    model = Model()
    model.go.set()
    batcher = batcher_of(model.run, 4, 2)
    lengths = [7, 1, 9, 3, 3, 8, 2, 6, 5, 4, 30]
    answers = await asyncio.gather(*ask(batcher, *lengths))
    assert [answer.text for answer in answers] == [str(length) for length in lengths]
    assert all(len(batch) <= 4 for batch in model.batches)


async def test_prompts_that_come_together_share_a_batch() -> None:
    model = Model()
    model.go.set()
    batcher = batcher_of(model.run, 16)
    await asyncio.gather(*ask(batcher, 1, 2, 3))
    assert sorted(model.batches[0]) == [1, 2, 3]
    assert len(model.batches) == 1


async def test_a_batch_is_the_oldest_prompt_and_those_nearest_to_it_in_length() -> None:
    model = Model()
    batcher = batcher_of(model.run, 3)
    first = ask(batcher, 100)
    await eventually(lambda: model.batches)
    rest = ask(batcher, 50, 10, 48, 90, 53)
    await asyncio.sleep(0)
    model.go.set()
    await asyncio.gather(*first, *rest)
    assert sorted(model.batches[1]) == [48, 50, 53]
    assert sorted(model.batches[2]) == [10, 90]


async def test_lengths_that_differ_by_more_than_the_spread_share_no_batch() -> None:
    model = Model()
    model.go.set()
    batcher = batcher_of(model.run, 16, spread=0)
    await asyncio.gather(*ask(batcher, 64, 128, 64, 64, 192, 128))
    assert sorted(model.batches) == [[64, 64, 64], [128, 128], [192]]


async def test_long_prompts_share_a_batch_with_few_and_one_always_goes() -> None:
    """Attention's scores grow with the square of a prompt."""
    model = Model()
    model.go.set()
    batcher = batcher_of(model.run, 8, scores=4 * 10**2, spread=0)
    await asyncio.gather(*ask(batcher, *[10] * 5, 30, 30))
    assert model.batches == [[10] * 4, [10], [30], [30]]


async def test_a_batch_is_bounded_by_its_padded_tokens_but_one_row_always_goes() -> None:
    model = Model()
    model.go.set()
    batcher = batcher_of(model.run, 16, tokens=300, added=50, spread=0)
    await asyncio.gather(*ask(batcher, *[50] * 4, 400))
    assert model.batches == [[50, 50, 50], [50], [400]]


async def test_workers_share_what_waits() -> None:
    model = Model()
    batcher = batcher_of(model.run, 16, 2)
    tasks = ask(batcher, *[5] * 16)
    await eventually(lambda: model.now == 2)
    assert [len(batch) for batch in model.batches] == [8, 4]
    model.go.set()
    await asyncio.gather(*tasks)
    assert [len(batch) for batch in model.batches] == [8, 4, 4], "so that none idles while the last one works"


async def test_no_more_batches_run_at_once_than_there_are_workers() -> None:
    model = Model()
    batcher = batcher_of(model.run, 1, 2)
    tasks = ask(batcher, 1, 2, 3, 4, 5)
    await eventually(lambda: model.now == 2)
    model.go.set()
    await asyncio.gather(*tasks)
    assert model.most == 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=40),
    st.integers(1, 5),
    st.integers(0, 10),
)
def test_none_starves(prompts: list[tuple[int, int]], size: int, spread: int) -> None:
    """The oldest prompt that waits is in every batch, so each is thought after at most as many batches as
    older ones waited, whatever comes meanwhile: every batch takes at least one older prompt or itself."""

    async def run() -> None:
        arrivals = list(prompts)
        order: list[list[str]] = []
        waiting: list[list[str]] = []
        tasks: list[asyncio.Task[Answer]] = []

        async def think(batch: Sequence[Row]) -> list[Answer]:
            assert waiting[0] in [row.tokens for row in batch], "the oldest one was passed over"
            for row in batch:
                waiting.remove(row.tokens)
                order.append(row.tokens)
            while arrivals:  # newcomers while the batch is thought
                length, more = arrivals.pop()
                come(length)
                if not more:
                    break
            await asyncio.sleep(0)
            return [Answer(text="")] * len(batch)

        def come(length: int) -> None:
            tokens = [f"{len(tasks)}"] * length
            waiting.append(tokens)
            tasks.append(asyncio.create_task(batcher.answer(tokens)))

        batcher = batcher_of(think, size, spread=spread)
        come(arrivals.pop()[0])
        while not all(task.done() for task in tasks) or arrivals:
            await asyncio.wait([task for task in tasks if not task.done()])
        assert len(order) == len(prompts)

    asyncio.run(run())


async def test_a_prompt_that_fails_every_batch_fails_alone_and_the_work_is_bounded() -> None:
    runs: list[int] = []

    async def think(batch: Sequence[Row]) -> list[Answer]:
        runs.append(len(batch))
        if any(row.tokens == ["poison"] for row in batch):
            raise ValueError("an unusable prompt")
        return [Answer(text=row.tokens[0]) for row in batch]

    batcher = batcher_of(think, 16)
    batcher.telemetry = telemetry = Telemetry()
    prompts = [["poison"] if n == 11 else [f"p{n}"] for n in range(16)]
    answers = await asyncio.gather(*(batcher.answer(prompt) for prompt in prompts))
    assert answers[11].error == "ValueError: an unusable prompt"
    assert [a.text for n, a in enumerate(answers) if n != 11] == [f"p{n}" for n in range(16) if n != 11]
    assert runs == [16, 8, 8, 4, 4, 2, 2, 1, 1] or sorted(runs, reverse=True) == [16, 8, 8, 4, 4, 2, 2, 1, 1]
    assert telemetry.faults == ["error"] * 5
    assert batcher.limit == 16, "only a want of memory makes batches smaller"


async def test_where_every_prompt_fails_there_are_at_most_two_runs_a_prompt() -> None:
    runs = 0

    async def fail(batch: Sequence[Row]) -> list[Answer]:
        nonlocal runs
        runs += 1
        raise RuntimeError("broken")

    answers = await asyncio.gather(*ask(batcher_of(fail, 32), *range(1, 33)))
    assert {answer.error for answer in answers} == {"RuntimeError: broken"}
    assert runs == 2 * 32 - 1


async def test_want_of_memory_halves_the_batches_and_everybody_is_answered() -> None:
    sizes: list[int] = []

    async def think(batch: Sequence[Row]) -> list[Answer]:
        sizes.append(len(batch))
        if len(batch) > 5:
            raise RuntimeError("CUDA failed with error out of memory")
        return [Answer(text="ok")] * len(batch)

    batcher = batcher_of(think, 32)
    batcher.telemetry = telemetry = Telemetry()
    answers = await asyncio.gather(*ask(batcher, *[3] * 96))
    assert {answer.text for answer in answers} == {"ok"}
    assert batcher.limit == 4
    assert set(telemetry.faults) == {"memory"}
    later = await asyncio.gather(*ask(batcher, *[3] * 40))
    assert {answer.text for answer in later} == {"ok"}
    assert max(sizes[-10:]) == 4
    assert len(telemetry.faults) == sum(size > 5 for size in sizes)


async def test_after_many_full_batches_a_lowered_limit_grows_again() -> None:
    most = 5

    async def think(batch: Sequence[Row]) -> list[Answer]:
        if len(batch) > most:
            raise MemoryError
        return [Answer(text="ok")] * len(batch)

    batcher = batcher_of(think, 16)
    await asyncio.gather(*ask(batcher, *[1] * 16))
    assert batcher.limit == 4
    most = 16
    await asyncio.gather(*ask(batcher, *[1] * 4 * 64))
    assert batcher.limit == 5


async def test_batches_are_told_of() -> None:
    model = Model()
    model.go.set()
    batcher = batcher_of(model.run, 4)
    batcher.telemetry = telemetry = Telemetry()
    await asyncio.gather(*ask(batcher, 1, 2, 3, 4, 5, 6))
    assert [(len(details.waits), details.limit) for details in telemetry.batches] == [(4, 4), (2, 4)]
    assert all(wait >= 0 for details in telemetry.batches for wait in details.waits)
    assert len(telemetry.seconds) == 2


async def test_who_gave_up_waiting_takes_no_place_in_a_batch() -> None:
    model = Model()
    batcher = batcher_of(model.run, 2)
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
    batcher = batcher_of(model.run, 1)
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


class Broken(Telemetry):
    """Fails the first time that it is told of a batch that is through."""

    def done(self, details: BatchDone) -> None:
        super().done(details)
        if len(self.seconds) == 1:
            raise KeyError("of our own")


@pytest.mark.fact("H7")
async def test_a_worker_that_crashes_fails_its_batch_is_told_of_and_has_a_successor() -> None:
    told: list[TaskFailed] = []
    watch_tasks(told.append)
    model, telemetry = Model(), Broken()
    model.go.set()
    made = batcher_of(model.run, 1)
    made.telemetry = telemetry
    asked = [asyncio.create_task(made.answer(["a"] * length)) for length in (1, 2, 3)]
    answers = [await asyncio.wait_for(one, 30) for one in asked]
    assert [answer.text for answer in answers] == ["1", "2", "3"], "answered before it crashed, and behind it"
    assert [(failed.name, type(failed.error)) for failed in told] == [("batches", KeyError)]
    assert telemetry.faults == ["crash"]
    await made.close()


@pytest.mark.fact("H7")
async def test_prompts_whose_worker_crashes_over_them_are_answered_as_failed() -> None:
    async def too_few(_: Sequence[Row]) -> list[Answer]:
        return []

    made = batcher_of(too_few, 2)
    answers = await asyncio.wait_for(asyncio.gather(made.answer(["a"]), made.answer(["a"])), 30)
    assert [answer.text for answer in answers] == [None, None]
    assert all("zip()" in (answer.error or "") for answer in answers)
    await made.close()
