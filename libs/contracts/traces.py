"""Trace contexts as they travel: the W3C `traceparent`, version 00, in headers and in messages."""

from __future__ import annotations

import re

TRACEPARENT = "traceparent"
"""The header of HTTP and NATS."""

_VALID = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def is_traceparent(text: str) -> bool:
    """Whether a text is one; all else is to be ignored, whoever sent it."""
    return _VALID.fullmatch(text) is not None


def is_sampled(traceparent: str) -> bool:
    """Whether the trace is recorded by whoever began it."""
    return bool(int(traceparent[-2:], 16) & 1)
