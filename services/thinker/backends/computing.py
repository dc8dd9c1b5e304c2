"""Which type a model is computed in: as asked, else as it is stored, else CTranslate2's fastest."""

from __future__ import annotations

from pathlib import Path

import structlog

from libs.settings.cognition import PREFIX, ThinkerSettings
from services.thinker.backends.window import read_json

log = structlog.get_logger("computing")

_AS_STORED = "default"
"""CTranslate2's name for the type of the file, or the nearest that the device has."""


def stored_type(folder: Path) -> str | None:
    """Return the type that a pulled model was stored in; None where no manifest says."""
    stored = read_json(folder / "manifest.json").get("compute_type")
    return stored if isinstance(stored, str) else None


def asked_type(settings: ThinkerSettings, folder: Path) -> str:
    """Return what CTranslate2 is asked for: whoever pulled a model has chosen a type, or had one chosen."""
    if settings.compute_type == "auto" and stored_type(folder) is not None:
        return _AS_STORED
    return settings.compute_type


def tell_of_another(settings: ThinkerSettings, folder: Path, device: str, computed_in: str) -> None:
    """Warn where `auto` comes to another type than the stored one, of which `int8` leaves the floats open."""
    stored = stored_type(folder)
    if settings.compute_type != "auto" or stored is None or computed_in in (stored, f"{stored}_float32"):
        return
    log.warning(
        "computed_in_another_type",
        stored=stored,
        computed_in=computed_in,
        because=f"CTranslate2 does not compute in {stored} on {device}",
        cure=f"pull the model with another --compute-type, or set {PREFIX}THINKER_CT2_COMPUTE_TYPE",
    )
