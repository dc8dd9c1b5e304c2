"""`perpetua replay` against a running swarm: the same prompt, one variable changed, both answers [H18]."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.endpoint import Endpoint, endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

KEY = "a-secret-key"


def reply(request: dict[str, Any]) -> str:
    return f"Said at {request['temperature']} by {request['model']}."


@pytest.fixture(scope="module")
def model() -> Iterator[Endpoint]:
    with endpoint(reply) as running:
        yield running


@pytest.fixture(scope="module")
def up(model: Endpoint) -> Iterator[Swarm]:
    settings = {
        "THINKER_BASE_URL": model.base_url,
        "THINKER_API_KEY": KEY,
        "THINKER_MODEL": "m:1",
        "THINKER_REPEAT_PENALTY": "1.3",
        "LOOP_INTERVAL_MS": "200",
        "MAX_EVENTS": "5000",
    }
    with swarm("--quiet", settings=settings) as running:
        eventually_sync(
            lambda: running.get("/v1/swarm/personas/root-thinker")["thought_count"] >= 5, 20, "some thoughts"
        )
        running.post("/v1/cognition/stop")
        yield running


def replayed(up: Swarm, *arguments: str) -> Any:
    done = up.cli("replay", "root-thinker", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def thought(up: Swarm, number: int) -> dict[str, Any]:
    payloads = (event["payload"] for event in up.events())
    return next(p for p in payloads if p.get("thought_count") == number and "thinking" in p)


@pytest.mark.fact("H18")
def test_a_thought_is_captured_as_it_was_thought(up: Swarm, model: Endpoint) -> None:
    captured = replayed(up, "3")["captured"]
    assert captured["answer"]["text"] == thought(up, 3)["thinking"] == "Said at 0.2 by m:1."
    assert (captured["persona_id"], captured["thought_count"], captured["phase"]) == (
        "root-thinker",
        3,
        "test",
    )
    assert captured["answer"]["usage"] == thought(up, 3)["usage"]
    asked = [m["content"] for m in model.requests[2]["messages"]]
    assert asked == [captured["prompt"]["system"], captured["prompt"]["user"]]
    assert len(captured["context"]) == thought(up, 3)["context_event_count"]
    assert captured["settings"]["temperature"] == 0.2
    assert captured["settings"]["endpoint"] == f"{model.base_url}/chat/completions"
    assert KEY not in json.dumps(captured)


@pytest.mark.fact("H18")
def test_one_variable_is_changed_and_nothing_else(up: Swarm, model: Endpoint) -> None:
    found = replayed(up, "3", "--temperature", "1.5")
    assert found["changed"] == {"temperature": {"from": 0.2, "to": 1.5}}
    assert found["captured"]["answer"]["text"] == "Said at 0.2 by m:1."
    assert found["replayed"]["answer"]["text"] == "Said at 1.5 by m:1."
    original, again = model.requests[2], model.requests[-1]
    assert again | {"temperature": 0.2} == original
    assert model.headers[-1]["Authorization"] == f"Bearer {KEY}", "the caller's own key is used"


@pytest.mark.fact("H18")
def test_every_variable_reaches_the_endpoint(up: Swarm, model: Endpoint) -> None:
    found = replayed(
        up, "2", "--model", "m:2", "--top-p", "0.5", "--max-tokens", "9", "--seed", "5", "--temperature", "0"
    )
    assert found["changed"] == {
        "model": {"from": "m:1", "to": "m:2"},
        "top_p": {"from": None, "to": 0.5},
        "max_tokens": {"from": 256, "to": 9},
        "seed": {"from": 42, "to": 5},
        "temperature": {"from": 0.2, "to": 0.0},
    }
    sent = {name: value for name, value in model.requests[-1].items() if name != "messages"}
    assert sent == {
        "model": "m:2",
        "top_p": 0.5,
        "max_tokens": 9,
        "seed": 5,
        "temperature": 0,
        "stream": False,
    }


def test_what_the_endpoint_never_honoured_is_said_and_forbids_nothing(up: Swarm) -> None:
    """The swarm's penalty is not the default, which `auto` warns of."""
    settings = replayed(up, "1")["replayed"]["settings"]
    assert settings["repeat_penalty"] == 1.3
    assert settings["not_honoured"] == ["repeat_penalty", "repeat_last_n", "seed"]
    lines = up.cli("replay", "root-thinker", "1", "--seed", "4").stdout.splitlines()
    honoured = "not honoured: repeat penalty, repeat last n; when it was captured: "
    assert f"{honoured}repeat penalty, repeat last n, seed" in lines


def test_another_endpoint_may_answer(up: Swarm) -> None:
    with endpoint(lambda _: "From elsewhere.") as other:
        found = replayed(up, "1", "--base-url", other.base_url)
        assert found["replayed"]["answer"]["text"] == "From elsewhere."
        assert set(found["changed"]) == {"endpoint"}
        assert len(other.requests) == 1


def test_an_endpoint_that_fails_is_an_answer_too(up: Swarm) -> None:
    with endpoint(lambda _: 400) as other:
        answer = replayed(up, "1", "--base-url", other.base_url)["replayed"]["answer"]
        assert answer["text"] is None
        assert answer["error"].startswith("HTTP 400: ")


def test_nothing_of_a_replay_is_stored(up: Swarm) -> None:
    before = up.events()
    replayed(up, "1", "--temperature", "2")
    assert up.events() == before
    assert replayed(up, "1")["captured"]["settings"]["temperature"] == 0.2


@pytest.mark.fact("H18")
def test_people_see_both_answers_side_by_side_where_there_is_room(
    up: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    lines = up.cli("replay", "root-thinker", "3", "--temperature", "0").stdout.splitlines()
    assert "changed: temperature 0.2 → 0.0" in lines
    assert any(
        "captured: m:1, temperature 0.2" in line and "replayed: m:1, temperature 0" in line for line in lines
    )
    assert any("Said at 0.2 by m:1." in line and "Said at 0.0 by m:1." in line for line in lines)


def test_and_one_after_the_other_where_there_is_none(up: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    text = up.cli("replay", "root-thinker", "3", "--temperature", "0").stdout
    assert not any("captured:" in line and "replayed:" in line for line in text.splitlines())
    assert text.index("Said at 0.2 by m:1.") < text.index("replayed: ") < text.index("Said at 0.0 by m:1.")


def test_a_thought_that_is_not_captured_is_said_with_those_that_are_and_the_cure(up: Swarm) -> None:
    done = up.cli("replay", "root-thinker", "100000")
    assert done.returncode == 1
    assert "thought 100000 of 'root-thinker' is not captured; captured are 1 to " in done.stderr
    assert "PERPETUA_CAPTURE" in done.stderr
    done = up.cli("replay", "nobody", "1")
    assert done.returncode == 1
    assert "no thought of 'nobody' is captured: is that its id, and did a model think?" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend", "ctranslate2"], "give --model too, a model folder"),
        (["--backend", "ctranslate2", "--model", "/nowhere"], "/nowhere is not a CTranslate2 model folder"),
        (
            ["--backend", "ctranslate2", "--base-url", "http://h/v1"],
            "--base-url is for --backend openai_compat",
        ),
        (["--repeat-penalty", "1.5"], "--repeat-penalty cannot be honoured by m:1 at http"),
        (["--base-url", "no-url"], "CODETETHER_COGNITION_THINKER_BASE_URL='no-url' is not allowed"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(up: Swarm, arguments: list[str], words: str) -> None:
    done = up.cli("replay", "root-thinker", "1", *arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_swarm_it_says_where_captures_are(up: Swarm, tmp_path: Any) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", "libs.cli", "replay", "a", "1", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "no `perpetua up` runs in" in done.stderr and "--nats-url" in done.stderr


@pytest.mark.fact("H18")
def test_a_model_in_the_process_says_the_same_again_where_it_does_not_sample() -> None:
    """And an endpoint may be asked what it would have said instead."""
    settings = {
        "THINKER_TEMPERATURE": "0", "LOOP_INTERVAL_MS": "200", "THINKER_MAX_TOKENS": "24",
        "THINKER_CT2_LENGTH_STEP": "1", "THINKER_CT2_STATIC_PROMPT": "false",
    }  # fmt: skip
    with swarm("--quiet", "--model", "tiny", settings=settings) as up:
        eventually_sync(lambda: up.get("/v1/swarm/personas/root-thinker")["thought_count"] >= 2, 30)
        up.post("/v1/cognition/stop")
        found = replayed(up, "1")
        assert found["changed"] == {}
        assert found["captured"]["settings"]["backend"] == "ctranslate2"
        assert found["replayed"]["answer"]["text"] == found["captured"]["answer"]["text"] != ""
        assert found["replayed"]["answer"]["token_ids"] == found["captured"]["answer"]["token_ids"]
        assert (
            len(found["captured"]["answer"]["token_ids"])
            == (found["captured"]["answer"]["usage"]["completion_tokens"])
        )
        hot = replayed(up, "1", "--temperature", "1.5", "--seed", "7")
        assert set(hot["changed"]) == {"temperature", "seed"}
        assert hot["replayed"]["answer"]["text"] != hot["captured"]["answer"]["text"]
        with endpoint(reply) as other:
            found = replayed(up, "1", "--base-url", other.base_url, "--model", "m:9")
            assert found["replayed"]["answer"]["text"] == "Said at 0.0 by m:9."
            assert found["replayed"]["answer"]["token_ids"] is None
            assert found["changed"]["backend"] == {"from": "ctranslate2", "to": "openai_compat"}
