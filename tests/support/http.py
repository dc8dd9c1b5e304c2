"""Plain HTTP requests of tests. An answer is read whole and let go of, whatever its status."""

from __future__ import annotations

import json
import ssl
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen


class Answer:
    """Status, headers and JSON of an HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


def fetch(
    url: str,
    method: str = "GET",
    body: object = None,
    *,
    raw: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = 30.0,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """Make a request; errors are answers, too. `OSError` where none came, or not all of one."""
    data = raw if raw is not None else (json.dumps(body).encode() if body is not None else None)
    sent = {"Content-Type": "application/json"} if data is not None else {}
    request = Request(url, data=data, method=method, headers=sent | (headers or {}))
    try:
        try:
            response = urlopen(request, timeout=timeout, context=context)
        except HTTPError as error:
            response = error
        with response:
            return Answer(response.status, dict(response.headers), response.read())
    except HTTPException as error:
        raise ConnectionError(f"the answer broke off: {error!r}") from error
