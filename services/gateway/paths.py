"""Percent-encoded path segments stay segments [2.6]: `%2F` in an id does not split the path.

ASGI servers decode the path before a framework routes it. This middleware routes on the raw path, each
segment decoded and encoded again in one canonical way; `decode_segment` gives handlers the id back.
"""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import quote, unquote_to_bytes

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from libs.contracts.limits import Identifier, ItemId
from libs.contracts.refusals import Invalid
from services.gateway.problems import ID_RULE


def canonical(raw_path: bytes) -> str:
    """Return a raw path with each segment decoded and encoded again; only unreserved characters stay bare."""
    path = raw_path.partition(b"?")[0]
    return "/".join(quote(unquote_to_bytes(segment), safe="") for segment in path.split(b"/"))


def decode_segment(segment: str, whose: str = "persona") -> str:
    """Return the id of a canonical segment. Raises `Invalid` where no persona, or swarm, can have it."""
    try:
        return msgspec.convert(unquote_to_bytes(segment).decode(), Identifier)
    except UnicodeDecodeError:
        raise Invalid(f"the {whose} id in the path is not valid UTF-8") from None
    except msgspec.ValidationError:
        raise Invalid(f"the {whose} id in the path is not {ID_RULE}") from None


def decode_item_id(segment: str) -> str:
    """Return the id that a sender gave an item. Raises `Invalid` where it can give none such."""
    try:
        return msgspec.convert(segment, ItemId)
    except msgspec.ValidationError:
        raise Invalid("the item id in the path is not 1 to 64 letters, digits, `-` and `_`") from None


def raw_paths(app: ASGIApp) -> ASGIApp:
    """Wrap an application so that it is routed by canonical raw paths."""

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path")
        if not raw:
            return await app(scope, receive, send)
        changed = dict(cast("dict[str, Any]", scope), path=canonical(raw))
        return await app(cast("Scope", changed), receive, send)

    return routed
