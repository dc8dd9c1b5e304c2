"""Thoughts a second: one prompt at a time, the micro-batcher, Hugging Face, an endpoint.

    python -m bench.thinker [--shape 54m|0.5b|1.5b|tiny] [--personas 1,16,64,256] [--tokens N] [--json]
    python -m bench.thinker --personas 64 --ways sequential,batched --runs 5
    python -m bench.thinker --sweep 8,16,32,64,128,256

The models have random weights of real shapes, made on the spot: speed does not depend on what weights say,
and every answer has exactly N tokens. Everybody's prompt is there at once, as after a tick; p50 and p95 are
from then to the answer, but of one at a time they are those of a single call. The ways take turns, run by
run, and ratios are of runs beside each other. Nothing is downloaded. On a GPU
it is the same command, after `.venv/bin/uv pip install '.[gpu]'`. A sweep fills all prompts up to one length
(CT2_LENGTH_STEP=512, unless --set says otherwise), or no large batch could be formed.
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

from bench.thinker_figures import COLUMNS, Figure
from bench.thinker_setup import SHAPES, Setup, bandwidth_of, find_device, make_model
from bench.thinker_ways import (
    WAYS,
    Models,
    Opened,
    batched,
    endpoint,
    has_torch,
    hugging_face,
    measure,
    sequential,
)
from libs.supervisor.up import ALLOCATOR

_DEFAULT = {"cpu": ("54m", "int8", 48), "cuda": ("0.5b", "bfloat16", 128)}
"""Shape, compute type and new tokens by device."""

_SWEPT = {"CT2_LENGTH_STEP": "512"}
"""What a sweep sets unless told otherwise: with a penalty only prompts of one length share a batch, and of
256 no more than 46 have one at the thinker's own step. At this one all have."""

_WIDTH = 160


def main() -> None:
    options = _options()
    _take_allocator()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    device = find_device() if options.device == "auto" else options.device
    shape, compute_type, tokens = _DEFAULT[device]
    with tempfile.TemporaryDirectory(prefix="perpetua-bench-") as made:
        setup = Setup(
            shape=options.shape or shape,
            folder=Path(made) / "model",
            device=device,
            compute_type=options.compute_type or compute_type,
            tokens=options.tokens or tokens,
            bandwidth=bandwidth_of(device, options.bandwidth),
            extra=(_SWEPT if options.sweep else {}) | options.set,
        )
        _say(f"making a model of shape {setup.shape} ({setup.compute_type}) for {device}")
        make_model(setup.shape, setup.folder, setup.compute_type)
        figures = asyncio.run(_measure(setup, options))
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
    parser.add_argument("--runs", type=int, default=5, help="the median counts")
    parser.add_argument("--batch", type=int, default=0, help="batch size; 0: the thinker's own")
    parser.add_argument("--sweep", type=_numbers, help="only the micro-batcher, by these batch sizes")
    parser.add_argument("--sequential-prompts", type=int, default=16, help="most prompts of one at a time")
    parser.add_argument("--latency-ms", type=float, default=50.0, help="of the endpoint's stand-in")
    parser.add_argument(
        "--bandwidth", type=float, help="TB/s of memory; else by the GPU's name, or as measured"
    )
    parser.add_argument("--ways", type=_names, default=WAYS, help=f"some of {','.join(WAYS)}")
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


def _names(text: str) -> list[str]:
    names = text.split(",")
    if set(names) - set(WAYS):
        raise argparse.ArgumentTypeError(f"some of {', '.join(WAYS)}, with commas between")
    return names


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


async def _measure(setup: Setup, options: argparse.Namespace) -> list[Figure]:
    models, figures = Models(setup), []
    for personas in options.personas:
        figures += await measure(models, personas, list(_ways(models, personas, options)), options.runs, _say)
    return figures


def _ways(models: Models, personas: int, options: argparse.Namespace) -> Iterator[Opened]:
    most = options.sequential_prompts
    if "sequential" in options.ways:
        yield sequential(models, personas, most)
    if "batched" in options.ways:
        for batch in options.sweep or [options.batch]:
            yield batched(models, personas, batch)
    if options.sweep:
        return
    if "torch" in options.ways and has_torch():
        yield hugging_face(models, personas)
    if "endpoint" in options.ways:
        yield endpoint(models.setup, personas, most, options.latency_ms)


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
        "settings": dict(setup.extra),
        "bandwidth_bytes_per_s": setup.bandwidth,
        "torch": has_torch(),
        "figures": [msgspec.to_builtins(figure) for figure in figures],
    }


def _show(setup: Setup, figures: list[Figure]) -> None:
    given = "".join(f", {name}={value}" for name, value in setup.extra.items())
    table = Table(
        title=f"{setup.shape}, {setup.compute_type} on {setup.device}, {setup.tokens} new tokens each"
        f"{given}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    for figure in figures:
        table.add_row(*figure.cells())
    Console(width=max(Console().width, _WIDTH)).print(table)


if __name__ == "__main__":
    main()
