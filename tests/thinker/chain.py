"""A real model that says what a test wants: each token has one that always follows it.

Embeddings are one-hot, attention and feed-forward add nothing, and the projection leads from each token to
the next. It goes through CTranslate2 like any other, and shows what becomes of a prompt's last token.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from libs.models.convert import name_tokens
from libs.models.spec import EMBEDDINGS, PROJECTION, build_spec
from libs.models.tiny import Shape, architecture_of, tensor_shapes, tokenizer
from libs.models.variables import Weight

_HEADS = 4
_PIECES = 1024


class _Weights:
    def __init__(self, shapes: dict[str, tuple[int, ...]], follows: dict[int, int]) -> None:
        self._shapes = shapes
        self._follows = follows

    def __contains__(self, name: str) -> bool:
        return name in self._shapes

    def __getitem__(self, name: str) -> Weight:
        shape = self._shapes[name]
        return Weight(shape, "float32", lambda: self._values(name, shape))

    def names(self) -> list[str]:
        return list(self._shapes)

    def _values(self, name: str, shape: tuple[int, ...]) -> Any:
        if name == EMBEDDINGS:
            return np.eye(*shape, dtype=np.float32)
        values = np.ones(shape, np.float32) if name.endswith("norm.weight") else np.zeros(shape, np.float32)
        if name == PROJECTION:
            for token, following in self._follows.items():
                values[following, token] = 1
        return values


def build(folder: Path, *said: str) -> None:
    """Write a model that says each of these whenever a prompt ends with how it begins; then it ends.

    No token may be followed by two different ones.
    """
    made = tokenizer(_PIECES, said)
    vocabulary = len(made)
    hidden = -(-vocabulary // (2 * _HEADS)) * 2 * _HEADS
    follows = dict.fromkeys(range(vocabulary), made.eos_token_id)
    for text in said:
        ids = made.encode(text, add_special_tokens=False)
        for token, following in pairwise([*ids, made.eos_token_id]):
            assert follows[token] in (made.eos_token_id, following), "a token has two successors"
            follows[token] = following
    shape = Shape(layers=1, hidden=hidden, feed_forward=8, heads=_HEADS, kv_heads=_HEADS)
    architecture = structs.replace(architecture_of(shape, vocabulary), tied=False)
    spec = build_spec(architecture, _Weights(tensor_shapes(architecture, biases=False), follows))
    name_tokens(spec, made, vocabulary)
    spec.config.unk_token = made.pad_token
    spec.validate()
    spec.optimize()
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    made.save_pretrained(str(folder))
