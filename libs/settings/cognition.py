"""The settings of the reference: names, defaults and floors of [1.1]. Prefix `CODETETHER_COGNITION_`."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from libs.contracts.limits import (
    INTERVAL_CEILING_MS,
    INTERVAL_DEFAULT_MS,
    INTERVAL_FLOOR_MS,
    U32_MAX,
    U64_MAX,
)
from libs.contracts.personas import PersonaPolicy
from libs.settings.reader import Reader, SettingError
from libs.settings.urls import is_http

PREFIX = "CODETETHER_COGNITION_"
DEFAULT_BASE_URL = "http://127.0.0.1:11434/v1"

_BACKENDS = {
    "auto": "auto",
    "ctranslate2": "ctranslate2",
    "candle": "ctranslate2",
    "openai_compat": "openai_compat",
}
_CADENCES = {"fixed": "fixed", "adaptive": "adaptive"}
_DEVICES = {"auto": "auto", "cpu": "cpu", "cuda": "cuda"}
_COMPUTE_TYPES = {
    name: name
    for name in (
        "auto",
        "default",
        "int8",
        "int8_float32",
        "int8_float16",
        "int8_bfloat16",
        "int16",
        "float16",
        "bfloat16",
        "float32",
    )
}
_NAMED = {
    "THINKER_BASE_URL": None,
    "THINKER_REPEAT_PENALTY": "THINKER_CANDLE_REPEAT_PENALTY",
    "THINKER_REPEAT_LAST_N": "THINKER_CANDLE_REPEAT_LAST_N",
    "THINKER_SEED": "THINKER_CANDLE_SEED",
}
_TOKENS_MOST = 1_000_000
_BATCH_MOST = 4096
_LENGTH_STEP_MOST = 4096
_SEED = (
    "where random numbers begin: those of a model just loaded, not of a thought; a replay is repeatable, a "
    "swarm's thoughts only at temperature 0. An endpoint is sent it where it is set"
)
_TEMPERATURE = "sampling temperature; a model in this process chooses among the 50 likeliest tokens"
LEAST_WINDOW = 512
"""Tokens; a model that sees less cannot be told who thinks and what about."""


class ThinkerSettings(Struct, frozen=True, kw_only=True):
    """What thinks, and how."""

    enabled: bool
    backend: str
    """`auto`, `ctranslate2` or `openai_compat`."""

    endpoint: str
    """The chat completions URL."""

    model: str
    api_key: str | None
    temperature: float
    top_p: float | None
    max_tokens: int
    timeout_ms: int
    """Milliseconds, for each attempt."""

    model_path: str | None
    tokenizer_path: str | None
    device: str
    device_index: int
    compute_type: str
    repeat_penalty: float
    repeat_last_n: int
    seed: int
    concurrency: int
    """Requests that may be under way to an endpoint at once."""

    window: int
    """Tokens that the model sees at once; 0: what the model's folder says, 4096 for an endpoint."""

    batch_size: int
    """Prompts of a batch at most; 0: by device."""

    length_step: int
    """Prompts are filled up to a multiple of this many tokens; 1: never."""

    static_prompt: bool
    """Whether the model's state after the shared system prompt is computed once and kept."""

    given: frozenset[str]
    """Which settings the environment names, of those that `auto` goes by or a backend may not honour."""

    @property
    def endpoint_given(self) -> bool:
        """Whether an endpoint was named: `auto` then asks it."""
        return "THINKER_BASE_URL" in self.given

    @property
    def seed_given(self) -> bool:
        """Whether a seed was named: an endpoint is then sent it."""
        return "THINKER_SEED" in self.given


class CognitionSettings(Struct, frozen=True, kw_only=True):
    """Everything that the reference lets an operator choose."""

    enabled: bool
    auto_start: bool
    loop_interval_ms: int
    max_events: int
    max_snapshots: int
    adaptive: bool
    """Whether personas think when they have reason to, within their credits; else every tick."""

    policy: PersonaPolicy
    thinker: ThinkerSettings


def cognition_reader(env: Mapping[str, str]) -> Reader:
    """Return the reader of the reference's settings."""
    return Reader(env, PREFIX)


def read_cognition(read: Reader) -> CognitionSettings:
    """Read and validate. Raises `SettingError` for the first value that is not allowed."""
    return CognitionSettings(
        enabled=read.boolean("ENABLED", True, "false: start is refused, everything else works"),
        auto_start=read.boolean(
            "AUTO_START",
            True,
            "the loop starts by itself the first time; later, what start and stop said last decides",
        ),
        loop_interval_ms=read.integer(
            "LOOP_INTERVAL_MS",
            INTERVAL_DEFAULT_MS,
            "milliseconds between a persona's thoughts, unless a start request has chosen others",
            floor=INTERVAL_FLOOR_MS,
            most=INTERVAL_CEILING_MS,
        ),
        max_events=read.integer("MAX_EVENTS", 2000, "events the stream holds", floor=32, most=U32_MAX),
        max_snapshots=read.integer("MAX_SNAPSHOTS", 128, "snapshots the stream holds", floor=8, most=U32_MAX),
        adaptive=read.choice(
            "CADENCE", "fixed", _CADENCES, "fixed: everybody thinks every tick; adaptive: who has reason to"
        )
        == "adaptive",
        policy=_policy(read),
        thinker=_thinker(read),
    )


def chat_endpoint(base_url: str) -> str:
    """Return the chat completions URL of a base URL, which may name it already."""
    url = base_url.strip().rstrip("/") or DEFAULT_BASE_URL
    return url if url.endswith("/chat/completions") else f"{url}/chat/completions"


def _policy(read: Reader) -> PersonaPolicy:
    return PersonaPolicy(
        max_spawn_depth=read.integer("MAX_SPAWN_DEPTH", 4, "default policy: depth of a tree", most=U32_MAX),
        max_branching_factor=read.integer(
            "MAX_BRANCHING_FACTOR", 4, "default policy: living children of a persona", most=U32_MAX
        ),
        token_credits_per_minute=read.integer(
            "TOKEN_CREDITS_PER_MINUTE", 20_000, "default policy: tokens", most=U32_MAX
        ),
        cpu_credits_per_minute=read.integer(
            "CPU_CREDITS_PER_MINUTE", 10_000, "default policy: milliseconds of thinking", most=U32_MAX
        ),
        idle_ttl_secs=read.integer("IDLE_TTL_SECS", 3600, "default policy: seconds", most=U64_MAX),
        share_memory=read.boolean("SHARE_MEMORY", False, "default policy: share snapshots with the swarm"),
    )


def _thinker(read: Reader) -> ThinkerSettings:
    read.text("THINKER_CANDLE_ARCH", None, "accepted and unused: a model folder names its architecture")
    return ThinkerSettings(
        enabled=read.boolean("THINKER_ENABLED", True, "false: every thought is the declared fallback"),
        backend=read.choice("THINKER_BACKEND", "auto", _BACKENDS, "what thinks; `candle` means ctranslate2"),
        endpoint=_endpoint(read),
        model=read.text("THINKER_MODEL", "qwen2.5:3b-instruct", "model name sent to the endpoint") or "",
        api_key=read.text("THINKER_API_KEY", None, "bearer token for the endpoint"),
        temperature=read.number("THINKER_TEMPERATURE", 0.2, _TEMPERATURE, least=0, most=2),
        top_p=read.fraction("THINKER_TOP_P", "nucleus sampling"),
        max_tokens=read.integer("THINKER_MAX_TOKENS", 256, "tokens of an answer", least=1, most=_TOKENS_MOST),
        timeout_ms=read.integer(
            "THINKER_TIMEOUT_MS", 12_000, "milliseconds for each attempt", least=1, most=INTERVAL_CEILING_MS
        ),
        model_path=read.text(
            "THINKER_CT2_MODEL_PATH", None, "CTranslate2 model folder", alias="THINKER_CANDLE_MODEL_PATH"
        ),
        tokenizer_path=read.text(
            "THINKER_CT2_TOKENIZER_PATH",
            None,
            "tokenizer folder or file; the model folder unless given",
            alias="THINKER_CANDLE_TOKENIZER_PATH",
        ),
        device=read.choice(
            "THINKER_CT2_DEVICE", "auto", _DEVICES, "where the model runs", alias="THINKER_CANDLE_DEVICE"
        ),
        device_index=read.integer(
            "THINKER_CT2_DEVICE_INDEX", 0, "which GPU", most=1023, alias="THINKER_CANDLE_CUDA_ORDINAL"
        ),
        compute_type=read.choice(
            "THINKER_CT2_COMPUTE_TYPE",
            "auto",
            _COMPUTE_TYPES,
            "CTranslate2's compute type; auto: as a pulled model is stored, else CTranslate2's fastest",
        ),
        repeat_penalty=read.number(
            "THINKER_REPEAT_PENALTY",
            1.1,
            "above 1 repeats less",
            least=0.01,
            most=100,
            alias="THINKER_CANDLE_REPEAT_PENALTY",
        ),
        repeat_last_n=read.integer(
            "THINKER_REPEAT_LAST_N",
            64,
            "tokens that the penalty looks back on",
            most=_TOKENS_MOST,
            alias="THINKER_CANDLE_REPEAT_LAST_N",
        ),
        seed=read.integer("THINKER_SEED", 42, _SEED, alias="THINKER_CANDLE_SEED"),
        concurrency=read.integer(
            "THINKER_CONCURRENCY", 128, "requests to the endpoint at once", least=1, most=4096
        ),
        window=_window(read),
        batch_size=read.integer(
            "THINKER_CT2_BATCH_SIZE", 0, "prompts of a batch; 0: 16 on a CPU, 64 on a GPU", most=_BATCH_MOST
        ),
        length_step=read.integer(
            "THINKER_CT2_LENGTH_STEP",
            32,
            "prompts are filled up with line ends to a multiple of so many tokens; 1: never",
            least=1,
            most=_LENGTH_STEP_MOST,
        ),
        static_prompt=read.boolean(
            "THINKER_CT2_STATIC_PROMPT", True, "compute the system prompt, which all personas share, once"
        ),
        given=frozenset(name for name, alias in _NAMED.items() if read.given(name, alias)),
    )


def _window(read: Reader) -> int:
    window = read.integer(
        "THINKER_CONTEXT_WINDOW",
        0,
        f"tokens the model sees at once, at least {LEAST_WINDOW}; 0: its own, 4096 for an endpoint",
        most=_TOKENS_MOST,
    )
    if 0 < window < LEAST_WINDOW:
        allowed = f"0 or a whole number from {LEAST_WINDOW} to {_TOKENS_MOST}"
        raise SettingError(f"{PREFIX}THINKER_CONTEXT_WINDOW", str(window), allowed)
    return window


def _endpoint(read: Reader) -> str:
    url = read.text("THINKER_BASE_URL", DEFAULT_BASE_URL, "OpenAI-compatible endpoint") or ""
    if not is_http(url):
        raise SettingError(f"{PREFIX}THINKER_BASE_URL", url, "a URL like http://127.0.0.1:11434/v1")
    return chat_endpoint(url)
