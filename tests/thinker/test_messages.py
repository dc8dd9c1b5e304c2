"""Messages through the CTranslate2 backend: the answer's start is given, gibberish is no decision [H15]."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import pytest

from libs.contracts.captures import CapturedPrompt
from libs.contracts.limits import ITEM_ATTEMPTS
from services.thinker.budget import fit
from services.thinker.prompt import DECISION_START, Prompt, build
from services.thinker.replay import replay
from tests.thinker.chain import build as build_chain
from tests.thinker.models import backend_of, thinker_settings
from tests.thinker.reading import Reading
from tests.thinker.test_ct2 import Recorded
from tests.unit.make import item
from tests.unit.messages import events, of_type, outcomes, reading, taken


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that goes on from a decision's start as it should."""
    folder = tmp_path_factory.getbasetemp() / "chain"
    build_chain(folder, f'{DECISION_START}true,"response":"Calm."}}', "\nNothing")
    return folder


@pytest.mark.fact("H15")
async def test_a_model_goes_on_from_the_start_of_its_decision(chain: Path) -> None:
    async with backend_of(chain) as (backend, loaded):
        asked = reading(taken(1, "Is it calm?"))
        made = Reading(backend)
        entry = await made.thinking.answer(asked, 1)
        prompt = fit(asked, backend.budget, backend.count).prompt
        tokens = backend.tokens(prompt)
    thought, handled = events(entry)
    assert thought["payload"]["thinking"] == "Calm."
    assert (thought["payload"]["error"], thought["payload"]["model"]) == (None, "chain")
    assert (handled["payload"]["will_respond"], handled["payload"]["response"]) == (True, "Calm.")
    assert outcomes(entry) == ["handled"]
    assert thought["payload"]["usage"]["prompt_tokens"] == len(loaded.chat.tokens(prompt))
    start = loaded.chat.tokens(Prompt("", ""))
    assert "".join(tokens).endswith("".join(start[-2:]) + DECISION_START), "behind the turn of the assistant"
    assert made.counted("perpetua_decisions_total", outcome="response") == 1
    assert made.counted("perpetua_decisions_asked_again_total") == 0


async def test_what_is_prefilled_is_part_of_the_answer_unless_nothing_follows(chain: Path) -> None:
    async with backend_of(chain) as (backend, _):
        said = await backend.answer(Prompt("s", "u", DECISION_START))
        silent = await backend.answer(Prompt("s", "u", "}"))
        plain = await backend.answer(Prompt("s", "u"))
    assert said.text == '{"will_respond":true,"response":"Calm."}'
    assert (silent.text, silent.failure) == ("", "empty completion")
    assert plain.text == "Nothing"


@pytest.mark.fact("H15")
@pytest.mark.fact("A5")
async def test_gibberish_is_no_decision_and_after_three_thoughts_the_message_is_set_aside(tiny: Path) -> None:
    async with backend_of(tiny, MAX_TOKENS="8") as (backend, _):
        made = Reading(backend)
        entries = [
            await made.thinking.answer(reading(taken(attempts=attempts)), 1)
            for attempts in range(ITEM_ATTEMPTS)
        ]
    assert [outcomes(entry) for entry in entries] == [["failed"], ["failed"], ["aside"]]
    for entry in entries:
        thought = events(entry)[0]["payload"]
        assert thought["source"] == "model"
        assert thought["thinking"].startswith(DECISION_START)
        assert thought["error"].startswith("no decision: the answer is not one JSON object")
        assert of_type(entry, "inbox_handled")[0]["error"] == thought["error"]
        assert thought["usage"]["completion_tokens"] == 16, "it was asked twice, and both count"
        assert entry.effort is not None
        assert entry.effort.tokens == thought["usage"]["total_tokens"]
    (dropped,) = of_type(entries[-1], "inbox_dropped")
    assert (dropped["content"], dropped["attempts"]) == ("Is it calm?", ITEM_ATTEMPTS)
    assert made.counted("perpetua_decisions_total", outcome="none") == 3
    assert made.counted("perpetua_decisions_asked_again_total") == 3
    assert made.counted("perpetua_inbox_items_taken_up_total", outcome="aside") == 1


async def test_each_row_of_a_batch_has_its_share_of_what_the_batch_cost(tiny: Path) -> None:
    made: list[Recorded] = []

    def around(generator: Any) -> Recorded:
        made.append(Recorded(generator))
        return made[-1]

    settings = {"MAX_TOKENS": "64", "REPEAT_PENALTY": "1", "CT2_BATCH_SIZE": "4"}
    async with backend_of(tiny, around, **settings) as (backend, _):
        prompts = [build(item(f"p{n}")) for n in range(8)]
        answers = await asyncio.gather(*(backend.answer(prompt) for prompt in prompts))
    assert [len(rows) for rows in made[0].said] == [4, 4]
    for answer in answers:
        assert answer.cpu_ms is not None and answer.latency_ms > 0
        assert abs(4 * answer.cpu_ms - answer.latency_ms) <= 3, "rounded; four rows cost what their batch did"


async def test_a_late_thought_costs_what_its_row_had_of_the_batch(tiny: Path) -> None:
    async with backend_of(tiny, MAX_TOKENS="4000", TIMEOUT_MS="600", CT2_BATCH_SIZE="1") as (backend, _):
        began = perf_counter()
        answers = await asyncio.gather(*(backend.answer(build(item(f"p{n}"))) for n in range(6)))
        all_ms = (perf_counter() - began) * 1000
    assert all(answer.text is None and not answer.outage for answer in answers)
    begun = [answer.cpu_ms or 0 for answer in answers if "waited" not in (answer.error or "")]
    waited = [answer.cpu_ms for answer in answers if "waited" in (answer.error or "")]
    assert max(begun) > 0 and all(0 <= ms <= all_ms + 1 for ms in begun), (
        "one may begin just before it is late"
    )
    assert waited and set(waited) == {0}


async def test_messages_fit_the_window_with_their_answers_start(tiny: Path) -> None:
    """The tiny model's tokens are few letters long: of ten messages some have to wait."""
    async with backend_of(tiny, MAX_TOKENS="16", CONTEXT_WINDOW="2200") as (backend, _):
        messages = [taken(number, f"Message {number}: " + "is it calm? " * 12) for number in range(1, 11)]
        asked = reading(*messages)
        fitted = fit(asked, backend.budget, backend.count)
        answer = await backend.answer(fitted.prompt)
        entry = await Reading(backend).thinking.answer(asked, 1)
    assert answer.by_model, answer.error
    told = [one.sequence for one in fitted.told.messages]
    assert 0 < len(told) < 10
    assert told == list(range(1, len(told) + 1))
    assert fitted.told.too_long == []
    assert fitted.told.allocation["inbox"] == "floor"
    assert entry.effort is not None
    assert len(entry.effort.items) <= len(told), "those without room are put back"


async def test_a_captured_prompt_is_replayed_with_its_answers_start(chain: Path) -> None:
    prompt = build(reading(taken()))
    kept = CapturedPrompt(system=prompt.system, user=prompt.user, prefill=prompt.prefill)
    with_model = thinker_settings(BACKEND="ctranslate2", CT2_MODEL_PATH=str(chain), CT2_DEVICE="cpu")
    replayed = await replay(_decode(msgspec.json.encode(kept)), with_model)
    assert replayed.answer.text == '{"will_respond":true,"response":"Calm."}'
    old = await replay(_decode(b'{"system": "s", "user": "u"}'), with_model)
    assert old.answer.text == "Nothing", "captures from before there were any have none"


_decode = msgspec.json.Decoder(CapturedPrompt).decode
