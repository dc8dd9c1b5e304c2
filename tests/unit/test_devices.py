"""What a model runs on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ctranslate2
import pytest
from structlog.testing import capture_logs

from libs.runtime.process import ConfigurationError
from libs.settings.cognition import PREFIX, ThinkerSettings, cognition_reader, read_cognition
from services.thinker.backends import devices
from services.thinker.backends.computing import stored_type
from services.thinker.backends.devices import (
    CPU_BATCH,
    GPU_BATCH,
    choose_device,
    cores,
    is_out_of_memory,
    load_cublas,
    prepare,
)


class Machine:
    """What CTranslate2 says of a machine with so many GPUs."""

    def __init__(self, gpus: int) -> None:
        self._gpus = gpus

    def get_cuda_device_count(self) -> int:
        return self._gpus


def chosen(**settings: str) -> ThinkerSettings:
    env = {f"{PREFIX}THINKER_{name}": value for name, value in settings.items()}
    return read_cognition(cognition_reader(env)).thinker


def test_a_cpu_has_a_batch_for_each_core_with_one_thread() -> None:
    device = choose_device(chosen(), Machine(0))
    assert (device.name, device.workers, device.threads, device.batch) == ("cpu", cores(), 1, CPU_BATCH)
    assert choose_device(chosen(CT2_DEVICE="cpu"), Machine(2)).name == "cpu"


def test_a_gpu_has_one_large_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_cublas", lambda: True)
    device = choose_device(chosen(CT2_DEVICE_INDEX="1"), Machine(2))
    assert (device.name, device.index, device.workers, device.batch) == ("cuda", 1, 1, GPU_BATCH)
    assert choose_device(chosen(CT2_BATCH_SIZE="128"), Machine(1)).batch == 128


def test_a_gpu_without_cublas_is_passed_over_and_the_extra_is_named() -> None:
    """Unless it was named: then the process stops at its first token, with the same cure."""
    with capture_logs() as logs:
        assert choose_device(chosen(), Machine(1)).name == "cpu"
    (told,) = logs
    assert (told["event"], told["log_level"]) == ("gpu_passed_over", "warning")
    assert ".[gpu]" in told["cure"]
    assert choose_device(chosen(CT2_DEVICE="cuda"), Machine(1)).name == "cuda"


def test_a_gpu_that_is_not_there_is_a_clear_word() -> None:
    with pytest.raises(ConfigurationError, match=r"there is no GPU 0 .* use `auto` or `cpu`"):
        choose_device(chosen(CT2_DEVICE="cuda"), Machine(0))


@pytest.mark.parametrize(
    ("asked", "stored", "packed"),
    [
        ("float32", None, "0"), ("auto", "float32", "0"),
        ("auto", "int8", None), ("int8", "float32", None), ("auto", None, None),
    ],
)  # fmt: skip
def test_float32_matrices_are_not_packed(
    asked: str, stored: str | None, packed: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"compute_type": stored}))
    settings = chosen(CT2_COMPUTE_TYPE=asked, CT2_DEVICE="cpu")
    monkeypatch.setattr(os, "environ", {})
    prepare(settings, stored_type(settings, tmp_path))
    assert os.environ.get("CT2_PACKED_GEMM") == packed
    os.environ["CT2_PACKED_GEMM"] = "1"
    prepare(settings, stored_type(settings, tmp_path))
    assert os.environ["CT2_PACKED_GEMM"] == "1", "what somebody has set stays"


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (RuntimeError("CUDA failed with error out of memory"), True),
        (RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("std::bad_alloc"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA failed with error an illegal memory access was encountered"), False),
        (ValueError("One input has no decoder start token"), False),
    ],
)
def test_want_of_memory_is_known_by_what_is_said_then(error: Exception, memory: bool) -> None:
    assert is_out_of_memory(error) is memory


def test_without_the_gpu_extra_there_is_no_cublas_to_load() -> None:
    assert load_cublas() is False


def test_the_extras_cublas_is_loaded_for_all_that_come_after(tmp_path: Path) -> None:
    """With real shared libraries in its place, in a process of its own: the real one weighs 600 MiB."""
    libraries = tmp_path / "nvidia" / "cublas" / "lib"
    libraries.mkdir(parents=True)
    some = next(Path(ctranslate2.__file__).parent.parent.glob("ctranslate2.libs/libgomp*"))
    for name in ("libcublasLt.so.12", "libcublas.so.12"):
        shutil.copy(some, libraries / name)
    code = (
        "from services.thinker.backends.devices import has_cublas, load_cublas\n"
        "assert load_cublas()\n"
        "assert has_cublas()\n"
        "maps = open('/proc/self/maps').read()\n"
        "assert 'libcublasLt.so.12' in maps and 'libcublas.so.12' in maps"
    )
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{tmp_path}:{root}", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
