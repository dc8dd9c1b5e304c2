"""The wire form of chat completions: requests as servers take them, answers as they give them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from libs.contracts.thoughts import Usage
from libs.settings.cognition import ThinkerSettings
from services.thinker.backends.faults import of_garbage
from services.thinker.backends.markers import neutral
from services.thinker.prompt import Prompt

_encode = msgspec.json.Encoder().encode
_decode_usage = msgspec.json.Decoder(Usage | None).decode


class _Part(Struct):
    text: str | None = None


class _Message(Struct):
    content: str | list[_Part] | None = None


class _Choice(Struct):
    message: _Message | None = None
    finish_reason: str | None = None


class Completion(Struct):
    """What is read of an answer."""

    choices: list[_Choice] = []
    usage: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def text(self) -> str:
        """The answer's text; some servers send it in parts."""
        message = self.choices[0].message
        content = message.content if message is not None else None
        if isinstance(content, list):
            return "".join(part.text or "" for part in content)
        return content or ""

    @property
    def finish_reason(self) -> str | None:
        """Why the model stopped, in the server's word."""
        return self.choices[0].finish_reason

    def counted(self) -> Usage | None:
        """Return what the endpoint counted; a count in another form is no reason to lose the answer."""
        try:
            usage: Usage | None = _decode_usage(self.usage)
        except msgspec.DecodeError:
            return None
        return usage


_decode = msgspec.json.Decoder(Completion).decode


def request(settings: ThinkerSettings, prompt: Prompt) -> bytes:
    """Return the body of a request."""
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": [
            {"role": "system", "content": prompt.system},
            {"role": "user", "content": neutral(prompt.user)},
        ],
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        "stream": False,
    }
    if settings.top_p is not None:
        body["top_p"] = settings.top_p
    if settings.seed_given:
        body["seed"] = settings.seed
    return _encode(body)


def parse(data: bytes) -> Completion:
    """Return an answer with at least one choice. Raises `EndpointError`."""
    try:
        completion = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise of_garbage(f"not a chat completion: {error}") from error
    if not completion.choices:
        raise of_garbage("a chat completion without choices")
    return completion
