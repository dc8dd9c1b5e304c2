"""Ports for tests: of two workers that run side by side none is given what the other is given."""

from __future__ import annotations

import os

from libs.supervisor import broker

_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def free_port(host: str) -> int:
    """Return a port that is free now, and is this process's."""
    while True:
        port = broker.free_port(host)
        if port % _WORKERS == _WORKER % _WORKERS:
            return port


def has_ipv6() -> bool:
    """Whether this machine listens on IPv6's loopback."""
    try:
        broker.is_free("::1", 0)
    except OSError:
        return False
    return True
