"""Base URLs as people give them."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit


def is_http(url: str) -> bool:
    """Whether it is an http(s) URL with a host, and with a port that can be one where it names any."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is none
        return False


def reached_at(host: str) -> str:
    """Return where this machine reaches who listens on an address, or name; on all of them, by loopback.

    An IPv6 address may stand in brackets, what is returned in none. Empty is all of IPv4, as for sockets.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ip_address(bare or "0.0.0.0")
    except ValueError:  # a name
        return host
    if not address.is_unspecified:
        return bare
    return "::1" if isinstance(address, IPv6Address) else "127.0.0.1"


def url_of(scheme: str, host: str, port: int) -> str:
    """Return the URL at which this machine reaches who listens on an address."""
    at = reached_at(host)
    return f"{scheme}://[{at}]:{port}" if ":" in at else f"{scheme}://{at}:{port}"
