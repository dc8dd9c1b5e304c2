"""The logits of a CTranslate2 model at every token of a text.

In int8 they are computed by a process of their own, which has MKL do it where there is MKL. On x86 CPUs
that are not Intel's CTranslate2 takes oneDNN, whose sums of int8 products may saturate where the CPU has no
VNNI (AMD before Zen 4): logits were 2 to 14 times as far from the source's, which hides faults of a
conversion. Which of the two is used is decided once a process; see "Environment variables" of CTranslate2.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from libs.models.errors import ConversionFault

_EXACT = {"CT2_USE_MKL": "1"}


def converted_logits(folder: Path, ids: list[int], compute_type: str) -> NDArray[np.float32]:
    """Return a model's logits, shape `(tokens, vocabulary)`. Raises `ConversionFault`."""
    if not compute_type.startswith("int8"):
        return _logits(folder, ids, compute_type)
    with tempfile.TemporaryDirectory(prefix="perpetua-logits-") as made:
        found = Path(made) / "logits.npy"
        child = subprocess.run(
            [sys.executable, "-m", "libs.models.logits", str(folder), compute_type, str(found)],
            input=msgspec.json.encode(ids),
            capture_output=True,
            env=os.environ | _EXACT,
            check=False,
        )
        if child.returncode != 0:
            said = child.stderr.decode(errors="replace").strip().splitlines()
            why = said[-1] if said else f"its process ended with {child.returncode}; was there enough memory?"
            raise ConversionFault(f"the converted model cannot be computed: {why}")
        logits: NDArray[np.float32] = np.load(found)
        return logits


def _logits(folder: Path, ids: list[int], compute_type: str) -> NDArray[np.float32]:
    import ctranslate2

    try:
        generator: Any = ctranslate2.Generator(str(folder), device="cpu", compute_type=compute_type)
        logits: NDArray[np.float32] = np.asarray(generator.forward_batch([ids]), np.float32)[0]
    except (RuntimeError, ValueError) as error:
        raise ConversionFault(f"the converted model cannot be loaded: {error}") from error
    return logits


def main() -> None:
    """Write the logits of the ids on standard input to a file: `logits FOLDER COMPUTE_TYPE FILE`."""
    folder, compute_type, to = sys.argv[1:]
    ids = msgspec.json.decode(sys.stdin.buffer.read(), type=list[int])
    try:
        np.save(to, _logits(Path(folder), ids, compute_type))
    except ConversionFault as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
