"""The project's sources as trees."""

from __future__ import annotations

import ast
import gc


def parsed(text: str) -> ast.Module:
    """Parse a module while nothing is collected: a finaliser within fails it (CPython gh-106905)."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        if enabled:
            gc.enable()
