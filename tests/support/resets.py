"""Connections that end by a reset instead of an end of what is sent."""

from __future__ import annotations

import asyncio
import socket
import struct


def ends_by_reset(writer: asyncio.StreamWriter) -> None:
    """Have a connection reset once it is closed, whatever has not been sent yet."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
