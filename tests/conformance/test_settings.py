"""Facts 1.1 and 1.2 on real processes: a bad value stops its process with one clear line."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from libs.settings.cognition import cognition_reader, read_cognition
from libs.settings.process import process_reader, read_process
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

BAD = {
    "ENABLED": "maybe",
    "AUTO_START": "2",
    "LOOP_INTERVAL_MS": "fast",
    "MAX_EVENTS": "-1",
    "MAX_SNAPSHOTS": "1e3",
    "CADENCE": "lively",
    "MAX_SPAWN_DEPTH": "4294967296",
    "MAX_BRANCHING_FACTOR": "4.0",
    "TOKEN_CREDITS_PER_MINUTE": "lots",
    "CPU_CREDITS_PER_MINUTE": "-5",
    "IDLE_TTL_SECS": "18446744073709551616",
    "SHARE_MEMORY": "si",
    "THINKER_ENABLED": "ja",
    "THINKER_BACKEND": "gpt",
    "THINKER_BASE_URL": "127.0.0.1:11434",
    "THINKER_TEMPERATURE": "nan",
    "THINKER_TOP_P": "0",
    "THINKER_MAX_TOKENS": "0",
    "THINKER_TIMEOUT_MS": "0",
    "THINKER_CT2_DEVICE": "tpu",
    "THINKER_CT2_DEVICE_INDEX": "first",
    "THINKER_CT2_COMPUTE_TYPE": "int4",
    "THINKER_REPEAT_PENALTY": "0",
    "THINKER_REPEAT_LAST_N": "-1",
    "THINKER_SEED": "0x10",
    "THINKER_CONCURRENCY": "0",
    "THINKER_CONTEXT_WINDOW": "511",
    "THINKER_CT2_BATCH_SIZE": "all",
    "THINKER_CT2_LENGTH_STEP": "0",
    "THINKER_CT2_STATIC_PROMPT": "perhaps",
}
FREE_TEXT = {
    "THINKER_MODEL", "THINKER_API_KEY", "THINKER_CT2_MODEL_PATH", "THINKER_CT2_TOKENIZER_PATH",
    "THINKER_CANDLE_ARCH",
}  # fmt: skip
OWN = {
    "LOG_FORMAT": "xml",
    "LOG_LEVEL": "loud",
    "METRICS_PORT": "65536",
    "NOVELTY_THRESHOLD": "1.5",
    "DRAIN_MS": "soon",
    "RESTARTS": "-1",
    "REPLICAS": "0",
    "SYNC_ALWAYS": "sometimes",
    "MAX_PROPOSALS": "0",
    "MAX_INBOX_BYTES": "0",
    "ROLL_UP_INTERVAL_MS": "0",
    "CAPTURE": "some",
    "MAX_CAPTURES": "0",
    "GATEWAY_PORT": "http",
    "GATEWAY_HOST": "0.0.0.0",
    "TRUSTED_NETWORK": "perhaps",
    "NATS_NKEY_FILE": "/nowhere",
    "NATS_CREDS_FILE": "/nowhere",
    "NATS_TLS_CA": "/nowhere",
    "NATS_TLS_CERT": "/nowhere",
    "NATS_TLS_KEY": "/nowhere",
    "GATEWAY_TLS_CERT": "/nowhere",
    "GATEWAY_TLS_KEY": "/nowhere",
    "API_TOKENS_FILE": "/nowhere",
    "CLIENT_REQUESTS_PER_S": "-1",
    "MAX_CONNECTIONS": "0",
    "CLIENT_CONNECTIONS": "few",
    "MAX_SSE_CLIENTS": "0",
}
OWN_SECRET = {"API_TOKENS": "control:tooshort"}
OWN_FREE_TEXT = {"NATS_URL", "INSTANCE", "METRICS_HOST", "DATA_DIR", "GATEWAY_NAMES"}


def run(module: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *module.split()],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def given_up(running: Swarm, words: str) -> list[dict[str, Any]]:
    """The thinkers, once they are said not to be ready for this reason."""
    thinkers = [row for row in running.ps() if row["service"] == "thinker"]
    return thinkers if all(words in (row["not_ready_because"] or "") for row in thinkers) else []


def one_line(done: subprocess.CompletedProcess[str], name: str, value: str) -> None:
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 78, done.stderr
    assert len(lines) == 1, done.stderr
    assert name in lines[0]
    assert repr(value) in lines[0]
    assert "expected" in lines[0]


@pytest.mark.fact("1.2")
@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_stops_the_process_with_one_line(name: str) -> None:
    key = f"CODETETHER_COGNITION_{name}"
    one_line(run("services.thinker", **{key: BAD[name]}), key, BAD[name])


@pytest.mark.fact("1.2")
@pytest.mark.parametrize("name", OWN)
def test_a_bad_value_of_our_own_settings_does_so_too(name: str) -> None:
    key = f"PERPETUA_{name}"
    one_line(run("services.gateway", **{key: OWN[name]}), key, OWN[name])


@pytest.mark.fact("1.2")
@pytest.mark.parametrize("name", OWN_SECRET)
def test_a_bad_secret_does_so_without_being_shown(name: str) -> None:
    done = run("services.gateway", **{f"PERPETUA_{name}": OWN_SECRET[name]})
    one_line(done, f"PERPETUA_{name}", "(not shown)")
    assert "tooshort" not in done.stderr + done.stdout


@pytest.mark.fact("1.2")
@pytest.mark.parametrize("service", ["registry", "scheduler", "thinker", "compressor", "gateway"])
def test_every_service_and_up_itself_check_before_they_start(service: str) -> None:
    key = "CODETETHER_COGNITION_MAX_EVENTS"
    one_line(run(f"services.{service}", **{key: "many"}), key, "many")
    one_line(run("libs.cli up", **{key: "many"}), key, "many")


@pytest.mark.fact("1.2")
@pytest.mark.parametrize("module", ["services.scheduler", "libs.cli up"])
def test_settings_of_opentelemetry_that_are_wrong_do_so_too(module: str) -> None:
    one_line(run(module, OTEL_TRACES_SAMPLER="xray"), "OTEL_TRACES_SAMPLER", "xray")
    both = {"OTEL_TRACES_SAMPLER": "always_on", "OTEL_TRACES_SAMPLER_ARG": "0.5"}
    one_line(run(module, **both), "OTEL_TRACES_SAMPLER_ARG", "0.5")


def test_settings_that_opentelemetry_itself_does_not_take_stop_a_process_with_one_line() -> None:
    traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}
    done = run("services.scheduler", PERPETUA_METRICS_PORT="0", **traced)
    assert done.returncode == 78, done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("scheduler: OpenTelemetry does not take its settings: ")
    assert "'soon'" in line


@pytest.mark.fact("1.1")
@pytest.mark.fact("1.2")
def test_no_setting_is_left_out_of_these_tests() -> None:
    cognition, process = cognition_reader({}), process_reader({})
    read_cognition(cognition)
    read_process(process, "x")
    names = {d.name.removeprefix("CODETETHER_COGNITION_") for d in cognition.described}
    assert names == BAD.keys() | FREE_TEXT
    own = {d.name.removeprefix("PERPETUA_") for d in process.described}
    assert own == OWN.keys() | OWN_SECRET.keys() | OWN_FREE_TEXT


@pytest.mark.fact("1.2")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"THINKER_BACKEND": "ctranslate2"}, "needs CODETETHER_COGNITION_THINKER_CT2_MODEL_PATH"),
        (
            {"THINKER_BACKEND": "candle", "THINKER_CANDLE_MODEL_PATH": "/nowhere"},
            "/nowhere is not a CTranslate2 model folder",
        ),
        ({"THINKER_CT2_MODEL_PATH": "/nowhere"}, "/nowhere is not a CTranslate2 model folder"),
    ],
)
def test_a_named_backend_that_cannot_start_stops_its_process_and_up_does_not_loop(
    settings: dict[str, str], words: str
) -> None:
    """[H2]: `up` reports the line, does not start the thinker again, and keeps the others."""
    with swarm(settings=settings) as running:
        assert words in running.until_output(words)
        (thinker,) = eventually_sync(lambda: given_up(running, words), 30, "given up, and why")
        assert not thinker["ready"]
        assert not any("thinker-1: ended" in line for line in running.output)
        assert running.get("/v1/cognition/status")["persona_count"] == 1
