"""How many requests a second one client address may make: a token bucket each, the table bounded. No I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

_CLIENTS = 10_000
_BURST_S = 2.0
_V6_HOST_BITS = 64


class Rates:
    """Admits requests at `per_s`, in bursts of twice that; 0 admits all. `clock` gives seconds."""

    def __init__(self, per_s: int, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._most = per_s * _BURST_S
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> float:
        """Admit a request and return 0, or return in how many seconds to come again.

        Of more than 10 000 clients the one that has been away longest is forgotten, which forgives it.
        """
        if not self._per_s:
            return 0.0
        now = self._clock()
        held, at = self._buckets.pop(client, (self._most, now))
        held = min(held + (now - at) * self._per_s, self._most)
        admitted = held >= 1
        self._buckets[client] = (held - 1 if admitted else held, now)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if admitted else (1 - held) / self._per_s


def client_of(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 network of an IPv6 one."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or IPv6Address(int(ip) >> _V6_HOST_BITS << _V6_HOST_BITS))
    return str(ip)
