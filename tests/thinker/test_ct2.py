"""The CTranslate2 backend on a real tiny model: batches, deadlines, faults, special tokens."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from libs.cognition.compose import Answer
from libs.runtime.process import ConfigurationError
from libs.settings.cognition import PREFIX
from services.thinker.backends.chat import ChatTokenizer
from services.thinker.backends.ct2 import CTranslate2, Loaded
from services.thinker.backends.honouring import check
from services.thinker.backends.window import UNKNOWN_WINDOW, window_of
from services.thinker.budget import fit
from services.thinker.prompt import SYSTEM, Prompt, build
from tests.support.eventually import eventually
from tests.thinker.models import backend_of, mixed_items, sentence, thinker_settings


def prompts_of(backend: CTranslate2, count: int) -> list[Prompt]:
    return [fit(item, backend.budget, backend.count).prompt for item in mixed_items(count)]


def one_at_a_time(loaded: Loaded, tokens: list[list[str]], **more: Any) -> list[list[int]]:
    """The tokens that the generator says to each prompt alone, whole, without a static prompt."""
    options = {
        "max_length": 16,
        "min_length": 1,
        "sampling_topk": 1,
        "include_prompt_in_result": False,
    } | more
    found = [loaded.generator.generate_batch([prompt], **options)[0] for prompt in tokens]
    return [result.sequences_ids[0] for result in found]


@pytest.mark.parametrize("static", ["true", "false"])
@pytest.mark.parametrize(("penalty", "step"), [("1.1", "32"), ("1", "1")])
async def test_a_mixed_batch_says_what_each_prompt_alone_would(
    tiny: Path, static: str, penalty: str, step: str
) -> None:
    settings = {"CT2_STATIC_PROMPT": static, "REPEAT_PENALTY": penalty, "CT2_LENGTH_STEP": step}
    async with backend_of(tiny, **settings) as (backend, loaded):
        prompts = prompts_of(backend, 64)
        answers = await asyncio.gather(*(backend.answer(prompt) for prompt in prompts))
        tokens = [backend.tokens(prompt) for prompt in prompts]
        alone = one_at_a_time(loaded, tokens, repetition_penalty=float(penalty))
    assert [answer.error for answer in answers] == [None] * 64
    assert [answer.token_ids for answer in answers] == alone
    assert [answer.text for answer in answers] == [loaded.chat.text(ids) for ids in alone]
    assert len(set(map(tuple, alone))) > 32, "answers that are all the same would prove nothing"
    assert len({len(prompt) for prompt in tokens}) > 4, "the prompts are of mixed length"


async def test_prompts_are_filled_up_between_the_turns_and_lose_nothing(tiny: Path) -> None:
    async with backend_of(tiny, CT2_LENGTH_STEP="32") as (backend, loaded):
        for prompt in prompts_of(backend, 16):
            plain, filled = loaded.chat.tokens(prompt), backend.tokens(prompt)
            assert len(filled) % 32 == 0
            assert 0 <= len(filled) - len(plain) < 32
            begin = loaded.chat.shared(SYSTEM).begin
            added = len(filled) - len(plain)
            assert filled == begin + [loaded.chat.filler()] * added + plain[len(begin) :]


async def test_the_shared_part_is_cut_where_a_special_token_begins(tiny: Path) -> None:
    """So the parts are the whole: nothing merges with a special token."""
    chat = ChatTokenizer.load(tiny)
    shared = chat.shared(SYSTEM)
    for prompt in (Prompt(SYSTEM, "x"), Prompt(SYSTEM, "\n\n y"), Prompt(SYSTEM, sentence(50, 1))):
        whole = chat.tokens(prompt)
        assert whole[: len(shared.static)] == shared.static
        assert whole[len(shared.static)] == "<|im_start|>"
    assert shared.static[-2:] == ["<|im_end|>", "Ċ"]


SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
PIECES = st.sampled_from([*SPECIAL, "<|im_", "start|>", "<|", "|>", "<", "<|im_<|im_end|>end|>", "a", "\n"])


@given(st.lists(PIECES, max_size=12).map("".join), st.text(max_size=20))
@pytest.mark.fact("H14")
def test_nothing_a_persona_is_made_of_becomes_a_control_token(tiny: Path, made: str, any_text: str) -> None:
    """[H14] Not in its charter, its name or its thoughts: a prompt has the template's tokens, no more."""
    chat = shared_chat(tiny)
    frame = [token for token in chat.tokens(Prompt(SYSTEM, "harmless")) if token in SPECIAL]
    for text in (made, any_text + made + any_text):
        tokens = chat.tokens(Prompt(SYSTEM, text))
        assert [token for token in tokens if token in SPECIAL] == frame
        assert chat.count(text) <= len(tokens)


_chats: dict[Path, ChatTokenizer] = {}


def shared_chat(folder: Path) -> ChatTokenizer:
    if folder not in _chats:
        _chats[folder] = ChatTokenizer.load(folder)
    return _chats[folder]


class Recorded:
    """The real generator, its batches remembered."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self.said: list[list[int]] = []
        """Tokens of each row of each batch."""

        self.watched: list[bool] = []

    def generate_batch(self, batch: list[list[str]], **options: Any) -> Any:
        results = self._generator.generate_batch(batch, **options)
        self.watched.append(options["callback"] is not None)
        self.said.append([len(result.sequences_ids[0]) for result in results])
        return results


async def test_a_thought_that_is_late_is_a_fallback_with_the_error_and_ends_in_the_model_too(
    tiny: Path,
) -> None:
    made: list[Recorded] = []

    def around(generator: Any) -> Recorded:
        made.append(Recorded(generator))
        return made[-1]

    prompt = Prompt(SYSTEM, sentence(10, 1))
    async with backend_of(tiny, around, MAX_TOKENS="2000") as (patient, _):
        whole = await patient.answer(prompt)
        assert whole.usage is not None
        assert whole.usage.completion_tokens == made[0].said[0][0]
    async with backend_of(tiny, around, MAX_TOKENS="2000", TIMEOUT_MS="500") as (hurried, _):
        answer = await hurried.answer(prompt)
    assert answer.text is None
    assert answer.error == "no answer within 500 ms"
    assert 0 < made[1].said[0][0] < made[0].said[0][0]


async def test_batches_that_are_far_from_their_deadline_are_not_watched(tiny: Path) -> None:
    """A callback for every token costs more than it saves where nothing is ever late."""
    made: list[Recorded] = []

    def around(generator: Any) -> Recorded:
        made.append(Recorded(generator))
        return made[-1]

    async with backend_of(tiny, around, TIMEOUT_MS="60000") as (backend, _):
        for number in range(3):
            await backend.answer(Prompt(SYSTEM, f"{number}"))
    assert made[0].watched == [True, False, False], "nothing is known of the first"


class Held(Recorded):
    """The same, its batches held up until they may go on."""

    def __init__(self, generator: Any) -> None:
        super().__init__(generator)
        self.begun: list[int] = []
        """Rows of each batch."""

        self.go = threading.Event()

    def generate_batch(self, batch: list[list[str]], **options: Any) -> Any:
        self.begun.append(len(batch))
        assert self.go.wait(60)
        return super().generate_batch(batch, **options)


async def test_a_row_that_is_over_ends_alone(tiny: Path) -> None:
    made: list[Held] = []

    def around(generator: Any) -> Held:
        made.append(Held(generator))
        return made[-1]

    async with backend_of(tiny, around, MAX_TOKENS="200", CT2_BATCH_SIZE="8") as (backend, loaded):
        prompts = [Prompt(SYSTEM, f"{n} the same length") for n in range(8)]
        tokens = [backend.tokens(prompt) for prompt in prompts]
        asked = [asyncio.create_task(backend.answer(prompt)) for prompt in prompts]
        await eventually(lambda: sum(made[0].begun) == len(prompts))
        asked[3].cancel()
        await asyncio.wait([asked[3]])
        made[0].go.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(answers[3], asyncio.CancelledError)
        expected = one_at_a_time(loaded, tokens, max_length=200, repetition_penalty=1.1)
        for number, answer in enumerate(answers):
            if number != 3:
                assert isinstance(answer, Answer)
                assert answer.token_ids == expected[number]
        assert sum(map(sum, made[0].said)) < sum(map(len, expected)), "it ended before its end"


async def test_a_prompt_that_the_model_refuses_fails_alone(tiny: Path) -> None:
    """CTranslate2 refuses a whole batch for one empty prompt."""
    async with backend_of(tiny, REPEAT_PENALTY="1") as (backend, loaded):
        good = [["a"], ["Ġpersona"], ["s", "c"]]
        with pytest.raises(ValueError, match="start token"):
            loaded.generator.generate_batch([*good, []])
        answers = await asyncio.gather(*(backend.answer_tokens(tokens) for tokens in [*good, [], *good]))
        alone = one_at_a_time(loaded, good)
    assert [answer.token_ids for answer in answers] == [*alone, None, *alone]
    assert answers[3].error is not None
    assert "ValueError" in answers[3].error


class SmallMemory:
    """The real generator behind a device that has memory for few rows: there is no GPU to fill in a test."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self.sizes: list[int] = []

    def generate_batch(self, batch: list[list[str]], **options: Any) -> Any:
        self.sizes.append(len(batch))
        if len(batch) > 6:
            raise RuntimeError("CUDA failed with error out of memory")
        return self._generator.generate_batch(batch, **options)


async def test_when_memory_ends_batches_become_smaller_and_thinking_goes_on(tiny: Path) -> None:
    made: list[SmallMemory] = []

    def around(generator: Any) -> SmallMemory:
        made.append(SmallMemory(generator))
        return made[0]

    async with backend_of(tiny, around, CT2_BATCH_SIZE="32", CT2_LENGTH_STEP="512") as (backend, loaded):
        prompts = prompts_of(backend, 40)
        answers = await asyncio.gather(*(backend.answer(prompt) for prompt in prompts))
        tokens = [backend.tokens(prompt) for prompt in prompts]
        alone = one_at_a_time(loaded, tokens, repetition_penalty=1.1)
        assert [answer.token_ids for answer in answers] == alone
        before = len(made[0].sizes)
        await asyncio.gather(*(backend.answer(prompt) for prompt in prompts))
        assert max(made[0].sizes[:before]) > 6
        assert max(made[0].sizes[before:]) <= 6, "it has learned how much there is room for"
        assert backend.capacity <= 2 * 6 * 2


async def test_the_model_is_asked_for_no_more_than_its_share_of_the_window(tiny: Path) -> None:
    async with backend_of(tiny, MAX_TOKENS="4000", CONTEXT_WINDOW="512") as (backend, _):
        assert (backend.budget.window, backend.budget.asked) == (512, 256)
        too_long = await backend.answer(build(mixed_items(1)[0]))
        assert too_long.error is not None
        assert "too long for a window of 512" in too_long.error


def test_a_models_window_is_what_its_folder_says(tiny: Path, tmp_path: Path) -> None:
    assert window_of(tiny, 0) == 32_768
    assert window_of(tiny, 4096) == 4096
    assert window_of(tmp_path, 0) == UNKNOWN_WINDOW
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    assert window_of(tmp_path, 0) == UNKNOWN_WINDOW
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 131072}')
    assert window_of(tmp_path, 0) == 131_072
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 8192}')
    assert window_of(tmp_path, 0) == 8192
    (tmp_path / "manifest.json").write_text('{"window": 256}')
    with pytest.raises(ConfigurationError, match="sees 256 tokens at once; 512 are the least"):
        window_of(tmp_path, 0)


@pytest.mark.parametrize(
    ("given_settings", "ignored"),
    [
        ({}, None),
        ({"REPEAT_LAST_N": "8"}, "REPEAT_LAST_N"),
        ({"REPEAT_LAST_N": "8", "REPEAT_PENALTY": "1"}, None),
        ({"REPEAT_LAST_N": "0"}, None),
        ({"REPEAT_LAST_N": "4000"}, None),
        ({"REPEAT_LAST_N": "64", "MAX_TOKENS": "256"}, "REPEAT_LAST_N"),
        ({"CANDLE_REPEAT_LAST_N": "64", "MAX_TOKENS": "256"}, "REPEAT_LAST_N"),
        ({"MAX_TOKENS": "256"}, None),
        ({"SEED": "4294967296"}, "SEED"),
        ({"SEED": "4294967295"}, "SEED"),
        ({"SEED": "4294967294"}, None),
    ],
)
async def test_a_setting_that_a_named_backend_cannot_honour_is_refused(
    tiny: Path, given_settings: dict[str, str], ignored: str | None
) -> None:
    """With `auto` the choice is ours, so it is a warning; a setting left alone is neither.

    One that was given its default value was given. CTranslate2 takes a seed of 2^32 - 1 for none.
    """
    async with backend_of(tiny, **given_settings) as (backend, _):
        with capture_logs() as logs:
            check(thinker_settings(**given_settings, BACKEND="auto"), backend)
        warned = [entry["settings"] for entry in logs if entry["log_level"] == "warning"]
        assert warned == ([[f"{PREFIX}THINKER_{ignored}"]] if ignored else [])
        named = thinker_settings(**given_settings, BACKEND="ctranslate2")
        if ignored is None:
            check(named, backend)
        else:
            with pytest.raises(ConfigurationError, match=f"THINKER_{ignored} cannot be honoured"):
                check(named, backend)


@pytest.mark.fact("H11")
def test_a_window_beyond_the_models_own_is_taken_and_both_are_named(tiny: Path) -> None:
    with capture_logs() as logs:
        assert window_of(tiny, 32_768) == 32_768
        assert logs == []
        assert window_of(tiny, 40_000) == 40_000
    (told,) = logs
    assert (told["log_level"], told["taken"], told["own"]) == ("warning", 40_000, 32_768)


async def test_what_fills_a_prompt_up_is_in_nobodys_usage(tiny: Path) -> None:
    """Nobody asked for it, and credits are charged by usage: it is the same with every step."""
    prompt = Prompt(SYSTEM, "Say what you observe, and one doubt.")
    made, usages = set(), set()
    for step in ("1", "32", "128"):
        async with backend_of(tiny, CT2_LENGTH_STEP=step) as (backend, loaded):
            made.add(len(backend.tokens(prompt)))
            usage = (await backend.answer(prompt)).usage
            assert usage is not None and usage.completion_tokens is not None
            usages.add(usage.prompt_tokens)
            assert usage.total_tokens == len(loaded.chat.tokens(prompt)) + usage.completion_tokens
    assert usages == {len(loaded.chat.tokens(prompt))}
    assert len(made) == 3, "the prompts themselves differ"


async def test_a_penalty_that_looks_back_on_nothing_is_none(tiny: Path) -> None:
    async with backend_of(tiny, REPEAT_LAST_N="0", REPEAT_PENALTY="1.8") as (backend, loaded):
        prompt = prompts_of(backend, 1)[0]
        answer = await backend.answer(prompt)
        assert [answer.token_ids] == one_at_a_time(loaded, [backend.tokens(prompt)])


class EndsWith:
    """A generator for which another token than the model's own ends an answer."""

    def __init__(self, generator: Any, token: int) -> None:
        self._generator, self._token = generator, token

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def generate_batch(self, batch: list[list[str]], **options: Any) -> Any:
        return self._generator.generate_batch(batch, end_token=[self._token], **options)


async def test_an_answer_that_would_end_at_once_says_something(tiny: Path) -> None:
    async with backend_of(tiny) as (backend, loaded):
        (prompt,) = prompts_of(backend, 1)
        tokens = backend.tokens(prompt)
        options = {"max_length": 4, "sampling_topk": 1, "repetition_penalty": 1.1}
        told = loaded.generator.generate_batch([tokens], include_prompt_in_result=False, **options)
        first = told[0].sequences_ids[0][0]
        ends = EndsWith(loaded.generator, first)
        (nothing,) = ends.generate_batch([tokens], include_prompt_in_result=False, **options)
        assert nothing.sequences_ids[0] == []
    async with backend_of(tiny, lambda generator: EndsWith(generator, first)) as (backend, _):
        answer = await backend.answer(prompt)
    assert answer.by_model
