"""Connections are accepted here, not by the library, which counts none before its TLS handshake is done."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

from libs.concurrency.tasks import Background
from services.gateway.connections import Connection, Door
from services.gateway.rates import client_of

_AGAIN_S = 0.1
"""After an accept that failed: the client has gone already, or this process may open no more files."""


class Entrance:
    """A listener's way through the door. `make` is told the client that is let in, or None."""

    def __init__(
        self,
        door: Door,
        listener: socket.socket,
        tls: ssl.SSLContext | None,
        make: Callable[[str | None], Connection],
    ) -> None:
        self._door = door
        self._listener = listener
        self._plain = tls is None
        within = door.limits.handshake_s
        self._how: dict[str, Any] = (
            {}
            if tls is None
            else {"ssl": tls, "ssl_handshake_timeout": within, "ssl_shutdown_timeout": within}
        )
        self._make = make

    async def run(self) -> None:
        """Accept until cancelled; whose handshake is not done then is closed."""
        loop = asyncio.get_running_loop()
        async with Background() as tasks:
            while True:
                try:
                    accepted, address = await loop.sock_accept(self._listener)
                except OSError:
                    await asyncio.sleep(_AGAIN_S)
                    continue
                client = client_of(address[0])
                inside = self._door.enter(client)
                if inside or self._plain:
                    work = self._open(accepted, client if inside else None)
                    tasks.create_task(work, name="client")
                else:  # a handshake costs more than the word that there is no room
                    self._door.refused("full")
                    accepted.close()

    async def _open(self, accepted: socket.socket, client: str | None) -> None:
        """Give a connection its transport, after the handshake; without one it is out again."""
        connection = self._make(client)
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: connection, accepted, **self._how)
        except OSError:
            self._door.refused("handshake")
        finally:
            if client is not None and not connection.begun:
                self._door.leave(client)
