"""Request bodies are JSON, and mean what they say: a number in quotes is no number [2.3, 5.2].

The framework's own conversion is lenient, so a body is checked here first. `3.0` is a whole number, as JSON
Schema has it.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from libs.contracts.refusals import Invalid, Refusal
from services.gateway.problems import ID_RULE

_AT = re.compile(r" - at `\$\.?(.*)`$")


class UnsupportedMediaType(Refusal):
    """The body is not said to be JSON."""

    status = 415
    title = "Unsupported media type"

    def __init__(self) -> None:
        super().__init__("send the body as application/json")


def is_json(content_type: str) -> bool:
    """Whether a `Content-Type` header says that the body is JSON."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def read_body(body: bytes, kind: Any) -> Any:
    """Return the JSON value of a body as this type. Raises `Invalid`, which names the field."""
    try:
        body.decode()
        return msgspec.convert(_json.decode(body), kind)
    except UnicodeDecodeError as error:
        raise Invalid(f"the body is not valid UTF-8: {error.reason} (byte {error.start})") from None
    except msgspec.ValidationError as error:
        raise Invalid(_sentence(str(error))) from None
    except msgspec.DecodeError as error:
        raise Invalid(f"the body is not valid JSON: {error}") from None


def _number(literal: str) -> int | float:
    number = float(literal)
    return int(number) if number.is_integer() else number


_json = msgspec.json.Decoder(float_hook=_number)


def _sentence(said: str) -> str:
    """Return msgspec's message with the field in front."""
    at = _AT.search(said)
    message = said[: at.start()] if at else said
    if "matching regex" in message:
        message = f"Expected {ID_RULE}"
    return f"{(at and at[1]) or 'body'}: {message}"
