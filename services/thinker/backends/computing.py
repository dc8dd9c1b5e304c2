"""What computes: which weights, and in which type: as asked, else as stored, else CTranslate2's fastest."""

from __future__ import annotations

from pathlib import Path

import structlog

from libs.settings.cognition import PREFIX, ThinkerSettings
from services.thinker.backends.window import MANIFEST, read_json

log = structlog.get_logger("computing")

WEIGHTS = "model.bin"
"""CTranslate2's name for the file of a model's weights."""

_AS_STORED = "default"
"""CTranslate2's name for the type of the file, or the nearest that the device has."""


def stored_type(settings: ThinkerSettings, folder: Path) -> str | None:
    """Return the type that a pulled model was stored in, and is to be computed in.

    Whoever pulled it has chosen that, or had it chosen. None where another is asked for, or no manifest says.
    """
    if settings.compute_type != "auto":
        return None
    stored = read_json(folder / MANIFEST).get("compute_type")
    return stored if isinstance(stored, str) else None


def weights_of(folder: Path) -> str | None:
    """Return the SHA-256 of a pulled model's weights, as its manifest has it; None where none says."""
    files = read_json(folder / MANIFEST).get("files")
    weights = files.get(WEIGHTS) if isinstance(files, dict) else None
    return weights if isinstance(weights, str) else None


def asked_type(settings: ThinkerSettings, stored: str | None) -> str:
    """Return what CTranslate2 is asked for."""
    return settings.compute_type if stored is None else _AS_STORED


def tell_of_another(stored: str | None, device: str, computed_in: str) -> None:
    """Warn where what is to be computed as stored is not: of `int8` the floats are left open."""
    if stored is None or computed_in in (stored, f"{stored}_float32"):
        return
    log.warning(
        "computed_in_another_type",
        stored=stored,
        computed_in=computed_in,
        because=f"CTranslate2 does not compute in {stored} on {device}",
        cure=f"pull the model with another --compute-type, or set {PREFIX}THINKER_CT2_COMPUTE_TYPE",
    )
