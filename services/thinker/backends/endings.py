"""Which tokens end an answer: a model may have several, and the tokenizer names only one of them."""

from __future__ import annotations

from pathlib import Path

from services.thinker.backends.window import read_json


def end_tokens(folder: Path, own: int | None) -> list[int] | None:
    """Return the ids that end an answer by `generation_config.json`, with the tokenizer's `own`.

    None where that is the only one, which CTranslate2 knows by itself.
    """
    said = read_json(folder / "generation_config.json").get("eos_token_id")
    named = said if isinstance(said, list) else [said]
    others = {token for token in named if type(token) is int and token >= 0} - {own}
    if not others:
        return None
    return sorted(others if own is None else others | {own})
