"""The embedded broker: a real nats-server with its streams in the data folder."""

from __future__ import annotations

import asyncio
import errno
import json
import random
import shutil
import socket
import sys
from contextlib import suppress
from pathlib import Path

from libs.supervisor.errors import no_broker

_LOG_BYTES = 5 * 1024 * 1024
_LOOK_S = 0.02
_PORTS = (15_000, 32_000)
_given: set[int] = set()
_TAKEN = (errno.EADDRINUSE, errno.EACCES)


def find_server() -> str:
    """Return the path of `nats-server`: this environment's own, else one on PATH. Raises `UpError`."""
    own = Path(sys.executable).with_name("nats-server")
    found = str(own) if own.is_file() else shutil.which("nats-server")
    if found is None:
        raise no_broker()
    return found


def write_config(
    folder: Path,
    streams: Path,
    log: Path,
    host: str,
    port: int,
    *,
    authorization: str = "",
    sync_always: bool = False,
) -> Path:
    """Write the server's configuration and return its path. Without `authorization` anybody may do anything.

    `js_ack_fc_v2` is switched off: nats-py's read loop does not know that format of acknowledgements.
    """
    config = folder / "nats.conf"
    config.write_text(
        f"host: {json.dumps(host)}\n"
        f"port: {port}\n"
        "server_name: perpetua\n"
        "max_payload: 8MB\n"
        "feature_flags { js_ack_fc_v2: false }\n"
        f"log_file: {json.dumps(str(log))}\n"
        f"logfile_size_limit: {_LOG_BYTES}\n"
        "logfile_max_num: 2\n"
        f"jetstream {{ store_dir: {json.dumps(str(streams))}{', sync_interval: always' * sync_always} }}\n"
        f"{authorization}"
    )
    return config


def is_free(host: str, port: int) -> bool:
    """Whether a port can be listened on. Raises `OSError` where none can, on this address."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            return False
        return True


def free_port(host: str) -> int:
    """Return a port that is free now, below those that systems give out, so that nobody gets it meanwhile.

    This process is given none twice: who was given one may not listen there yet. Raises `OSError` where none
    can be listened on, on this address.
    """
    while True:
        port = random.randrange(*_PORTS)
        if port not in _given and is_free(host, port):
            _given.add(port)
            return port


async def until_listening(host: str, port: int) -> None:
    """Return once somebody accepts connections there."""
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return
        await asyncio.sleep(_LOOK_S)


def log_tail(log: Path, lines: int = 8) -> str:
    """Return the end of a log."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"
