"""How much a model sees at once, by what stands in its folder [H11]."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import structlog

from libs.runtime.process import ConfigurationError
from libs.settings.cognition import LEAST_WINDOW, PREFIX

log = structlog.get_logger("window")

SETTING = f"{PREFIX}THINKER_CONTEXT_WINDOW"

UNKNOWN_WINDOW = 2048
"""Taken where a folder says nothing: models of the families that convert see at least this much."""

_MOST = 10_000_000
"""Tokenizers without a bound say a number far beyond this."""

MANIFEST = "manifest.json"
"""What a pull keeps beside a model's files."""

_KEYS = (
    (MANIFEST, "window"),
    ("config.json", "max_position_embeddings"),
    ("tokenizer_config.json", "model_max_length"),
)


def window_of(folder: Path, given: int) -> int:
    """Return the tokens that a model sees at once: as given, else as its folder says.

    Raises `ConfigurationError` for a window in which no thought has room.
    """
    own = _said(folder)
    if own is not None and given > own:
        log.warning(
            "window_beyond_the_models_own",
            taken=given,
            own=own,
            because=f"{SETTING} says so; beyond its own a model's answers may make no sense",
        )
    window = given or own
    if not window:
        log.warning("window_unknown", taken=UNKNOWN_WINDOW, cure=f"set {SETTING}")
        return UNKNOWN_WINDOW
    if window < LEAST_WINDOW:
        raise ConfigurationError(
            f"the model {folder} sees {window} tokens at once; {LEAST_WINDOW} are the least for a thought. "
            "Choose another model"
        )
    return window


def _said(folder: Path) -> int | None:
    for name, key in _KEYS:
        value = read_json(folder / name).get(key)
        if isinstance(value, int | float) and 0 < value < _MOST:
            return int(value)
    return None


def read_json(path: Path) -> dict[str, Any]:
    """Return the object of a model's file; an empty one where there is none to read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
