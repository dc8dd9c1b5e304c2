"""What a pull needs of disk and memory: estimated before it begins, and refused where there is less."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
from msgspec import Struct

from libs.machine.control_groups import memory_left
from libs.models.check import TOKENS
from libs.models.errors import TooLittle

_BYTES = {"int8": 1.05, "float16": 2.0, "bfloat16": 2.0, "float32": 4.0}
"""Bytes a weight takes in a stored model: for int8 with its scales."""

_BESIDES = 24 << 20
"""Tokenizer, vocabulary and what file systems take."""

_PROCESS = 400 << 20
"""Python with numpy, transformers and CTranslate2."""


class Needs(Struct, frozen=True, kw_only=True):
    """Bytes."""

    download: int
    """Still to come over the network."""

    kept: int
    """The converted model."""

    disk: int
    """At the highest: what is downloaded still and the converted model."""

    memory: int
    """At the highest: for the check."""

    strict: bool
    """Whether the check computes in float32; false where memory is only enough for int8."""


def stored_bytes(parameters: int, compute_type: str) -> int:
    """Return about how large a converted model is."""
    kind = "int8" if compute_type.startswith("int8") else compute_type
    return int(parameters * _BYTES[kind]) + _BESIDES


def estimate(
    parameters: int,
    vocabulary: int,
    hidden: int,
    compute_type: str,
    download: int,
    *,
    by_torch: bool = False,
) -> Needs:
    """Return what a pull needs. Raises `TooLittle` where the machine cannot have the memory.

    The check holds the loaded model, its logits, and one matrix of the source with a copy; `by_torch` also
    the whole source in float32, and it is always strict. In int8 a second process computes.
    """
    kept = stored_bytes(parameters, compute_type)
    beside = _PROCESS + 2 * TOKENS * vocabulary * 4 + 3 * vocabulary * hidden * 4
    strict, loose = (8 if by_torch else 4) * parameters + beside, int(1.1 * parameters) + beside + _PROCESS
    available = memory_available()
    rounded = compute_type.startswith("int8") and not by_torch and strict > available
    memory = loose if rounded else strict
    needs = Needs(download=download, kept=kept, disk=download + kept, memory=memory, strict=not rounded)
    if memory > available:
        raise TooLittle(
            f"converting and checking needs about {size(memory)} of memory, {size(available)} is free. "
            "End other programs, or choose a smaller model"
        )
    return needs


def check_disk(folder: Path, needed: int) -> None:
    """Raise `TooLittle` where a folder's disk has not so many bytes left."""
    if needed > free(folder):
        raise TooLittle(
            f"about {size(needed)} of disk are needed in {folder}, {size(free(folder))} are free. Make "
            "room, or choose another folder with --data-dir"
        )


def free(folder: Path) -> int:
    """Return how many bytes a folder's disk has left."""
    return shutil.disk_usage(folder).free


def memory_available(root: Path = Path("/")) -> int:
    """Return how many bytes this process may still take, its container's limits included."""
    available = int(psutil.virtual_memory().available)
    left = memory_left(root)
    return available if left is None else min(available, left)


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
