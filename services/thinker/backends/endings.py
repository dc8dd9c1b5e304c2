"""Which tokens end an answer: a model may have several, and the tokenizer names only one of them."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import structlog

from services.thinker.backends.window import read_json

log = structlog.get_logger("endings")


def end_tokens(folder: Path, own: int | None) -> list[int] | None:
    """Return the ids that end an answer by `generation_config.json`, with the tokenizer's `own`.

    None where that is the only one, which CTranslate2 knows by itself. What is no token of the model is left
    out: CTranslate2 would read beyond its logits.
    """
    said = read_json(folder / "generation_config.json").get("eos_token_id")
    named = {token for token in (said if isinstance(said, list) else [said]) if type(token) is int}
    if named <= {own}:
        return None
    known = range(_tokens(folder))
    if beyond := [token for token in named if token not in known]:
        log.warning("end_tokens_unknown", folder=str(folder), tokens=sorted(beyond))
    others = {token for token in named if token in known and token != own}
    if not others:
        return None
    return sorted(others if own is None or own not in known else {*others, own})


def _tokens(folder: Path) -> int:
    """Return how many tokens a model has, by the vocabulary that CTranslate2 reads: a list, or lines."""
    with suppress(OSError, ValueError):
        return len(json.loads((folder / "vocabulary.json").read_bytes()))
    with suppress(OSError):
        return len((folder / "vocabulary.txt").read_bytes().removesuffix(b"\n").split(b"\n"))
    return 0
