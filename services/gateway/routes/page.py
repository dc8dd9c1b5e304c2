"""The page at `/`: plain files that need no build step and nothing from other hosts."""

from __future__ import annotations

from pathlib import Path

from litestar import MediaType, Response, get
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency

FOLDER = Path(__file__).parent.parent / "static"
STATIC = "/static"

FRESH = CacheControlHeader(no_cache=True)
"""Browsers ask again each time, so that page and files are never of two versions."""

POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from other hosts, nothing inline, and no text of a persona ever becomes HTML."""


def html() -> bytes:
    """Return the page."""
    return (FOLDER / "index.html").read_bytes()


@get("/", include_in_schema=False, cache_control=FRESH)
async def show(html: NamedDependency[bytes]) -> Response[bytes]:
    """Show the swarm."""
    return Response(html, media_type=MediaType.HTML, headers={"Content-Security-Policy": POLICY})
