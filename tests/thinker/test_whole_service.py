"""What the swarm thinks in batches is what the model says to each prompt alone, token for token."""

from __future__ import annotations

from pathlib import Path

import msgspec
import nats
import pytest

from libs.cognition.context import context_line
from libs.cognition.text import THINKING_CHARS, trim
from libs.contracts import streams, subjects
from libs.contracts.captures import Capture
from libs.contracts.thoughts import EventType
from libs.contracts.work import WorkItem
from services.thinker.budget import fit
from tests.support.eventually import eventually, eventually_sync
from tests.support.http import fetch
from tests.support.swarm import Swarm, swarm
from tests.thinker.models import backend_of, sentence
from tests.unit.make import item

PERSONAS = 64
LEAST_FILLED = 3
"""Prompts of a batch on average: only those of one length share one, and workers share what waits."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("static", ["true", "false"])
async def test_thoughts_of_a_mixed_batch_are_those_of_one_prompt_at_a_time(tiny: Path, static: str) -> None:
    """Real processes, real broker; 64 personas of charters of 1 to 64 words are ticked at once."""
    settings = thinker_of(tiny, CT2_STATIC_PROMPT=static)
    settings |= {"AUTO_START": "false", "LOOP_INTERVAL_MS": "600000"}
    with swarm(settings=settings, own={"CAPTURE": "all"}) as running:
        for number in range(PERSONAS):
            body = {"persona_id": f"p{number}", "name": f"n{number}", "role": "observer"}
            running.post("/v1/swarm/personas", body | {"charter": sentence(number + 1, number)})
        running.post("/v1/cognition/start")
        eventually_sync(lambda: status_of(running) >= PERSONAS, 120, "a thought of everybody")
        raw = await stored(running, streams.EVENTS, "perpetua.events.>", 2 * PERSONAS)
        kept = await stored(running, streams.CAPTURES, subjects.CAPTURES, PERSONAS)
        batches, rows = (metric(running, f"perpetua_batch_rows_{name}") for name in ("count", "sum"))
        environment = environment_of(running.pid("thinker"))
    stream = [(data, msgspec.json.decode(data)) for data in raw]
    spawned = {one["persona_id"]: data for data, one in stream if one["event_type"] == "persona_spawned"}
    thoughts = {
        event["persona_id"]: event["payload"]
        for _, event in stream
        if event["event_type"] == EventType.THOUGHT_GENERATED
    }
    captures = {one.persona_id: one for one in (msgspec.json.decode(data, type=Capture) for data in kept)}
    assert len(thoughts) == PERSONAS
    assert rows == PERSONAS
    assert rows / batches >= LEAST_FILLED, f"thoughts went in batches, {batches} of them"
    assert "MALLOC_ARENA_MAX=1" in environment, "the allocator is set before the process starts"
    async with backend_of(tiny) as (backend, loaded):
        for number in range(PERSONAS):
            name = f"p{number}"
            prompt = fit(persona(number, spawned[name]), backend.budget, backend.count).prompt
            (result,) = loaded.generator.generate_batch(
                [backend.tokens(prompt)],
                max_length=16,
                min_length=1,
                sampling_topk=1,
                repetition_penalty=1.1,
                include_prompt_in_result=False,
            )
            ids, capture = result.sequences_ids[0], captures[name]
            assert (capture.prompt.system, capture.prompt.user) == (prompt.system, prompt.user)
            assert capture.answer.token_ids == ids
            assert thoughts[name]["source"] == "model"
            assert thoughts[name]["thinking"] == trim(loaded.chat.text(ids), THINKING_CHARS)
            assert thoughts[name]["usage"]["completion_tokens"] == len(ids)
    said = {tuple(capture.answer.token_ids or ()) for capture in captures.values()}
    assert len(said) > PERSONAS // 2, "answers that are all the same would prove nothing"


def persona(number: int, spawned: bytes) -> WorkItem:
    """What the scheduler made of a persona for its first thought."""
    return msgspec.structs.replace(
        item(f"p{number}", 1, [context_line(spawned)]),
        name=f"n{number}",
        charter=sentence(number + 1, number),
    )


def status_of(running: Swarm) -> int:
    """How many thoughts the stream holds."""
    return sum("thinking" in event["payload"] for event in running.events())


def environment_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_text().split("\0")


def metric(running: Swarm, name: str) -> float:
    """A metric of the thinker."""
    port = eventually_sync(lambda: metrics_port(running), what="a thinker that is heard of")
    lines = fetch(f"http://127.0.0.1:{port}/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


def metrics_port(running: Swarm) -> int | None:
    """The thinker's; none where `ps` did not hear of it in time."""
    return next((row["metrics_port"] for row in running.ps() if row["service"] == "thinker"), None)


def thinker_of(tiny: Path, **settings: str) -> dict[str, str]:
    """Settings of a swarm that thinks with the tiny model."""
    chosen = {"TEMPERATURE": "0", "MAX_TOKENS": "16", "CT2_COMPUTE_TYPE": "float32", "TIMEOUT_MS": "60000"}
    chosen |= {"BACKEND": "ctranslate2", "CT2_MODEL_PATH": str(tiny)} | settings
    return {f"THINKER_{name}": value for name, value in chosen.items()}


def test_what_a_small_window_has_no_room_for_is_left_out_counted_and_said(tiny: Path) -> None:
    """[H11, H12] The tiny model's tokens are few letters long, so that 1 200 of them are soon full."""
    settings = thinker_of(tiny, CONTEXT_WINDOW="1200") | {"LOOP_INTERVAL_MS": "100"}
    with swarm(settings=settings) as running:
        body = {"persona_id": "long", "name": "n", "role": "observer", "charter": sentence(1000, 1)[:8000]}
        running.post("/v1/swarm/personas", body)

        def told() -> bool:
            payloads = [event["payload"] for event in running.events() if "thinking" in event["payload"]]
            dropped = [p for p in payloads if p["persona"]["id"] == "root-thinker" and "context_dropped" in p]
            trimmed = [p for p in payloads if p["persona"]["id"] == "long" and "charter_trimmed" in p]
            assert all(p["source"] == "model" for p in payloads), payloads
            return bool(dropped and trimmed and dropped[-1]["context_dropped"] <= 8)

        eventually_sync(told, 90, "a thought with context left out, and one with its charter trimmed")
        first = next(e["payload"] for e in running.events() if "thinking" in e["payload"])
        assert "context_dropped" not in first, "with nothing left out the keys are the reference's"
        assert metric(running, "perpetua_context_dropped_total") >= 1
        assert metric(running, "perpetua_charters_trimmed_total") >= 1


@pytest.mark.fact("H2")
def test_a_thinker_that_stops_over_a_setting_is_reported_and_not_started_again(tiny: Path) -> None:
    """Another start would end like the first. Everybody else goes on, and nothing claims that it thinks."""
    with swarm(settings=thinker_of(tiny, REPEAT_LAST_N="8")) as running:
        said = running.until_output("cannot be honoured")
        assert "CODETETHER_COGNITION_THINKER_REPEAT_LAST_N cannot be honoured by tiny-float32" in said
        running.until_output("thinker-1: stopped over its configuration, and is not started again")
        assert "thinker-1" in running.until_output("without")
        (thinker,) = [row for row in running.ps() if row["service"] == "thinker"]
        assert (thinker["pid"], thinker["ready"], thinker["restarts"]) == (None, False, 0)
        assert "cannot be honoured by tiny-float32" in thinker["not_ready_because"]
        assert "not started again" in " ".join(running.cli("ps").stdout.split())
        running.post("/v1/cognition/stop")
        assert sum("cannot be honoured" in line for line in running.output) == 1, "it does not loop"
        assert not any("starting it again" in line for line in running.output)


async def stored(running: Swarm, stream: str, subject: str, least: int) -> list[bytes]:
    """At least so many messages of a stream, from its beginning."""
    found: list[bytes] = []
    client = await nats.connect(running.nats_url, **running.nats_as("admin"))
    try:
        subscription = await client.jetstream().subscribe(subject, stream=stream, ordered_consumer=True)

        async def take() -> bool:
            found.append((await subscription.next_msg(timeout=5)).data)
            return len(found) >= least

        await eventually(take, 60, f"{least} messages of {stream}")
    finally:
        await client.close()
    return found
