"""HTTP to one endpoint over kept connections, by aiohttp: whole answers, bounded, or the reason for none.

Redirects are not followed: a request with a key goes where it was addressed. Proxies are those of the
environment (`HTTPS_PROXY` and its like). The caller bounds the time.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal
from urllib.request import getproxies, proxy_bypass

import aiohttp
from msgspec import Struct
from yarl import URL

IDLE_S = 4.0
"""A connection that has been idle for so many seconds is not used again: servers close theirs after 5 s."""

HEADER_BYTES = 16 * 1024
"""The most that one header of an answer may weigh, in bytes."""

_PIECE_BYTES = 64 * 1024
_SAID_CHARS = 100


class HttpError(Exception):
    """No answer was received. `Unreachable`, `Cut`, `NotHttp` and `TooLarge` say why."""


class Unreachable(HttpError):
    """No connection could be made."""

    def __init__(self, place: str, error: aiohttp.ClientConnectionError) -> None:
        super().__init__(f"cannot connect to {place}: {_reason(error)}")
        self.is_refusal_of_certificate = isinstance(error, aiohttp.ClientSSLError)


class Cut(HttpError):
    """The connection ended before the answer did."""


class NotHttp(HttpError):
    """What came is no HTTP answer."""


class TooLarge(HttpError):
    """The answer is larger than any answer of a model."""


class Response(Struct, frozen=True):
    """An answer, whole."""

    status: int
    headers: Mapping[str, str]
    """Their names in any case."""

    body: bytes


class Pool:
    """Connections to the origin of a URL, as many as there are calls of `ask` under way."""

    def __init__(
        self, url: str, headers: Mapping[str, str], most: int, method: Literal["GET", "POST"] = "POST"
    ) -> None:
        """`headers` go with every request; `most` bounds an answer's body, in bytes.

        Raises `ValueError` for a URL or a header that cannot be sent.
        """
        for name, value in headers.items():
            if not value.isascii() or not value.isprintable():
                raise ValueError(f"{name} holds characters that cannot be sent in a header")
        self._url = URL(url)
        self._tls = ssl.create_default_context() if self._url.scheme == "https" else True
        self._proxy = _proxy_of(self._url)
        self._place = f"{self._url.host}:{self._url.port}"
        self._headers = MappingProxyType(dict(headers))
        self._most = most
        self._method = method
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, body: bytes) -> Response:
        """Send a body and return the answer. Raises `HttpError`; when cancelled it closes the connection."""
        received = bytearray()
        try:
            async with self._opened().request(
                self._method, self._url, data=body, allow_redirects=False
            ) as response:
                async for piece in response.content.iter_chunked(_PIECE_BYTES):
                    received += piece
                    if len(received) > self._most:
                        response.close()
                        raise TooLarge(f"the answer is larger than {self._most} bytes")
                return Response(response.status, response.headers, bytes(received))
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(self._place, error) from error
        except aiohttp.ClientPayloadError as error:
            raise Cut(f"the connection was cut after {len(received)} bytes of the answer") from error
        except aiohttp.ServerConnectionError as error:
            raise Cut("the connection was cut before an answer") from error
        except aiohttp.ClientOSError as error:
            raise Cut(f"the connection was cut: {_reason(error)}") from error
        except aiohttp.ClientResponseError as error:
            said = " ".join(error.message.split())[:_SAID_CHARS]
            raise NotHttp(f"not an HTTP answer: {said}") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S, ssl=self._tls),
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                max_line_size=HEADER_BYTES,
                max_field_size=HEADER_BYTES,
                proxy=self._proxy,
            )
        return self._session


def _proxy_of(url: URL) -> str | None:
    """Return the environment's proxy for a URL. Looked up once: aiohttp would look with every request."""
    host = url.host or ""
    return None if proxy_bypass(host) else getproxies().get(url.scheme)


def _reason(error: aiohttp.ClientConnectionError) -> str:
    """Return the words of an error without its number; several addresses may have been tried."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        refused = error.certificate_error
        return f"its certificate is refused ({getattr(refused, 'verify_message', refused)})"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed ({cause.reason or cause})"
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
