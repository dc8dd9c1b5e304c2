"""The logits of a CTranslate2 model at tokens of a text.

In int8 they are computed by a process of their own, which has MKL do it where there is MKL. On x86 CPUs
that are not Intel's CTranslate2 takes oneDNN, whose sums of int8 products may saturate where the CPU has no
VNNI (AMD before Zen 4): logits were 2 to 14 times as far from the source's, which hides faults of a
conversion. Which of the two is used is decided once a process; see "Environment variables" of CTranslate2.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from libs.models.errors import ConversionFault

_EXACT = {"CT2_USE_MKL": "1"}


def converted_logits(
    folder: Path, ids: list[int], positions: list[int], compute_type: str
) -> NDArray[np.float32]:
    """Return a model's logits at some of a text's tokens, shape `(positions, vocabulary)`.

    Raises `ConversionFault` where it cannot be computed.
    """
    if not compute_type.startswith("int8"):
        return _logits(folder, ids, positions, compute_type)
    child = subprocess.run(
        [sys.executable, "-m", "libs.models.logits", str(folder), compute_type],
        input=msgspec.json.encode((ids, positions)),
        capture_output=True,
        env=os.environ | _EXACT,
        check=False,
    )
    if child.returncode < 0:
        ended = signal.Signals(-child.returncode).name
        raise ConversionFault(f"computing the converted model was ended by {ended}: was there enough memory?")
    if child.returncode > 0:
        said = child.stderr.decode(errors="replace").strip().splitlines()
        raise ConversionFault(said[-1] if said else "the converted model cannot be computed")
    logits: NDArray[np.float32] = np.load(io.BytesIO(child.stdout))
    return logits


def _logits(folder: Path, ids: list[int], positions: list[int], compute_type: str) -> NDArray[np.float32]:
    import ctranslate2

    try:
        generator: Any = ctranslate2.Generator(str(folder), device="cpu", compute_type=compute_type)
        logits: NDArray[np.float32] = np.asarray(generator.forward_batch([ids]), np.float32)[0]
    except (RuntimeError, ValueError) as error:
        raise ConversionFault(f"the converted model cannot be loaded: {error}") from error
    return logits[positions]


def main() -> None:
    """Write the logits to standard output as numpy's file: `logits FOLDER COMPUTE_TYPE`."""
    folder, compute_type = sys.argv[1:]
    ids, positions = msgspec.json.decode(sys.stdin.buffer.read(), type=tuple[list[int], list[int]])
    out = io.BytesIO()
    try:
        np.save(out, _logits(Path(folder), ids, positions, compute_type))
    except ConversionFault as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(out.getbuffer())


if __name__ == "__main__":
    main()
