"""What a CTranslate2 model runs on: the choice, its libraries and defaults, how it says that memory ends."""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct

from libs.machine.control_groups import cpu_quota
from libs.runtime.process import ConfigurationError
from libs.settings.cognition import ThinkerSettings

log = structlog.get_logger("device")

CPU_BATCH = 16
GPU_BATCH = 64
"""Rows; decoding on a GPU gains little beyond, by the roofline, and pays with every thought's latency."""

CPU_LONG_ROWS = 4
"""Rows of a batch whose prompts have `TOKENS_A_ROW` tokens. Each costs 4 MiB a head of the model, and copies:
16 of them would take gigabytes of a laptop's memory, where batches of 4 cost a tenth more time."""

TOKENS_A_ROW = 1024
"""What a row of a full batch may have on average, prompt and answer; longer ones make smaller batches."""

_CUBLAS = ("libcublasLt.so.12", "libcublas.so.12")
GPU_CURE = "install the extra: .venv/bin/uv pip install '.[gpu]'"
_NO_MEMORY = ("out of memory", "alloc_failed", "bad_alloc", "cannot allocate memory", "failed to allocate")


class Device(Struct, frozen=True, kw_only=True):
    """Where a model runs and how its work is spread there."""

    name: str
    """`cpu` or `cuda`."""

    index: int
    workers: int
    """Batches at once: a core each on a CPU, one on a GPU."""

    threads: int
    """Threads of one batch; 0: as CTranslate2 thinks best."""

    batch: int
    """Rows of a batch at most."""

    long_rows: int
    """Rows of a batch at most where prompts are of `TOKENS_A_ROW` tokens; others count by the square."""


def choose_device(settings: ThinkerSettings, ctranslate2: Any) -> Device:
    """Return the device that the settings and the machine call for. Raises `ConfigurationError`.

    A GPU without cuBLAS 12 computes nothing: `auto` passes it over, and says so.
    """
    gpus = ctranslate2.get_cuda_device_count()
    if settings.device == "cuda" and settings.device_index >= gpus:
        raise ConfigurationError(
            f"CODETETHER_COGNITION_THINKER_CT2_DEVICE=cuda, but there is no GPU {settings.device_index} "
            f"({gpus} found); use `auto` or `cpu`"
        )
    if settings.device == "auto" and gpus and not has_cublas():
        log.warning("gpu_passed_over", gpus=gpus, because="cuBLAS 12 cannot be loaded", cure=GPU_CURE)
        gpus = 0
    if settings.device == "cpu" or not gpus:
        rows = settings.batch_size or CPU_BATCH
        long_rows = min(rows, CPU_LONG_ROWS)
        return Device(name="cpu", index=0, workers=cores(), threads=1, batch=rows, long_rows=long_rows)
    rows = settings.batch_size or GPU_BATCH
    return Device(name="cuda", index=settings.device_index, workers=1, threads=0, batch=rows, long_rows=rows)


def prepare(settings: ThinkerSettings, stored: str | None = None) -> None:
    """Set what CTranslate2 reads when it loads: cuBLAS from the `gpu` extra, unpacked float32 matrices.

    Packing float32 matrices makes small batches slower; the variable counts only before the first model. It
    may be computed as it is `stored`.
    """
    if "float32" in (settings.compute_type, stored):
        os.environ.setdefault("CT2_PACKED_GEMM", "0")
    if settings.device != "cpu":
        load_cublas()


def load_cublas() -> bool:
    """Load the cuBLAS of the `gpu` extra, where it is installed, so that CTranslate2 finds it by its name."""
    try:
        found = find_spec("nvidia.cublas")
    except ModuleNotFoundError:
        return False
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    for folder in folders:
        libraries = [Path(folder) / "lib" / name for name in _CUBLAS]
        if not all(library.is_file() for library in libraries):
            continue
        try:
            for library in libraries:  # cublas needs cublasLt
                ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            log.warning("cublas_not_loaded", error=str(error))
            return False
        return True
    return False


def has_cublas() -> bool:
    """Whether CTranslate2 finds cuBLAS when it loads it by name: that of the extra, or the machine's own."""
    if load_cublas():
        return True
    try:
        for name in _CUBLAS:
            ctypes.CDLL(name)
    except OSError:
        return False
    return True


def is_out_of_memory(error: Exception) -> bool:
    """Whether a batch failed for want of memory, by what CUDA, cuBLAS and C++ say then."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in _NO_MEMORY)


def cores() -> int:
    """Return how many processor cores this process may use, and has the time for."""
    may = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return may if quota is None else min(may, max(ceil(quota), 1))
