"""The gateway's HTTP API, as the command line uses it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from libs.cli.errors import CliError
from libs.settings.gateway import is_loopback
from libs.settings.urls import is_http

_TIMEOUT_S = 30.0
_STREAM_TIMEOUT_S = 60.0
_LATER = (
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.GATEWAY_TIMEOUT,
)
"""What the gateway, or a proxy before it, answers where another try makes sense."""

_SENT = {"Content-Type": "application/json"}
_TOKEN_CURE = "Give it with PERPETUA_API_TOKEN or --token-file"


class GatewayAway(CliError):
    """No gateway answers, or it cannot do it now: trying again may help."""

    def __init__(self, text: str, retry_after: float = 1.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        """Seconds after which another try makes sense."""


class Refused(CliError):
    """The gateway has refused a request; the same one would be refused again."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Api:
    """A gateway at a base URL, and the token to show it."""

    base: str
    token: str | None = field(default=None, repr=False)

    def get(self, path: str, **query: object) -> Any:
        """Return the JSON of a GET."""
        named = {key: value for key, value in query.items() if value is not None}
        return self._json(Request(self._url(path, named)))

    def post(self, path: str, body: object = None) -> Any:
        """Return the JSON of a POST; bytes are sent as they are."""
        data = body if isinstance(body, bytes) else _encoded(body) if body is not None else b""
        return self._json(Request(self._url(path), data=data, headers=_SENT, method="POST"))

    def put(self, path: str, body: object) -> Any:
        """Return the JSON of a PUT."""
        data = _encoded(body)
        return self._json(Request(self._url(path), data=data, headers=_SENT, method="PUT"))

    def follow(
        self, after: int, silent_s: float = _STREAM_TIMEOUT_S
    ) -> Iterator[tuple[str, int | None, str]]:
        """Yield name, id and data of each server-sent event, until the connection ends.

        Without a name there is none: the gateway only says that it is there. Raises `CliError` when the
        connection cannot be made, breaks, or says nothing for so many seconds.
        """
        path = self._url("/v1/cognition/stream", {"after": after})
        with self._open(Request(path), silent_s) as response:
            name, identifier, data = "message", None, ""
            for raw in _read(response):
                line = raw.decode().rstrip("\n")
                if not line:
                    if data:
                        yield name, identifier, data
                    name, data = "message", ""
                    continue
                field, _, value = line.partition(": ")
                if not field:  # a comment: the connection lives
                    yield "", None, ""
                elif field == "event":
                    name = value
                elif field == "id":
                    identifier = int(value)
                elif field == "data":
                    data = value

    @cached_property
    def _opener(self) -> OpenerDirector:
        """What asks; past the proxy of the environment where nothing leaves this machine: it sees tokens."""
        local = is_loopback(urlsplit(self.base).hostname or "")
        return build_opener(*([ProxyHandler({})] if local else []))

    def _url(self, path: str, query: dict[str, object] | None = None) -> str:
        return self.base.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")

    def _json(self, request: Request) -> Any:
        with self._open(request, _TIMEOUT_S) as response:
            try:
                found = json.loads(response.read())
            except (OSError, HTTPException) as error:
                raise GatewayAway(f"the connection to the gateway broke ({error!r})") from None
            except ValueError:
                found = None
        if not isinstance(found, dict):
            raise CliError(f"{self.base} is no gateway: what it answers is not an object in JSON")
        return found

    def _open(self, request: Request, timeout: float) -> HTTPResponse:
        if self.token is not None:  # not sent on to where a redirect would lead
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            response: HTTPResponse = self._opener.open(request, timeout=timeout)
        except HTTPError as error:
            cure = f". {_TOKEN_CURE}" if error.code == HTTPStatus.UNAUTHORIZED else ""
            if error.code in _LATER:
                raise GatewayAway(_detail(error), _retry_after(error)) from None
            raise Refused(_detail(error) + cure, error.code) from None
        except (URLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            raise GatewayAway(
                f"no gateway answers at {self.base} ({reason}). "
                "Start one with `perpetua up`, or name it with --gateway"
            ) from None
        except HTTPException:
            raise CliError(f"{self.base} is no gateway: it does not speak HTTP") from None
        return response


def _read(response: HTTPResponse) -> Iterator[bytes]:
    try:
        yield from response
    except (OSError, HTTPException) as error:
        raise CliError(f"the connection to the gateway broke ({error!r})") from None


def _encoded(body: object) -> bytes:
    """Return a body in JSON. Raises `CliError` where an argument of the command was not UTF-8."""
    try:
        return json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        byte = ord(error.object[error.start]) & 0xFF  # Python's stand-in for a byte that is no character
        cure = "where a character was cut in two, `| iconv -c -f UTF-8 -t UTF-8` leaves its half out"
        raise CliError(f"nothing was sent: its byte 0x{byte:02x} is not UTF-8; {cure}") from None


def segment(persona_id: str) -> str:
    """Return an id as one segment of a path; bytes of the command line that are no UTF-8 as they are."""
    return quote(persona_id, safe="", errors="surrogateescape")


def checked_base(url: str) -> str:
    """Return the base URL of a gateway. Raises `CliError` where it is none."""
    if not is_http(url) or not _is_word(url):
        raise CliError(f"no URL of a gateway: {url!r}; expected one such as http://127.0.0.1:8080")
    return url


def checked_token(token: str, whence: str) -> str:
    """Return a token. Raises `CliError` where it cannot be one."""
    if not _is_word(token):
        raise CliError(f"{whence} holds no token: a token is one word of ASCII letters, digits and signs")
    return token


def _is_word(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _retry_after(error: HTTPError) -> float:
    said = error.headers.get("Retry-After", "")
    return float(said) if said.isdigit() else 1.0


def _detail(error: HTTPError) -> str:
    try:
        return str(json.loads(error.read())["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the gateway answered {error.code} {error.reason}"
