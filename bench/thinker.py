"""Thoughts a second: one prompt at a time, the micro-batcher, Hugging Face, an endpoint.

    python -m bench.thinker [--shape 54m|0.5b|1.5b|tiny] [--personas 1,16,64,256] [--tokens N] [--json]
    python -m bench.thinker --sweep 8,16,32,64,128,256

The models have random weights of real shapes, made on the spot: speed does not depend on what weights say,
and every answer has exactly N tokens. Everybody's prompt is there at once, as after a tick; p50 and p95 are
from then to the answer, but of one at a time they are those of a single call. Nothing is downloaded. On a GPU
it is the same command, after `.venv/bin/uv pip install '.[gpu]'`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import structlog
from rich.console import Console
from rich.table import Table

from bench.thinker_setup import SHAPES, Setup, bandwidth_of, find_device, make_model
from bench.thinker_ways import Figure, batched, endpoint, has_torch, hugging_face, sequential
from libs.supervisor.up import ALLOCATOR

_DEFAULT = {"cpu": ("54m", "int8", 48, 3), "cuda": ("0.5b", "bfloat16", 128, 5)}
"""Shape, compute type, new tokens and runs by device."""

_HF_BATCH = 64
_WIDTH = 120


def main() -> None:
    options = _options()
    _take_allocator()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    device = find_device() if options.device == "auto" else options.device
    shape, compute_type, tokens, runs = _DEFAULT[device]
    with tempfile.TemporaryDirectory(prefix="perpetua-bench-") as made:
        setup = Setup(
            shape=options.shape or shape,
            folder=Path(made) / "model",
            device=device,
            compute_type=options.compute_type or compute_type,
            tokens=options.tokens or tokens,
            bandwidth=bandwidth_of(device, options.bandwidth),
            extra=options.set,
        )
        _say(f"making a model of shape {setup.shape} ({setup.compute_type}) for {device}")
        make_model(setup.shape, setup.folder, setup.compute_type)
        figures = asyncio.run(_measure(setup, options, options.runs or runs))
    if options.json:
        print(json.dumps(_report(setup, figures), indent=2))
    else:
        _show(setup, figures)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, help="by device: 54m on a CPU, 0.5b on a GPU")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--compute-type", help="by device: int8 on a CPU, bfloat16 on a GPU")
    parser.add_argument("--personas", type=_numbers, default=[1, 16, 64, 256])
    parser.add_argument("--tokens", type=int, help="new tokens of each answer: 48 on a CPU, 128 on a GPU")
    parser.add_argument("--runs", type=int, help="the median counts: of 3 on a CPU, of 5 on a GPU")
    parser.add_argument("--batch", type=int, default=0, help="batch size; 0: the thinker's own")
    parser.add_argument("--sweep", type=_numbers, help="only the micro-batcher, by these batch sizes")
    parser.add_argument("--sequential-prompts", type=int, default=16, help="most prompts of one at a time")
    parser.add_argument("--latency-ms", type=float, default=50.0, help="of the endpoint's stand-in")
    parser.add_argument("--bandwidth", type=float, help="TB/s of the device's memory; known for some GPUs")
    parser.add_argument("--skip", default="", help="ways to leave out: sequential,batched,torch,endpoint")
    parser.add_argument(
        "--set",
        type=_setting,
        action=_Collect,
        default={},
        metavar="NAME=VALUE",
        help="a setting of the thinker, without its prefix: CT2_LENGTH_STEP=1, REPEAT_PENALTY=1",
    )
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError("whole numbers from 1, with commas between")
    return numbers


def _setting(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError("NAME=VALUE")
    return name.upper(), value


class _Collect(argparse.Action):
    """Collects settings into a dictionary."""

    def __call__(
        self, parser: object, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        name, value = values
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), name: value})


def _take_allocator() -> None:
    """Begin anew with the allocator's settings that `perpetua up` gives a thinker: it reads them at once."""
    missing = {name: value for name, value in ALLOCATOR.items() if name not in os.environ}
    if missing:
        command = [sys.executable, "-m", "bench.thinker", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | missing)


async def _measure(setup: Setup, options: argparse.Namespace, runs: int) -> list[Figure]:
    figures: list[Figure] = []
    skipped = set(options.skip.split(","))
    most = options.sequential_prompts
    for personas in options.personas:
        if "sequential" not in skipped:
            _say(f"{personas} personas: one at a time")
            figures.append(await sequential(setup, personas, runs, most))
        alone = figures[-1].thoughts_per_s if figures else None
        for batch in [] if "batched" in skipped else options.sweep or [options.batch]:
            _say(f"{personas} personas: the micro-batcher" + (f", batches of {batch}" if batch else ""))
            figure = await batched(setup, personas, runs, batch)
            figure.times_sequential = round(figure.thoughts_per_s / alone, 2) if alone else None
            figures.append(figure)
        if options.sweep:
            continue
        if "torch" not in skipped and has_torch():
            _say(f"{personas} personas: Hugging Face generate")
            figure = await hugging_face(setup, personas, runs, _HF_BATCH)
            figure.times_sequential = round(figure.thoughts_per_s / alone, 2) if alone else None
            figures.append(figure)
        if "endpoint" not in skipped:
            _say(f"{personas} personas: an endpoint of {options.latency_ms:g} ms")
            figures += await endpoint(setup, personas, runs, most, options.latency_ms)
    return figures


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _report(setup: Setup, figures: list[Figure]) -> dict[str, object]:
    return {
        "shape": setup.shape,
        "device": setup.device,
        "compute_type": setup.compute_type,
        "new_tokens": setup.tokens,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
        "machine": platform.machine(),
        "torch": has_torch(),
        "figures": [msgspec.to_builtins(figure) for figure in figures],
    }


def _show(setup: Setup, figures: list[Figure]) -> None:
    table = Table(
        title=f"{setup.shape}, {setup.compute_type} on {setup.device}, {setup.tokens} new tokens each; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    names = ["way", "personas", "batch", "thoughts/s", "tokens/s", "p50 ms", "p95 ms", "CPU ms"]
    names += ["fill", "× one", "roofline"]
    for name in names:
        table.add_column(name, justify="left" if name == "way" else "right", no_wrap=True)
    for figure in figures:
        table.add_row(*_cells(figure))
    Console(width=max(Console().width, _WIDTH)).print(table)


def _cells(figure: Figure) -> Iterator[str]:
    yield figure.way
    yield str(figure.personas)
    yield str(figure.batch)
    yield f"{figure.thoughts_per_s:.2f}"
    yield f"{figure.tokens_per_s:.0f}"
    yield f"{figure.p50_ms:.0f}"
    yield f"{figure.p95_ms:.0f}"
    yield f"{figure.cpu_ms:.0f}"
    yield "" if figure.fill is None else f"{figure.fill:.0%}"
    yield "" if figure.times_sequential is None else f"{figure.times_sequential:.2f}"
    yield "" if figure.roofline_share is None else f"{figure.roofline_share:.0%}"


if __name__ == "__main__":
    main()
