"""The settings of the reference: names, defaults and floors of [1.1]. Prefix `CODETETHER_COGNITION_`."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from libs.contracts.limits import INTERVAL_CEILING_MS, INTERVAL_FLOOR_MS, U32_MAX, U64_MAX
from libs.contracts.personas import PersonaPolicy
from libs.settings.reader import Reader, SettingError

PREFIX = "CODETETHER_COGNITION_"
DEFAULT_BASE_URL = "http://127.0.0.1:11434/v1"

_BACKENDS = {
    "auto": "auto",
    "ctranslate2": "ctranslate2",
    "candle": "ctranslate2",
    "openai_compat": "openai_compat",
}
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
_TOKENS_MOST = 1_000_000


class ThinkerSettings(Struct, frozen=True, kw_only=True):
    """What thinks, and how."""

    enabled: bool
    backend: str
    """`auto`, `ctranslate2` or `openai_compat`."""

    endpoint: str
    """The chat completions URL."""

    endpoint_given: bool
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


class CognitionSettings(Struct, frozen=True, kw_only=True):
    """Everything that the reference lets an operator choose."""

    enabled: bool
    auto_start: bool
    loop_interval_ms: int
    max_events: int
    max_snapshots: int
    policy: PersonaPolicy
    thinker: ThinkerSettings


def cognition_reader(env: Mapping[str, str]) -> Reader:
    """Return the reader of the reference's settings."""
    return Reader(env, PREFIX)


def read_cognition(read: Reader) -> CognitionSettings:
    """Read and validate. Raises `SettingError` for the first value that is not allowed."""
    return CognitionSettings(
        enabled=read.boolean("ENABLED", True, "false: start is refused, everything else works"),
        auto_start=read.boolean("AUTO_START", True, "the loop starts by itself, unless a stop is remembered"),
        loop_interval_ms=read.integer(
            "LOOP_INTERVAL_MS",
            2000,
            "milliseconds between a persona's thoughts",
            floor=INTERVAL_FLOOR_MS,
            most=INTERVAL_CEILING_MS,
        ),
        max_events=read.integer("MAX_EVENTS", 2000, "events the stream holds", floor=32, most=U32_MAX),
        max_snapshots=read.integer("MAX_SNAPSHOTS", 128, "snapshots the stream holds", floor=8, most=U32_MAX),
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
        endpoint_given=read.given("THINKER_BASE_URL"),
        model=read.text("THINKER_MODEL", "qwen2.5:3b-instruct", "model name sent to the endpoint") or "",
        api_key=read.text("THINKER_API_KEY", None, "bearer token for the endpoint"),
        temperature=read.number("THINKER_TEMPERATURE", 0.2, "sampling temperature", least=0, most=2),
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
            "THINKER_CT2_COMPUTE_TYPE", "auto", _COMPUTE_TYPES, "CTranslate2's compute type"
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
        seed=read.integer("THINKER_SEED", 42, "seed of the sampling", alias="THINKER_CANDLE_SEED"),
    )


def _endpoint(read: Reader) -> str:
    url = read.text("THINKER_BASE_URL", DEFAULT_BASE_URL, "OpenAI-compatible endpoint") or ""
    if not _is_http(url):
        raise SettingError(f"{PREFIX}THINKER_BASE_URL", url, "a URL like http://127.0.0.1:11434/v1")
    return chat_endpoint(url)


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is none
        return False
