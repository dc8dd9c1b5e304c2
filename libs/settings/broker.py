"""Settings of the connection to the broker: where it is, and how a process proves who it is."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from libs.settings.reader import Reader, SettingError

DEFAULT_NATS_PORT = 4222
NKEY_FILE = "NATS_NKEY_FILE"


class BrokerSettings(Struct, frozen=True, kw_only=True):
    """How to reach the broker and what to show it. Files are named, not read: the client reads them."""

    user: str = "client"
    """Who this process is; its inboxes begin with `_INBOX_<user>`, which nobody else may read."""

    url: str = f"nats://127.0.0.1:{DEFAULT_NATS_PORT}"
    nkey_file: str | None = None
    creds_file: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    @property
    def wants_tls(self) -> bool:
        """Whether a broker without TLS is to be refused."""
        return self.tls_ca is not None or self.tls_cert is not None or "tls://" in self.url


def addresses(url: str) -> list[tuple[str, int]]:
    """Return host and port of each broker that is named, by comma; of what is no address nothing."""
    found = []
    for one in url.split(","):
        with suppress(ValueError):
            parts = urlsplit(one if "://" in one else f"nats://{one}")
            found.append((parts.hostname or "", parts.port or DEFAULT_NATS_PORT))
    return found


def read_broker(read: Reader, user: str) -> BrokerSettings:
    """Read and validate the settings of a user's connection. Raises `SettingError`."""
    settings = BrokerSettings(
        user=user,
        url=read.text("NATS_URL", BrokerSettings().url, "the broker; several, a cluster's, by comma") or "",
        nkey_file=_seed(read, user),
        creds_file=file(
            read, "NATS_CREDS_FILE", "credentials (JWT and seed) for a broker with operators and accounts"
        ),
        tls_ca=file(
            read, "NATS_TLS_CA", "certificates that the broker's must be signed by; TLS is then demanded"
        ),
        tls_cert=file(read, "NATS_TLS_CERT", "certificate to show the broker"),
        tls_key=file(read, "NATS_TLS_KEY", "its key"),
    )
    paired(read, "NATS_TLS_CERT", settings.tls_cert, "NATS_TLS_KEY", settings.tls_key)
    return settings


def file(read: Reader, name: str, doc: str) -> str | None:
    """Return the path of a file that can be read. Raises `SettingError`."""
    given = read.text(name, None, doc, allowed="a file that can be read")
    if given is None:
        return None
    path = Path(given).expanduser()
    if not path.is_file() or not os.access(path, os.R_OK):
        raise SettingError(read.key(name), given, "a file that can be read")
    return str(path)


def paired(read: Reader, first: str, one: str | None, second: str, other: str | None) -> None:
    """Refuse one of two settings without the other. Raises `SettingError`."""
    if (one is None) == (other is None):
        return
    missing = second if other is None else first
    raise SettingError(
        read.key(missing), "", f"a file, since {read.key(first if other is None else second)} is set"
    )


def _seed(read: Reader, user: str) -> str | None:
    """Return the file of this user's seed; of a folder of `perpetua keys`, its own."""
    allowed = "a file that can be read, or a folder of `perpetua keys`"
    given = read.text(
        NKEY_FILE, None, "seed to prove with who this is; of a folder, the service's own", allowed=allowed
    )
    if given is None:
        return None
    path = Path(given).expanduser()
    path = path / f"{user}.nk" if path.is_dir() else path
    if not path.is_file() or not os.access(path, os.R_OK):
        raise SettingError(read.key(NKEY_FILE), given, allowed)
    return str(path)
