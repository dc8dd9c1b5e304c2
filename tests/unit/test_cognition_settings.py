"""The settings of the reference: every name, default, floor and alias of [1.1]."""

from __future__ import annotations

from typing import Any

import pytest

from libs.contracts.limits import U32_MAX, U64_MAX
from libs.settings.cognition import (
    PREFIX,
    CognitionSettings,
    ThinkerSettings,
    chat_endpoint,
    cognition_reader,
    read_cognition,
)
from libs.settings.reader import SettingError


def read(**env: str) -> CognitionSettings:
    return read_cognition(cognition_reader({PREFIX + name: value for name, value in env.items()}))


def thinker(**env: str) -> ThinkerSettings:
    return read(**{f"THINKER_{name}": value for name, value in env.items()}).thinker


def field(settings: CognitionSettings, path: str) -> Any:
    found: Any = settings
    for name in path.split("."):
        found = getattr(found, name)
    return found


DEFAULTS = {
    "enabled": True,
    "auto_start": True,
    "loop_interval_ms": 2000,
    "max_events": 2000,
    "max_snapshots": 128,
    "adaptive": False,
    "policy.max_spawn_depth": 4,
    "policy.max_branching_factor": 4,
    "policy.token_credits_per_minute": 20_000,
    "policy.cpu_credits_per_minute": 10_000,
    "policy.idle_ttl_secs": 3600,
    "policy.share_memory": False,
    "thinker.enabled": True,
    "thinker.backend": "auto",
    "thinker.endpoint": "http://127.0.0.1:11434/v1/chat/completions",
    "thinker.model": "qwen2.5:3b-instruct",
    "thinker.api_key": None,
    "thinker.temperature": 0.2,
    "thinker.top_p": None,
    "thinker.max_tokens": 256,
    "thinker.timeout_ms": 12_000,
    "thinker.model_path": None,
    "thinker.tokenizer_path": None,
    "thinker.device": "auto",
    "thinker.device_index": 0,
    "thinker.compute_type": "auto",
    "thinker.repeat_penalty": 1.1,
    "thinker.repeat_last_n": 64,
    "thinker.seed": 42,
    "thinker.concurrency": 128,
    "thinker.window": 0,
    "thinker.batch_size": 0,
    "thinker.length_step": 32,
    "thinker.static_prompt": True,
    "thinker.given": frozenset(),
}


@pytest.mark.fact("1.1")
@pytest.mark.parametrize("path", DEFAULTS)
def test_a_default_is_what_the_table_says(path: str) -> None:
    assert field(read(), path) == DEFAULTS[path]


@pytest.mark.fact("1.1")
def test_no_field_is_without_a_default_here() -> None:
    """A new setting must be added to the table above."""
    shown = {"policy", "thinker"}
    parts = [("", read()), ("policy.", read().policy), ("thinker.", read().thinker)]
    fields = {
        f"{at}{name}" for at, part in parts for name in part.__struct_fields__ if at or name not in shown
    }
    assert fields == set(DEFAULTS)


GIVEN = [
    ("ENABLED", "false", "enabled", False),
    ("AUTO_START", "off", "auto_start", False),
    ("LOOP_INTERVAL_MS", "1500", "loop_interval_ms", 1500),
    ("MAX_EVENTS", "5000000", "max_events", 5_000_000),
    ("MAX_SNAPSHOTS", "9", "max_snapshots", 9),
    ("CADENCE", "adaptive", "adaptive", True),
    ("CADENCE", "Fixed", "adaptive", False),
    ("MAX_SPAWN_DEPTH", "0", "policy.max_spawn_depth", 0),
    ("MAX_BRANCHING_FACTOR", str(U32_MAX), "policy.max_branching_factor", U32_MAX),
    ("TOKEN_CREDITS_PER_MINUTE", "1", "policy.token_credits_per_minute", 1),
    ("CPU_CREDITS_PER_MINUTE", "2", "policy.cpu_credits_per_minute", 2),
    ("IDLE_TTL_SECS", str(U64_MAX), "policy.idle_ttl_secs", U64_MAX),
    ("SHARE_MEMORY", "yes", "policy.share_memory", True),
    ("THINKER_ENABLED", "0", "thinker.enabled", False),
    ("THINKER_BACKEND", "openai_compat", "thinker.backend", "openai_compat"),
    ("THINKER_MODEL", " llama3 ", "thinker.model", "llama3"),
    ("THINKER_API_KEY", "secret", "thinker.api_key", "secret"),
    ("THINKER_TEMPERATURE", "0", "thinker.temperature", 0.0),
    ("THINKER_TOP_P", "0.9", "thinker.top_p", 0.9),
    ("THINKER_MAX_TOKENS", "1", "thinker.max_tokens", 1),
    ("THINKER_TIMEOUT_MS", "1", "thinker.timeout_ms", 1),
    ("THINKER_CT2_MODEL_PATH", "/m", "thinker.model_path", "/m"),
    ("THINKER_CT2_TOKENIZER_PATH", "/t", "thinker.tokenizer_path", "/t"),
    ("THINKER_CT2_DEVICE", "CUDA", "thinker.device", "cuda"),
    ("THINKER_CT2_DEVICE_INDEX", "3", "thinker.device_index", 3),
    ("THINKER_CT2_COMPUTE_TYPE", "int8_float16", "thinker.compute_type", "int8_float16"),
    ("THINKER_REPEAT_PENALTY", "1.3", "thinker.repeat_penalty", 1.3),
    ("THINKER_REPEAT_LAST_N", "0", "thinker.repeat_last_n", 0),
    ("THINKER_SEED", str(U64_MAX), "thinker.seed", U64_MAX),
    ("THINKER_CONCURRENCY", "4", "thinker.concurrency", 4),
    ("THINKER_CONTEXT_WINDOW", "8192", "thinker.window", 8192),
    ("THINKER_CT2_BATCH_SIZE", "128", "thinker.batch_size", 128),
    ("THINKER_CT2_LENGTH_STEP", "1", "thinker.length_step", 1),
    ("THINKER_CT2_STATIC_PROMPT", "off", "thinker.static_prompt", False),
]


@pytest.mark.fact("1.1")
@pytest.mark.parametrize(("name", "text", "path", "value"), GIVEN)
def test_a_setting_is_read_under_its_name(name: str, text: str, path: str, value: object) -> None:
    assert field(read(**{name: text}), path) == value


@pytest.mark.fact("1.1")
@pytest.mark.parametrize(
    ("name", "texts", "path", "floor"),
    [
        ("LOOP_INTERVAL_MS", ["0", "10", "25", "99", "100"], "loop_interval_ms", 100),
        ("MAX_EVENTS", ["0", "31", "32"], "max_events", 32),
        ("MAX_SNAPSHOTS", ["0", "7", "8"], "max_snapshots", 8),
    ],
)
def test_a_smaller_value_becomes_the_floor(name: str, texts: list[str], path: str, floor: int) -> None:
    assert [field(read(**{name: text}), path) for text in texts] == [floor] * len(texts)


ALIASES = [
    ("CANDLE_MODEL_PATH", "CT2_MODEL_PATH", "model_path", "/a", "/b"),
    ("CANDLE_TOKENIZER_PATH", "CT2_TOKENIZER_PATH", "tokenizer_path", "/a", "/b"),
    ("CANDLE_DEVICE", "CT2_DEVICE", "device", "cpu", "cuda"),
    ("CANDLE_CUDA_ORDINAL", "CT2_DEVICE_INDEX", "device_index", "1", "2"),
    ("CANDLE_REPEAT_PENALTY", "REPEAT_PENALTY", "repeat_penalty", "1.5", "2.5"),
    ("CANDLE_REPEAT_LAST_N", "REPEAT_LAST_N", "repeat_last_n", "5", "6"),
    ("CANDLE_SEED", "SEED", "seed", "7", "8"),
]


@pytest.mark.fact("1.1")
@pytest.mark.parametrize(("alias", "name", "attribute", "one", "other"), ALIASES)
def test_the_candle_name_is_an_alias(alias: str, name: str, attribute: str, one: str, other: str) -> None:
    by_alias = getattr(thinker(**{alias: one}), attribute)
    assert by_alias == getattr(thinker(**{name: one}), attribute)
    assert by_alias != getattr(thinker(), attribute)
    both = getattr(thinker(**{alias: one, name: other}), attribute)
    assert both == getattr(thinker(**{name: other}), attribute), "the name goes before its alias"


@pytest.mark.fact("1.1")
def test_candle_as_a_backend_means_ctranslate2() -> None:
    assert thinker(BACKEND="candle").backend == thinker(BACKEND="ctranslate2").backend == "ctranslate2"


@pytest.mark.fact("1.2")
def test_candle_arch_is_accepted_and_unused() -> None:
    assert thinker(CANDLE_ARCH="llama") == thinker()
    assert cognition_unknown({"THINKER_CANDLE_ARCH": "llama"}) == []


@pytest.mark.fact("1.1")
def test_empty_is_none_for_the_api_key() -> None:
    assert thinker(API_KEY="").api_key is None


@pytest.mark.fact("1.1")
@pytest.mark.parametrize(
    ("base", "endpoint"),
    [
        ("http://h:1/v1", "http://h:1/v1/chat/completions"),
        (" http://h:1/v1/ ", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1///", "http://h:1/v1/chat/completions"),
        ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
        ("https://h/v1/chat/completions/", "https://h/v1/chat/completions"),
        ("", "http://127.0.0.1:11434/v1/chat/completions"),
        ("  ", "http://127.0.0.1:11434/v1/chat/completions"),
    ],
)
def test_the_base_url_is_made_the_chat_completions_url(base: str, endpoint: str) -> None:
    assert chat_endpoint(base) == endpoint
    assert thinker(BASE_URL=base).endpoint == endpoint
    assert thinker(BASE_URL=base).endpoint_given == bool(base.strip())


INVALID = [
    ("ENABLED", "maybe"),
    ("AUTO_START", "2"),
    ("LOOP_INTERVAL_MS", "-1"),
    ("LOOP_INTERVAL_MS", "86400001"),
    ("MAX_EVENTS", "many"),
    ("MAX_SNAPSHOTS", str(U32_MAX + 1)),
    ("CADENCE", "lively"),
    ("MAX_SPAWN_DEPTH", "-1"),
    ("MAX_BRANCHING_FACTOR", str(U32_MAX + 1)),
    ("IDLE_TTL_SECS", str(U64_MAX + 1)),
    ("SHARE_MEMORY", "y"),
    ("THINKER_BACKEND", "torch"),
    ("THINKER_BASE_URL", "ftp://h/v1"),
    ("THINKER_BASE_URL", "localhost:11434"),
    ("THINKER_BASE_URL", "http://"),
    ("THINKER_BASE_URL", "http://[::1/v1"),
    ("THINKER_BASE_URL", "http://h:port/v1"),
    ("THINKER_BASE_URL", "http://h:99999/v1"),
    ("THINKER_TEMPERATURE", "-0.1"),
    ("THINKER_TEMPERATURE", "hot"),
    ("THINKER_TOP_P", "0"),
    ("THINKER_TOP_P", "1.5"),
    ("THINKER_MAX_TOKENS", "0"),
    ("THINKER_TIMEOUT_MS", "0"),
    ("THINKER_CT2_DEVICE", "tpu"),
    ("THINKER_CANDLE_DEVICE", "metal"),
    ("THINKER_CT2_DEVICE_INDEX", "-1"),
    ("THINKER_CT2_COMPUTE_TYPE", "int4"),
    ("THINKER_REPEAT_PENALTY", "0"),
    ("THINKER_SEED", "-1"),
    ("THINKER_CONCURRENCY", "0"),
    ("THINKER_CONCURRENCY", "4097"),
    ("THINKER_CONTEXT_WINDOW", "511"),
    ("THINKER_CT2_BATCH_SIZE", "-1"),
    ("THINKER_CT2_LENGTH_STEP", "0"),
    ("THINKER_CT2_STATIC_PROMPT", "2"),
]


@pytest.mark.fact("1.2")
@pytest.mark.parametrize(("name", "value"), INVALID)
def test_an_invalid_value_is_told_in_one_line(name: str, value: str) -> None:
    with pytest.raises(SettingError) as raised:
        read(**{name: value})
    line = str(raised.value)
    assert line.startswith(f"{PREFIX}{name}={value!r} is not allowed: expected ")
    assert "\n" not in line
    assert raised.value.allowed


def cognition_unknown(env: dict[str, str]) -> list[str]:
    reader = cognition_reader({PREFIX + name: value for name, value in env.items()})
    read_cognition(reader)
    return reader.unknown()


def test_a_misspelt_name_is_told() -> None:
    (line,) = cognition_unknown({"LOOP_INTERVALL_MS": "1"})
    assert line.endswith(f"did you mean {PREFIX}LOOP_INTERVAL_MS?")


def test_every_setting_is_described_once() -> None:
    reader = cognition_reader({})
    read_cognition(reader)
    names = [described.name for described in reader.described]
    assert len(names) == len(set(names))
    assert {PREFIX + name for name, *_ in GIVEN} | {
        f"{PREFIX}THINKER_BASE_URL",
        f"{PREFIX}THINKER_CANDLE_ARCH",
    } == set(names)
    assert all(described.doc and described.allowed and described.default for described in reader.described)
