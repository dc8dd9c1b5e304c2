"""A replay is by the settings that were captured, and says what it does not know of them [H18]."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from libs.bus.connection import Bus
from libs.cli.replay import Changes, differences, environment
from libs.contracts import subjects
from libs.contracts.captures import Capture, CapturedPrompt, CapturedSettings
from libs.runtime.process import ConfigurationError
from libs.settings.cognition import cognition_reader, read_cognition
from libs.supervisor.data_dir import DataDir
from services.thinker.capture import settings_of
from services.thinker.prompt import SYSTEM
from services.thinker.replay import replay
from tests.golden.captured import CAPTURED_SETTINGS, CAPTURES
from tests.support.broker import Broker
from tests.support.endpoint import endpoint
from tests.thinker.models import backend_of, build_once, thinker_settings

CAPTURE = next(sample for sample in CAPTURES if isinstance(sample, Capture))
LATER = ("device_index", "length_step", "static_prompt", "not_honoured")
PROMPT = CapturedPrompt(system=SYSTEM, user="number 1")
NOT_OF_A_THOUGHT = {
    "enabled", "endpoint", "model", "api_key", "concurrency", "batch_size",
}  # fmt: skip
"""Settings that have no say in what one prompt's answer by a model in the process is."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_once(tmp_path_factory.getbasetemp() / "tiny-float32")


def fields(settings: Any) -> dict[str, Any]:
    return msgspec.structs.asdict(settings)


@pytest.mark.fact("H18")
async def test_every_setting_that_has_a_say_comes_back_from_a_capture(tiny: Path, tmp_path: Path) -> None:
    """A setting that is new must be captured, or stand among those that have none."""
    chosen = {
        "BACKEND": "ctranslate2", "CT2_MODEL_PATH": str(tiny), "CT2_TOKENIZER_PATH": str(tiny), "SEED": "7",
        "CT2_DEVICE_INDEX": "1", "CT2_LENGTH_STEP": "8", "CT2_STATIC_PROMPT": "false", "TOP_P": "0.9",
        "TEMPERATURE": "0.7", "REPEAT_PENALTY": "1.3", "REPEAT_LAST_N": "100", "CONTEXT_WINDOW": "1024",
        "TIMEOUT_MS": "5000",
    }  # fmt: skip
    settings = thinker_settings(CT2_DEVICE="cpu", **chosen)
    default = read_cognition(cognition_reader({})).thinker
    kept = {name for name, value in fields(settings).items() if value == fields(default)[name]}
    assert kept == NOT_OF_A_THOUGHT, "every other one is not its default here"
    async with backend_of(tiny, **chosen) as (backend, _):
        captured = settings_of(settings, backend)
    env = environment({}, captured, Changes(), DataDir(tmp_path))
    again = read_cognition(cognition_reader(env)).thinker
    assert msgspec.structs.replace(again, given=settings.given) == settings
    assert again.seed_given
    assert captured.unknown() == []


async def test_what_was_never_honoured_does_not_forbid_a_replay(tiny: Path) -> None:
    """A thinker with `auto` warns of it and thinks; a replay names its backend."""
    named = {"BACKEND": "ctranslate2", "CT2_MODEL_PATH": str(tiny), "CT2_DEVICE": "cpu"}
    settings = thinker_settings(REPEAT_LAST_N="8", **named)
    replayed = await replay(PROMPT, settings)
    assert replayed.answer.text, replayed.answer.error
    assert replayed.settings.not_honoured == ["repeat_last_n"]
    longer = await replay(PROMPT, settings, ["max_tokens"])
    assert longer.settings.not_honoured == ["repeat_last_n"]


async def test_what_is_asked_for_must_be_honoured(tiny: Path) -> None:
    named = {"BACKEND": "ctranslate2", "CT2_MODEL_PATH": str(tiny), "CT2_DEVICE": "cpu"}
    with pytest.raises(ConfigurationError, match=r"^--seed cannot be honoured by .*; leave it out"):
        await replay(PROMPT, thinker_settings(SEED=str(2**40), **named), ["seed"])


def old(**settings: Any) -> CapturedSettings:
    """Settings as an older version captured them."""
    captured = fields(CAPTURED_SETTINGS) | settings
    for name in LATER:
        del captured[name]
    return msgspec.convert(captured, CapturedSettings)


def test_what_an_older_version_did_not_keep_is_unknown_and_no_change(tmp_path: Path) -> None:
    of_a_model = old(backend="ctranslate2", endpoint=None, model_path="/m")
    assert of_a_model.unknown() == list(LATER)
    assert old().unknown() == ["not_honoured"], "an endpoint has none of the others"
    env = environment({}, of_a_model, Changes(), DataDir(tmp_path))
    assert not any(name.endswith(("_DEVICE_INDEX", "_LENGTH_STEP", "_STATIC_PROMPT")) for name in env)
    now = msgspec.structs.replace(
        of_a_model, device_index=0, length_step=32, static_prompt=True, not_honoured=[], temperature=1.0
    )
    assert differences(of_a_model, now) == {"temperature": (0.2, 1.0)}
    steps = msgspec.structs.replace(now, length_step=1)
    assert differences(now, steps) == {"length_step": (32, 1)}


def test_another_device_takes_its_own_number_and_compute_type(tmp_path: Path) -> None:
    was = msgspec.structs.replace(
        CAPTURED_SETTINGS, backend="ctranslate2", endpoint=None, model_path="/m", device="cuda",
        device_index=3, compute_type="bfloat16",
    )  # fmt: skip

    def asked(**changes: Any) -> list[str | None]:
        env = environment({}, was, Changes(**changes), DataDir(tmp_path))
        names = ("DEVICE", "DEVICE_INDEX", "COMPUTE_TYPE")
        return [env.get(f"CODETETHER_COGNITION_THINKER_CT2_{name}") for name in names]

    assert asked() == ["cuda", "3", "bfloat16"]
    assert asked(device="cpu") == ["cpu", None, None]
    assert asked(device="cuda") == ["cuda", None, "bfloat16"]


async def stored(bus: Bus, settings: CapturedSettings) -> None:
    """Store a capture of thought 1 of `ann`, as the version that has such settings did."""
    capture = msgspec.to_builtins(CAPTURE) | {"persona_id": "ann", "thought_count": 1}
    kept = msgspec.to_builtins(settings)
    capture["settings"] = {name: value for name, value in kept.items() if name not in settings.unknown()}
    await bus.publish(subjects.capture("ann", 1), msgspec.json.encode(capture))


async def command(broker: Broker, data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    replayed = [sys.executable, "-m", "libs.cli", "replay", "ann", "1", *arguments]
    where = ["--nats-url", broker.url, "--data-dir", str(data)]
    return await asyncio.to_thread(
        subprocess.run, [*replayed, *where], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.fact("H18")
async def test_an_old_capture_is_replayed_and_what_it_lacks_is_said(
    broker: Broker, bus: Bus, tiny: Path, tmp_path: Path
) -> None:
    await stored(
        bus,
        old(
            backend="ctranslate2", model=tiny.name, endpoint=None, model_path=str(tiny), device="cpu",
            compute_type="float32", temperature=0.0, max_tokens=8,
        ),
    )  # fmt: skip
    done = await command(broker, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "changed: nothing" in lines
    assert (
        "unknown: device index (now 0), length step (now 32), static prompt (now True); an older version "
        "captured this and did not keep it"
    ) in lines
    found = json.loads((await command(broker, tmp_path, "--json")).stdout)
    assert found["unknown"] == list(LATER)
    assert found["replayed"]["settings"]["length_step"] == 32


@pytest.mark.fact("H18")
async def test_a_slower_answer_may_be_waited_for(broker: Broker, bus: Bus, tmp_path: Path) -> None:
    with endpoint(lambda _: "Late.") as slow:
        slow.delay = 1.0
        await stored(
            bus,
            msgspec.structs.replace(
                CAPTURED_SETTINGS, endpoint=f"{slow.base_url}/chat/completions", timeout_ms=200
            ),
        )
        found = json.loads((await command(broker, tmp_path, "--json")).stdout)
        assert found["replayed"]["answer"]["error"] == "no answer within 200 ms"
        found = json.loads((await command(broker, tmp_path, "--timeout-ms", "20000", "--json")).stdout)
    assert found["replayed"]["answer"]["text"] == "Late."
    assert found["changed"] == {"timeout_ms": {"from": 200, "to": 20000}}


@pytest.mark.fact("H18")
async def test_other_weights_under_the_same_name_are_said(
    broker: Broker, bus: Bus, tiny: Path, tmp_path: Path
) -> None:
    """A model that was pulled again lies in the same folder."""
    folder = tmp_path / "models" / "tiny"
    shutil.copytree(tiny, folder)
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"files": {"model.bin": "a" * 64}}))
    named = {"BACKEND": "ctranslate2", "CT2_MODEL_PATH": str(folder), "CT2_DEVICE": "cpu"}
    was = (await replay(PROMPT, thinker_settings(**named))).settings
    assert was.weights == "a" * 64
    await stored(bus, was)
    assert "changed: nothing" in (await command(broker, tmp_path)).stdout.splitlines()
    manifest.write_text(json.dumps({"files": {"model.bin": "b" * 64}}))
    assert (
        f"changed: weights {'a' * 64} → {'b' * 64}" in (await command(broker, tmp_path)).stdout.splitlines()
    )
    manifest.unlink()
    assert "changed: nothing" in (await command(broker, tmp_path)).stdout.splitlines(), "none says"
