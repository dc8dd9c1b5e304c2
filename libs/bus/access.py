"""What the client library is told of how a process proves who it is."""

from __future__ import annotations

import ssl
from typing import Any

from libs.bus.errors import BusError
from libs.contracts.permissions import inbox
from libs.settings.broker import BrokerSettings


class NoTls(BusError):
    """The broker offers no TLS, though this process is to demand it."""

    def __init__(self, url: str) -> None:
        super().__init__(f"the broker at {url} offers no TLS, which PERPETUA_NATS_TLS_* or tls:// demand")


def client_options(broker: BrokerSettings) -> dict[str, Any]:
    """Return nats-py's options. Raises `BusError` for certificates that cannot be used."""
    options: dict[str, Any] = {"inbox_prefix": inbox(broker.user)}
    if broker.nkey_file is not None:
        options["nkeys_seed"] = broker.nkey_file
    if broker.creds_file is not None:
        options["user_credentials"] = broker.creds_file
    if broker.wants_tls:
        options["tls"] = _context(broker)
    return options


def _context(broker: BrokerSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=broker.tls_ca)
        if broker.tls_cert is not None:
            context.load_cert_chain(broker.tls_cert, broker.tls_key)
    except (ssl.SSLError, OSError) as error:
        raise BusError(f"the certificates of PERPETUA_NATS_TLS_* cannot be used: {error}") from error
    return context
