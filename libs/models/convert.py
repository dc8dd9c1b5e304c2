"""From a folder in Hugging Face's layout to a CTranslate2 folder, with numpy only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from libs.models.architecture import Architecture
from libs.models.errors import SourceError
from libs.models.source import Safetensors
from libs.models.spec import build_spec

COMPUTE_TYPES = (
    "int8",
    "int8_float32",
    "int8_float16",
    "int8_bfloat16",
    "float16",
    "bfloat16",
    "float32",
)
"""How weights may be kept. `int8` keeps norms and biases as the source has them."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)
_SPLIT = "A persona thinks:  1234 don't, naïve café — 思考\n\n\t🙂 <|im_start|>user\n"
OTHER_FILES = ("generation_config.json", "LICENSE", "LICENSE.md", "LICENSE.txt", "USE_POLICY.md", "NOTICE")
"""Kept beside a converted model: when generation ends, and the terms it may be used under."""


def convert(
    source: Path, architecture: Architecture, target: Path, compute_type: str, step: Callable[[str], None]
) -> None:
    """Write the converted model, its tokenizer and its licence into `target`, which must not exist.

    Memory: what is written (for int8) and about three times the largest tensor in float32. `step` is told
    what is being done. Raises `SourceError`.
    """
    step("reading the tokenizer")
    target.mkdir(parents=True)
    tokenizer = copy_tokenizer(source, target)
    spec = build_spec(architecture, Safetensors(source))
    name_tokens(spec, tokenizer, architecture.vocabulary)
    step(f"arranging the weights as {compute_type}")
    spec.validate()
    spec.optimize(quantization=compute_type)
    step("writing model.bin")
    spec.save(str(target))


def copy_tokenizer(source: Path, target: Path) -> Any:
    """Copy what belongs to the tokenizer, and return it. Raises `SourceError`.

    A thinker loads it from `target` alone: it must split text there as it does in `source`, whose
    `config.json` may have a say in which class is taken.
    """
    if not (source / "tokenizer.json").is_file():
        raise SourceError("the model has no tokenizer.json. Choose a repository that has one")
    for name in (*TOKENIZER_FILES, *OTHER_FILES):
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    tokenizer = load_tokenizer(source)
    if not _splits_alike(tokenizer, target):
        tokenizer.save_pretrained(str(target))
        if not _splits_alike(tokenizer, target):
            raise SourceError(
                "its tokenizer cannot be kept: away from its config.json it splits text in another way"
            )
    return tokenizer


def _splits_alike(tokenizer: Any, folder: Path) -> bool:
    try:
        kept = load_tokenizer(folder)
    except SourceError:
        return False
    same_ids: bool = kept.encode(_SPLIT) == tokenizer.encode(_SPLIT)
    return (
        same_ids and kept.eos_token == tokenizer.eos_token and kept.chat_template == tokenizer.chat_template
    )


def load_tokenizer(folder: Path) -> Any:
    """Load a tokenizer as a thinker does, from the folder alone. Raises `SourceError`."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoTokenizer  # 2 s

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise SourceError(f"its tokenizer cannot be loaded: {first}") from error


def name_tokens(spec: Any, tokenizer: Any, size: int) -> None:
    """Give a specification its vocabulary of `size` tokens and the names of those that mean something."""
    named = {index: token for token, index in tokenizer.get_vocab().items()}
    spare = iter(range(size))
    spec.register_vocabulary([named.get(i) or f"<extra_id_{next(spare)}>" for i in range(size)])
    config = spec.config
    config.bos_token = tokenizer.bos_token if tokenizer.bos_token is not None else tokenizer.pad_token
    config.eos_token = tokenizer.eos_token
    config.unk_token = tokenizer.unk_token if tokenizer.unk_token is not None else ""
    if config.eos_token is None:
        raise SourceError("its tokenizer names no end-of-sequence token, so that no answer would ever end")
    if config.bos_token is None:
        config.bos_token = config.eos_token
