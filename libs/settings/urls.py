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


def url_of(scheme: str, host: str, port: int) -> str:
    """Return the URL at which this machine reaches who listens on an address; on all of them, by loopback."""
    try:
        address = ip_address(host)
    except ValueError:  # a name
        return f"{scheme}://{host}:{port}"
    if isinstance(address, IPv6Address):
        return f"{scheme}://[{'::1' if address.is_unspecified else address}]:{port}"
    return f"{scheme}://{'127.0.0.1' if address.is_unspecified else address}:{port}"
