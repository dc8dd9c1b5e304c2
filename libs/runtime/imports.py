"""Third-party modules that would load others we never use, loaded without them.

nats-py imports aiohttp for WebSocket transports and structlog imports rich for tracebacks: 0.6 s and 0.3 s of
processor time and 25 MiB at every start of every process (`python -X importtime`). Both do without.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*absent: str) -> Iterator[None]:
    """Make imports of these modules fail while the context is open, unless they are loaded already."""
    hidden = [name for name in absent if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def preload() -> None:
    """Import nats-py and structlog the light way. Later imports of either find them loaded."""
    with without("aiohttp", "rich"):
        for name in ("structlog", "nats"):
            importlib.import_module(name)
