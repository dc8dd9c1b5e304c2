"""By which names the gateway may be called, and whether a page of its own calls it. No I/O.

A page of a stranger can give its own host name the gateway's address (DNS rebinding), and browsers count both
as one origin. So who needs no token must call by a name that no stranger can own.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

_PRIVATE = (".localhost", ".svc", ".cluster.local", ".internal")
"""Ends of names that nobody can buy: this machine's, a Kubernetes cluster's, a private network's."""

OTHER_SITES = ("cross-site", "same-site")
"""What browsers say of a request that comes from another site's page, or from another port's."""


def is_ours(host: str, names: Collection[str]) -> bool:
    """Whether a `Host` header is an address, a name of this machine or network, or one of `names`.

    A name without a dot is one of this network: nobody can buy it.
    """
    name = _name(host)
    if name is None:
        return False
    return _is_address(name) or "." not in name or name.endswith(_PRIVATE) or name in names


def is_from_elsewhere(fetch_site: str | None, origin: str | None, host: str | None) -> bool:
    """Whether a browser says that a page of another origin makes the request.

    Over plain HTTP browsers send no `Sec-Fetch-Site` to other machines; there, the origin must be the host.
    """
    if fetch_site is not None:
        return fetch_site in OTHER_SITES
    if origin is None:
        return False
    return host is None or _netloc(origin) != host.lower()


def _name(host: str) -> str | None:
    """Return the name of a `Host` header without its port, None where it has none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.netloc != host or "@" in host:
        return None
    return (parts.hostname or "").rstrip(".") or None


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
