"""Settings of the gateway: where it listens, whom it lets in, and how much of it one client may have."""

from __future__ import annotations

import re
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from libs.settings.broker import file, paired
from libs.settings.reader import Reader, SettingError

DEFAULT_GATEWAY_PORT = 4096

Scope = Literal["read", "control"]
READ: Final = "read"
CONTROL: Final = "control"
_TOKEN = re.compile(r"(read|control):([A-Za-z0-9._~+/=-]{16,512})")
_TOKENS_ALLOWED = (
    "`read:TOKEN` and `control:TOKEN`, by comma or line; a token has 16 to 512 letters, digits or `-._~+/=`"
)
_NOT_SHOWN = "(not shown)"
_PORT_MOST = 65535
_MANY = 1_000_000


class ApiToken(Struct, frozen=True):
    """A token as it is compared: by the SHA-256 of its bytes."""

    scope: Scope
    """`read` or `control`, which reads too."""

    digest: bytes


class GatewaySettings(Struct, frozen=True, kw_only=True):
    """How the gateway listens."""

    host: str
    port: int
    trusted_network: bool
    tokens: tuple[ApiToken, ...]
    """None: everybody may do everything who reaches it."""

    names: tuple[str, ...]
    """Host names, beyond local ones, by which clients without a token may call it."""

    tls_cert: str | None
    tls_key: str | None
    requests_per_s: int
    """Of one client address, sustained; bursts are twice that. 0: no limit."""

    connections: int
    """At once, of all clients."""

    client_connections: int
    """At once, of one client address. 0: no limit."""

    sse_clients: int

    @property
    def scheme(self) -> str:
        """How it is called."""
        return "https" if self.tls_cert is not None else "http"


def read_gateway(read: Reader, *, listens: bool) -> GatewaySettings:
    """Read and validate. Where it `listens`, it must not do so for everybody. Raises `SettingError`."""
    host = read.text("GATEWAY_HOST", "127.0.0.1", "address the gateway listens on") or ""
    beyond = not is_loopback(host)
    settings = GatewaySettings(
        host=host,
        port=read.integer("GATEWAY_PORT", DEFAULT_GATEWAY_PORT, "the gateway's port", most=_PORT_MOST),
        trusted_network=read.boolean(
            "TRUSTED_NETWORK", False, "true: the gateway may listen beyond loopback without tokens"
        ),
        tokens=_tokens(read),
        names=_names(read),
        tls_cert=file(read, "GATEWAY_TLS_CERT", "the gateway's certificate, with what leads to its root"),
        tls_key=file(read, "GATEWAY_TLS_KEY", "its key"),
        requests_per_s=_bound(
            read, "CLIENT_REQUESTS_PER_S", 1000, beyond, "requests a second of one client address"
        ),
        connections=read.integer(
            "MAX_CONNECTIONS", 4096, "connections to the gateway at once", least=1, most=_MANY
        ),
        client_connections=_bound(
            read, "CLIENT_CONNECTIONS", 512, beyond, "connections at once of one client address"
        ),
        sse_clients=read.integer(
            "MAX_SSE_CLIENTS", 1000, "clients that follow the event stream at once", least=1, most=_MANY
        ),
    )
    paired(read, "GATEWAY_TLS_CERT", settings.tls_cert, "GATEWAY_TLS_KEY", settings.tls_key)
    if listens and beyond and not settings.tokens and not settings.trusted_network:
        raise SettingError(
            read.key("GATEWAY_HOST"),
            host,
            "a loopback address, or PERPETUA_API_TOKENS, or PERPETUA_TRUSTED_NETWORK=true where only trusted "
            "clients reach it",
        )
    return settings


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bound(read: Reader, name: str, beyond_loopback: int, beyond: bool, doc: str) -> int:
    """Return a bound that holds by itself only where others than this machine's users are clients."""
    said = f"{doc}; 0: no limit. Unless it is set: {beyond_loopback} beyond loopback, none on it"
    given = read.integer(name, 0, said, most=_MANY)
    return given if read.given(name) else beyond_loopback if beyond else 0


def _names(read: Reader) -> tuple[str, ...]:
    given = read.text(
        "GATEWAY_NAMES", None, "host names, by comma, by which clients without a token may call the gateway"
    )
    return tuple(name.strip().lower() for name in (given or "").split(",") if name.strip())


def _tokens(read: Reader) -> tuple[ApiToken, ...]:
    """Return the tokens of both settings. No error ever shows one."""
    given = read.text("API_TOKENS", None, "who may use the API", allowed=_TOKENS_ALLOWED) or ""
    path = file(read, "API_TOKENS_FILE", "the same in a file")
    found = _parsed(read.key("API_TOKENS"), given)
    if path is not None:
        kept = _parsed(read.key("API_TOKENS_FILE"), Path(path).read_text(errors="replace"))
        if not kept:
            raise SettingError(read.key("API_TOKENS_FILE"), path, "a file with at least one token")
        found += kept
    return found


def _parsed(key: str, text: str) -> tuple[ApiToken, ...]:
    lines = [line.strip() for line in text.replace(",", "\n").splitlines()]
    found = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        match = _TOKEN.fullmatch(line)
        if match is None:
            raise SettingError(key, _NOT_SHOWN, _TOKENS_ALLOWED)
        found.append(ApiToken(CONTROL if match[1] == CONTROL else READ, digest(match[2].encode())))
    return tuple(found)


def digest(token: bytes) -> bytes:
    """Return what stands for a token."""
    return sha256(token).digest()
