"""The model of a lively storm: each answer has a number, so that it is known again wherever it is folded in.

    python -m tests.chaos.model

A summary names the numbers of all that it sums up. Of those who are asked for a decision every third
declines. It prints its base URL and serves until it is ended.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import AbstractContextManager
from itertools import count
from typing import Any

from bench.standin import serving
from libs.cognition.decision import WILL_RESPOND
from services.thinker.summaries import SYSTEM
from tests.support.endpoint import Endpoint, Raw, completion
from tests.unit.messages import decision

TOKENS = 340
"""What each answer costs."""

_LATENCY_S = 0.05
_DECLINES_ONE_IN = 3
_NUMBER = re.compile(r"\[(\d+)\]")


def numbers_in(text: str) -> list[int]:
    """Return the numbers of the answers that a text holds, in its order."""
    return [int(number) for number in _NUMBER.findall(text)]


class Model:
    """Answers one request after another."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def __call__(self, request: dict[str, Any]) -> Raw:
        """Return a completion."""
        answer = completion(self._text(request))
        answer["usage"]["total_tokens"] = TOKENS
        return Raw(json.dumps(answer).encode())

    def _text(self, request: dict[str, Any]) -> str:
        system, told = (str(message["content"]) for message in request["messages"])
        if system == SYSTEM:
            return " ".join(["In sum:", *(f"[{number}]" for number in numbers_in(told))])
        number = next(self._numbers)
        if WILL_RESPOND in system + told:
            return decision(number % _DECLINES_ONE_IN != 0, f"[{number}] I have heard it.")
        return f"[{number}] A calm signal, and one doubt that remains."


def model() -> AbstractContextManager[str]:
    """Return a context with a model in a process of its own; it is the model's base URL."""
    return serving("tests.chaos.model")


def main() -> None:
    """Serve until ended."""
    endpoint = Endpoint(Model())
    endpoint.delay = _LATENCY_S
    print(endpoint.base_url, flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
