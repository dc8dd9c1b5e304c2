"""A CTranslate2 model with random weights: the real path with gibberish for text, always some.

`python -m libs.models.tiny FOLDER` makes one of Qwen2's shape in two seconds and 200 KiB, with a tokenizer
and a chat template, without torch. Of other shapes it is honest for measuring speed, which weights do not
change.
"""

from __future__ import annotations

import fcntl
import shutil
import sys
import zlib
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.models import durable
from libs.models.architecture import Architecture, Rope
from libs.models.convert import name_tokens
from libs.models.errors import SourceError
from libs.models.spec import EMBEDDINGS, LAST_NORM, PROJECTION, build_spec, layer_prefix
from libs.models.variables import Weight

_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CORPUS = (
    "a persona observes its charter and the recent context",
    "one hypothesis, its rationale and a note on its risk",
    "a check with an expected result and the quality of evidence",
    "a short summary of the state, with facts to retain",
)
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_DEVIATION = 0.1
_LOST = "\ufffd"
"""Stands for bytes that are no letter."""

_PIECES = 512
_WINDOW = 32_768


@dataclass(frozen=True)
class Shape:
    """Sizes of a Qwen2-like decoder."""

    layers: int = 2
    hidden: int = 64
    feed_forward: int = 128
    heads: int = 4
    kv_heads: int = 2
    vocabulary: int | None = None
    """Rows of the embedding; the tokenizer's own number of tokens unless given."""


def build(
    folder: Path,
    shape: Shape = Shape(),
    *,
    quantization: str | None = "int8",
    seed: int = 0,
    corpus: Sequence[str] = _CORPUS,
    pieces: int = _PIECES,
) -> None:
    """Write model, tokenizer and chat template into `folder`. Weights are normal with deviation 0.1.

    The tokenizer learns at most so many pieces, from the corpus.
    """
    made = tokenizer(pieces, corpus)
    architecture = architecture_of(shape, shape.vocabulary or len(made))
    mute = mute_tokens(made, architecture.vocabulary)
    spec = build_spec(architecture, RandomWeights(architecture, seed, biases=True, mute=mute))
    name_tokens(spec, made, architecture.vocabulary)
    spec.config.unk_token = made.pad_token
    spec.validate()
    spec.optimize(quantization=quantization)
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    made.save_pretrained(str(folder))


def tokenizer(vocabulary: int, corpus: Sequence[str] = _CORPUS) -> Any:
    """Return a byte-level tokenizer of at most so many tokens, with a chat template of Qwen's form."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces.train_from_iterator(list(corpus) * 8, trainer)
    fast: Any = PreTrainedTokenizerFast
    made = fast(
        tokenizer_object=pieces, eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=_WINDOW
    )
    made.chat_template = _TEMPLATE
    return made


def mute_tokens(tokenizer: Any, rows: int) -> frozenset[int]:
    """Return the tokens, of so many, that alone are no text to read: white space, controls, parts of letters.

    Random weights would say nothing else now and then, which is a blank answer. The one that ends an answer
    is not among them.
    """
    texts = {token: tokenizer.decode([token], skip_special_tokens=True) for token in range(len(tokenizer))}
    read = {token for token, text in texts.items() if text.isprintable() and text.strip(f" {_LOST}")}
    return frozenset(range(rows)) - read - {tokenizer.eos_token_id}


def make(folder: Path) -> None:
    """Build one unless it is there: it comes whole or not at all, however many processes do this."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.new")
    with aside.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            return
        shutil.rmtree(aside, ignore_errors=True)
        build(aside)
        durable.sync_all(aside)
        durable.rename(aside, folder)


class RandomWeights:
    """Tensors of an architecture under their Hugging Face names, made from a seed each time they are read.

    Where there are `mute` tokens, only the first half of an embedding counts when a token is said, and theirs
    is zero: about half of the other tokens score higher at any time, so that none of them is among the first
    50 of a vocabulary of hundreds. The second half still tells them apart in a prompt.
    """

    def __init__(
        self, architecture: Architecture, seed: int, *, biases: bool, mute: Set[int] = frozenset()
    ) -> None:
        self._shapes = tensor_shapes(architecture, biases=biases)
        self._seed = seed
        self._mute = sorted(mute)

    def __contains__(self, name: str) -> bool:
        return name in self._shapes

    def __getitem__(self, name: str) -> Weight:
        try:
            shape = self._shapes[name]
        except KeyError:
            raise SourceError(f"there is no tensor {name}") from None
        return Weight(shape, "float32", lambda: self._values(name, shape))

    def names(self) -> list[str]:
        """Return the names of all tensors."""
        return list(self._shapes)

    def _values(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        random = np.random.default_rng((self._seed, zlib.crc32(name.encode())))
        values = random.standard_normal(shape, np.float32) * np.float32(_DEVIATION)
        values = values + 1 if name.endswith("norm.weight") else values
        if self._mute and name == EMBEDDINGS:
            values[self._mute, : shape[1] // 2] = 0
        elif self._mute and name == LAST_NORM:
            values[shape[0] // 2 :] = 0
        return values


def tensor_shapes(architecture: Architecture, *, biases: bool) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor. `biases`: of queries, keys and values, as Qwen2 has them."""
    hidden, wide = architecture.hidden, architecture.heads * architecture.head_dim
    shared = architecture.kv_heads * architecture.head_dim
    rows = {"q": wide, "k": shared, "v": shared}
    shapes: dict[str, tuple[int, ...]] = {EMBEDDINGS: (architecture.vocabulary, hidden), LAST_NORM: (hidden,)}
    if not architecture.tied:
        shapes[PROJECTION] = (architecture.vocabulary, hidden)
    for index in range(architecture.layers):
        prefix = layer_prefix(index)
        shapes |= {f"{prefix}{norm}_layernorm.weight": (hidden,) for norm in ("input", "post_attention")}
        for part, size in rows.items():
            shapes[f"{prefix}self_attn.{part}_proj.weight"] = (size, hidden)
            if biases:
                shapes[f"{prefix}self_attn.{part}_proj.bias"] = (size,)
        shapes[f"{prefix}self_attn.o_proj.weight"] = (hidden, wide)
        if architecture.normalises_heads:
            shapes |= {f"{prefix}self_attn.{part}_norm.weight": (architecture.head_dim,) for part in "qk"}
        shapes |= {
            f"{prefix}mlp.{part}_proj.weight": (architecture.feed_forward, hidden) for part in ("gate", "up")
        }
        shapes[f"{prefix}mlp.down_proj.weight"] = (hidden, architecture.feed_forward)
    return shapes


def architecture_of(shape: Shape, vocabulary: int) -> Architecture:
    """Return the Qwen2 architecture of a shape."""
    return Architecture(
        family="qwen2",
        layers=shape.layers,
        hidden=shape.hidden,
        feed_forward=shape.feed_forward,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.hidden // shape.heads,
        vocabulary=vocabulary,
        tied=True,
        epsilon=1e-6,
        rope=Rope(theta=1e6),
        window=_WINDOW,
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m libs.models.tiny FOLDER")
    make(Path(sys.argv[1]))
