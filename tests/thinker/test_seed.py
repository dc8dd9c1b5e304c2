"""What a seed promises: it begins a process's random numbers, not a thought's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from libs.contracts.captures import CapturedPrompt
from services.thinker.prompt import SYSTEM, Prompt
from services.thinker.replay import replay
from tests.thinker.models import backend_of, thinker_settings
from tests.thinker.test_ct2 import Recorded

ROWS = 4
"""So few are one batch: of more, each core has a share, and which goes on with whose numbers is chance."""


async def first_batch(folder: Path, seed: int, temperature: str = "1") -> list[list[int] | None]:
    """What the first batch of a model that was just loaded says."""
    made: list[Recorded] = []

    def around(generator: Any) -> Recorded:
        made.append(Recorded(generator))
        return made[-1]

    async with backend_of(folder, around, SEED=str(seed), TEMPERATURE=temperature) as (backend, _):
        prompts = [Prompt(SYSTEM, f"number {n}") for n in range(ROWS)]
        answers = await asyncio.gather(*(backend.answer(prompt) for prompt in prompts))
    assert [len(rows) for rows in made[0].said] == [ROWS], "they are one batch"
    return [answer.token_ids for answer in answers]


async def test_the_first_batch_of_one_seed_is_always_the_same_and_of_another_another(tiny: Path) -> None:
    one = await first_batch(tiny, 7)
    assert await first_batch(tiny, 7) == one
    assert await first_batch(tiny, 8) != one
    assert len(set(map(tuple, filter(None, one)))) > 1, "each row has random numbers of its own"


async def test_what_comes_later_depends_on_what_came_before(tiny: Path) -> None:
    """So a swarm's thoughts are not repeatable by a seed."""
    prompt = Prompt(SYSTEM, "number 1")
    async with backend_of(tiny, SEED="7", TEMPERATURE="1") as (backend, _):
        said = [(await backend.answer(prompt)).token_ids for _ in range(6)]
    assert len(set(map(tuple, filter(None, said)))) > 1


async def test_at_temperature_zero_no_seed_matters(tiny: Path) -> None:
    assert await first_batch(tiny, 7, "0") == await first_batch(tiny, 8, "0")


@pytest.mark.fact("H18")
async def test_a_replay_of_one_seed_says_the_same_each_time(tiny: Path) -> None:
    """[H18] It thinks with a model loaded for it."""
    asked = CapturedPrompt(system=SYSTEM, user="number 1")

    async def answered(seed: str) -> list[int] | None:
        named = {"BACKEND": "ctranslate2", "CT2_MODEL_PATH": str(tiny), "CT2_DEVICE": "cpu"}
        replayed = await replay(asked, thinker_settings(SEED=seed, TEMPERATURE="1", **named))
        return replayed.answer.token_ids

    one = await answered("7")
    assert await answered("7") == one
    assert await answered("8") != one
