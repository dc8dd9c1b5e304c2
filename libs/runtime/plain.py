"""Text of others for terminals: it is data, and no control character of it gets there."""

from __future__ import annotations

import unicodedata

UNSAFE = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
"""Unicode's categories of what moves a cursor, changes a color, reorders text or is none."""


def plain(text: str) -> str:
    """Return text on one line, with control and format characters shown as `·`."""
    return "".join(" " if c in "\n\t" else "·" if unicodedata.category(c) in UNSAFE else c for c in text)
