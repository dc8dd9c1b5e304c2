"""What `perpetua keys` makes, handed out: to each process what is its own, in a folder of its own.

Folders of containers are volumes, and who sees a volume sees all of it.
"""

from __future__ import annotations

from pathlib import Path

from libs.contracts.permissions import ADMIN, SERVICES
from libs.supervisor.errors import not_writable
from libs.supervisor.files import KeyFile, copied
from libs.supervisor.keys import USERS_CONF, seed_file

BROKER = "broker"
"""Who may do what, and no seed."""

AUTHORITY = "authority"
"""The certificate by which others know a server's."""

TLS = "tls"
"""A server's certificate and its key, and that of the authority."""


def hand_out(folder: Path, keys: Path, certificates: Path | None) -> list[KeyFile]:
    """Bring each one's folder up to date: what is not there to hand out is taken away. Raises `UpError`."""
    sources = {user: [seed_file(keys, user)] for user in (ADMIN, *SERVICES)}
    sources[BROKER] = [keys / USERS_CONF]
    if certificates is not None:
        sources[AUTHORITY] = [certificates / "ca.crt"]
        sources[TLS] = [certificates / name for name in ("ca.crt", "tls.crt", "tls.key")]
    try:
        return [
            handed
            for owner, own in sources.items()
            for source in own
            if (handed := copied(source, folder / owner)) is not None
        ]
    except OSError as error:
        raise not_writable(folder, error) from error
