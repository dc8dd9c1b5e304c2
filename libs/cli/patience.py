"""Asking a gateway again while it is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from libs.cli.api import GatewayAway

T = TypeVar("T")

_PATIENCE_S = 60.0


def patiently(ask: Callable[[], T]) -> T:
    """Return what `ask` does, again and again while nobody answers it: it must be safe to repeat.

    Raises `GatewayAway` after a minute of that.
    """
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return ask()
        except GatewayAway as error:
            if time.monotonic() > give_up:
                raise
            time.sleep(error.retry_after)
