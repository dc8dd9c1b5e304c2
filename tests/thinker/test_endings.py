"""An answer ends at any of the tokens that the model's own `generation_config.json` names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from services.thinker.backends.endings import end_tokens
from services.thinker.prompt import SYSTEM, Prompt
from tests.thinker.models import backend_of

PROMPT = Prompt(SYSTEM, "What ends?")
OWN = 2


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, None),
        (OWN, None),
        ([OWN], None),
        (0, [0, OWN]),
        ([OWN, 0], [0, OWN]),
        ([7, 0], [0, OWN, 7]),
        ("2", None),
        ([True, -1, "x"], None),
        ([OWN, 8, 2**40], None),
        ([8, 7], [OWN, 7]),
    ],
)
def test_all_that_are_named_count_with_the_tokenizers_own(tmp_path: Path, said: Any, expected: Any) -> None:
    assert end_tokens(tmp_path, OWN) is None, "without the file"
    (tmp_path / "vocabulary.json").write_text(json.dumps([f"token {number}" for number in range(8)]))
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": said}))
    assert end_tokens(tmp_path, OWN) == expected


@pytest.mark.parametrize("ending", ["", "\n"])
def test_a_vocabulary_in_lines_counts_as_well(tmp_path: Path, ending: str) -> None:
    (tmp_path / "vocabulary.txt").write_text("\n".join(f"token {number}" for number in range(8)) + ending)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [OWN, 7, 8]}))
    assert end_tokens(tmp_path, OWN) == [OWN, 7]


async def test_a_second_end_ends_an_answer_and_never_makes_it_blank(tiny: Path, tmp_path: Path) -> None:
    """As a Qwen's `<|endoftext|>` does beside its `<|im_end|>`."""
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    async with backend_of(folder) as (backend, _):
        whole = (await backend.answer(PROMPT)).token_ids or []
    place = next(at for at in range(2, len(whole)) if whole[at] not in whole[:at])
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [OWN, whole[place]]}))
    async with backend_of(folder) as (backend, _):
        cut = await backend.answer(PROMPT)
    assert cut.token_ids == whole[:place]
    assert cut.finish_reason == "stop"
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [OWN, whole[0]]}))
    async with backend_of(folder) as (backend, _):
        first = await backend.answer(PROMPT)
    assert first.by_model, "it may not end before it has begun"


async def test_an_end_that_is_beyond_the_vocabulary_is_none(tiny: Path, tmp_path: Path) -> None:
    """As of a file that belongs to a larger model of the family."""
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    async with backend_of(folder) as (backend, _):
        whole = await backend.answer(PROMPT)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [OWN, 10**6, 2**40]}))
    async with backend_of(folder) as (backend, _):
        assert (await backend.answer(PROMPT)).token_ids == whole.token_ids
