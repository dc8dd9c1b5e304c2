"""bench.thinker runs as its documentation says, on the smallest model."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from bench.thinker_setup import SHAPES, Setup, parameters, roofline


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "bench.thinker",
        "--shape",
        "tiny",
        "--device",
        "cpu",
        "--json",
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)


def run(*arguments: str) -> dict[str, Any]:
    done = bench(*arguments)
    assert done.returncode == 0, done.stderr
    assert "personas:" in done.stderr, "it says what it is at"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_way_is_measured_and_every_answer_has_exactly_the_tokens_asked_for() -> None:
    report = run("--personas", "2", "--tokens", "6", "--runs", "3", "--latency-ms", "200")
    ways = [figure["way"] for figure in report["figures"]]
    assert ways[:2] == ["one at a time", "micro-batcher"]
    assert ways[-2:] == ["endpoint 200 ms, one at a time", "endpoint 200 ms, side by side"]
    for figure in report["figures"]:
        assert figure["asked"] == 2
        assert figure["tokens_per_s"] == pytest.approx(6 * figure["thoughts_per_s"], rel=0.02)
    batcher, beside = report["figures"][1], report["figures"][-1]
    assert 0 < batcher["fill"] <= 1
    assert batcher["times_sequential"] > 0
    assert 0 < batcher["roofline_share"] < 1, "by this machine's own memory"
    least, most = batcher["times_sequential_range"]
    assert least <= batcher["times_sequential"] <= most
    assert least < most, "of three runs"
    least, most = beside["times_sequential_range"]
    assert least < 2.2, "two prompts of 200 ms side by side, in the run that was disturbed least"
    assert most > 1.3


def test_answers_of_another_length_are_no_figures() -> None:
    done = bench("--personas", "1", "--tokens", "6", "--ways", "batched", "--set", "MAX_TOKENS=9")
    assert done.returncode != 0
    assert "an answer of 9 tokens instead of 6" in done.stderr


def test_a_sweep_measures_the_batcher_by_batch_size() -> None:
    report = run("--personas", "4", "--tokens", "4", "--runs", "1", "--sweep", "1,4", "--ways", "batched")
    assert [(f["way"], f["batch"]) for f in report["figures"]] == [("micro-batcher", 1), ("micro-batcher", 4)]
    assert [(f["rows"], f["fill"]) for f in report["figures"]] == [(1, 1), (4, 1)], (
        "the batches that it names"
    )
    assert report["settings"] == {"CT2_LENGTH_STEP": "512"}, "which it says"


def test_a_sweep_keeps_a_step_that_was_asked_for() -> None:
    """The thinker's own: four prompts of mixed lengths do not share a batch, and the roofline is lower."""
    more = ("--set", "CT2_LENGTH_STEP=32")
    report = run(
        "--personas", "4", "--tokens", "4", "--runs", "1", "--sweep", "4", "--ways", "batched", *more
    )
    (figure,) = report["figures"]
    assert figure["rows"] < 4
    assert figure["fill"] == pytest.approx(figure["rows"] / 4, abs=0.02)


@pytest.mark.parametrize(
    ("shape", "rows", "tokens_a_second"),
    [
        ("0.5b", 1, 4.3e3), ("0.5b", 64, 33e3), ("0.5b", 256, 36e3),
        ("1.5b", 1, 1.4e3), ("1.5b", 64, 16e3), ("1.5b", 256, 18e3),
    ],
)  # fmt: skip
def test_the_roofline_is_that_of_the_notes(
    tmp_path: Any, shape: str, rows: int, tokens_a_second: float
) -> None:
    """Ceilings on a GPU of 4.8 TB/s in bf16 at 500 tokens of context, as they were worked out by hand."""
    setup = Setup(shape, tmp_path, "cuda", "bfloat16", 128, 4.8e12)
    assert roofline(setup, rows, 500) == pytest.approx(tokens_a_second, rel=0.08)


def test_the_shapes_are_of_the_sizes_that_they_are_named_for() -> None:
    assert parameters(SHAPES["54m"]) == pytest.approx(54e6, rel=0.02)
    assert parameters(SHAPES["0.5b"]) == pytest.approx(0.494e9, rel=0.01)
    assert parameters(SHAPES["1.5b"]) == pytest.approx(1.54e9, rel=0.01)
