"""The model's own tokenizer and chat template [H14]. The rest of the code never knows a model's format."""

from __future__ import annotations

import os
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct

from libs.runtime.process import ConfigurationError
from libs.settings.cognition import PREFIX
from services.thinker.backends.markers import BREAK
from services.thinker.prompt import Prompt

log = structlog.get_logger("chat")

_COUNTED = 4096
"""Texts whose size in tokens is remembered: seven of a context's eight lines were in the last one too."""


class Shared(Struct, frozen=True):
    """What all prompts with one system prompt begin with, in tokens."""

    begin: list[str]
    """Up to the first word of what differs."""

    static: list[str]
    """The part of it that ends where a special token begins, which no text merges with; empty: none does."""


class ChatTokenizer:
    """Turns prompts into a model's tokens, and ids into text."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        special = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
        self._special = sorted((token for token in special if token.strip()), key=len, reverse=True)
        self._takes_system = self._check_template()
        self._fast = getattr(tokenizer, "backend_tokenizer", None)
        self.count = lru_cache(maxsize=_COUNTED)(self._count)
        """Returns how many tokens a text takes, as `tokens` would write it."""

    @classmethod
    def load(cls, path: Path) -> ChatTokenizer:
        """Load from a folder or a `tokenizer.json`. Raises `ConfigurationError`."""
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            from transformers import AutoTokenizer, PreTrainedTokenizerFast  # 2 s

            if path.is_file():
                from_file: Any = PreTrainedTokenizerFast
                return cls(from_file(tokenizer_file=str(path)))
            return cls(AutoTokenizer.from_pretrained(str(path), local_files_only=True))
        except Exception as error:
            first = next(iter(str(error).splitlines()), type(error).__name__)
            raise ConfigurationError(
                f"no tokenizer can be loaded from {path}: {first.strip()}; set "
                f"{PREFIX}THINKER_CT2_TOKENIZER_PATH to the model's own folder or `tokenizer.json`"
            ) from error

    def tokens(self, prompt: Prompt) -> list[str]:
        """Return a prompt with its answer's start, by the model's chat template, in string tokens."""
        text = self._shape(Prompt(prompt.system, self._neutral(prompt.user)))
        return self._encode(text + prompt.prefill)

    def shared(self, system: str) -> Shared:
        """Return what all prompts with a system prompt begin with, by two that differ in the rest."""
        one, other = self.tokens(Prompt(system, "a")), self.tokens(Prompt(system, "Z 9"))
        both = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
        begin = [token for token, _ in both]
        special = set(self._special)
        turns = [place for place, token in enumerate(begin) if token in special]
        return Shared(begin, begin[: turns[-1]] if turns else [])

    def filler(self) -> str | None:
        """Return the one token that a line's end is, if it is one."""
        tokens = self._encode("\n")
        return tokens[0] if len(tokens) == 1 else None

    @property
    def end(self) -> int | None:
        """The id of the token that ends a turn, by the tokenizer."""
        found: int | None = self._tokenizer.eos_token_id
        return found

    def _encode(self, text: str) -> list[str]:
        if self._fast is not None:
            found: list[str] = self._fast.encode(text, add_special_tokens=False).tokens
            return found
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        tokens: list[str] = self._tokenizer.convert_ids_to_tokens(ids)
        return tokens

    def _count(self, text: str) -> int:
        return len(self._encode(self._neutral(text)))

    def ids(self, prompt: Prompt) -> list[int]:
        """Return the same in ids."""
        found: list[int] = self._tokenizer.convert_tokens_to_ids(self.tokens(prompt))
        return found

    def text(self, ids: list[int]) -> str:
        """Return the text of generated ids, without special tokens."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _shape(self, prompt: Prompt) -> str:
        if self._tokenizer.chat_template is None:
            return f"{prompt.system}\n\n{prompt.user}\n\n"
        if self._takes_system:
            messages = [
                {"role": "system", "content": prompt.system},
                {"role": "user", "content": prompt.user},
            ]
        else:
            messages = [{"role": "user", "content": f"{prompt.system}\n\n{prompt.user}"}]
        return str(
            self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        )

    def _neutral(self, text: str) -> str:
        """Return text in which no special token of the model stands: persona text is data."""
        for token in self._special:
            if token in text:
                text = text.replace(token, token[:1] + BREAK + token[1:])
        return text

    def _check_template(self) -> bool:
        """Whether the template takes a system message; some models' templates refuse one."""
        if self._tokenizer.chat_template is None:
            log.warning("no_chat_template", cure="give the folder of an instruct model's tokenizer")
            return False
        try:
            self._takes_system = True
            self._shape(Prompt("system", "user"))
        except Exception as error:  # noqa: BLE001 - templates raise what they like
            log.info("template_without_system_role", error=str(error))
            return False
        return True
