"""`/v1/session`: a browser's way to show its token once, and the cookie it gets for it.

A page's event stream can set no header, and a token in an address would end up in histories and logs.
"""

from __future__ import annotations

from typing import Any

from litestar import Controller, Request, Response, delete, get, post
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.params import JSONBody

from libs.contracts.session import Session, SignIn
from services.gateway.access import SESSION_S, Access
from services.gateway.guard import COOKIE, SECURE_COOKIE, SESSION_PATH, scope_of
from services.gateway.problems import Unauthorized
from services.gateway.routes.common import problems

_Request = Request[Any, Any, Any]


class Sessions(Controller):
    """Signing in and out."""

    path = SESSION_PATH
    tags = ("session",)

    @get(responses=problems(), operation_id="session")
    async def show(self, request: _Request, access: NamedDependency[Access]) -> Session:
        """Show what the caller may do, and whether a token is asked for at all."""
        return Session(required=access.required, scope=scope_of(request.scope))

    @post(status_code=200, responses=problems(400, 401, 403, 413, 415), operation_id="sign_in")
    async def sign_in(
        self, request: _Request, access: NamedDependency[Access], data: JSONBody[SignIn]
    ) -> Response[Session]:
        """Show a token and get a session: a cookie that no script can read."""
        if not access.required:
            return Response(Session(required=False, scope=scope_of(request.scope)))
        token = data.token.encode()
        scope = access.of_token(token)
        if scope is None:
            raise Unauthorized
        return Response(
            Session(required=True, scope=scope), cookies=[_cookie(request, access.session(token), SESSION_S)]
        )

    @delete(status_code=200, responses=problems(403), operation_id="sign_out")
    async def sign_out(self, request: _Request, access: NamedDependency[Access]) -> Response[Session]:
        """Give the session up."""
        left = None if access.required else scope_of(request.scope)
        return Response(Session(required=access.required, scope=left), cookies=[_cookie(request, "", 0)])


def _cookie(request: _Request, value: str, seconds: int) -> Cookie:
    """Return the session's cookie; over TLS, also one that a proxy ends, it never goes over plain HTTP."""
    secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
    return Cookie(
        key=SECURE_COOKIE if secure else COOKIE,
        value=value,
        max_age=seconds,
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )
