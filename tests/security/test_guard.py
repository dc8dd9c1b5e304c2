"""Who is let in by tokens, names and rates, and what every answer carries: over real sockets."""

from __future__ import annotations

import time

import pytest

from services.gateway.access import Access
from tests.security.serving import MASTER, READER, TOKENS, served, settings

CARRIED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@pytest.mark.parametrize(
    ("method", "token", "status"),
    [
        ("GET", "", 401), ("POST", "", 401), ("GET", "wrong-token-0123456789", 401), ("GET", READER, 200),
        ("HEAD", READER, 200), ("OPTIONS", READER, 200), ("POST", READER, 403), ("DELETE", READER, 403),
        ("PUT", READER, 403), ("BREW", READER, 400), ("GET", MASTER, 200), ("POST", MASTER, 200),
    ],
)  # fmt: skip
async def test_a_token_does_what_its_scope_says(method: str, token: str, status: int) -> None:
    async with served(API_TOKENS=TOKENS) as server:
        answer = await server.get(method=method, Authorization=f"Bearer {token}" if token else "")
        assert answer.status == status
        if status == 401:
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert "Authorization: Bearer" in answer.detail
        if status == 403:
            assert "control" in answer.detail


@pytest.mark.parametrize(
    "path", ["/", "/livez", "/readyz", "/static/js/main.js", "/schema", "/schema/openapi.json"]
)
async def test_the_page_and_probes_need_no_token(path: str) -> None:
    async with served(API_TOKENS=TOKENS) as server:
        assert (await server.get(path)).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/v1/x",
        "//",
        "/v1/session/",
        "/livez/",
        "/statics",
        "/schemas",
        "/static",
        "/x",
        "/V1/SESSION",
    ],
)
async def test_everything_else_does(path: str) -> None:
    async with served(API_TOKENS=TOKENS) as server:
        assert (await server.get(path)).status == 401


async def test_a_token_in_the_address_is_none() -> None:
    async with served(API_TOKENS=TOKENS) as server:
        for name in ("token", "access_token", "api_key"):
            assert (await server.get(f"/v1/x?{name}={MASTER}")).status == 401


async def test_a_session_is_found_among_strange_cookies() -> None:
    """On one host, all ports share their cookies."""
    token = MASTER.encode()
    session = Access(settings(API_TOKENS=TOKENS).tokens, time.time).session(token)
    async with served(API_TOKENS=TOKENS) as server:
        for cookies in (
            f"perpetua_session={session}",
            f'a={{"b": "c,d"}}; "; =; x; perpetua_session={session}; y=1',
            f"perpetua_session=forged; __Host-perpetua_session={session}",
        ):
            assert (await server.get(method="POST", Cookie=cookies)).status == 200
        assert (await server.get(Cookie="perpetua_session=forged")).status == 401
        assert (await server.get(Cookie=f"other={session}")).status == 401


async def test_without_tokens_nobody_is_asked() -> None:
    async with served() as server:
        answer = await server.get(method="POST", Authorization="Bearer whatever")
        assert answer.status == 200


async def test_every_answer_says_what_browsers_may_not_do_with_it() -> None:
    """Refusals too; and none ever lets another origin read it, whatever it asks."""
    async with served(API_TOKENS=TOKENS) as server:
        for token in (MASTER, "wrong-token-0123456789"):
            answer = await server.get(
                Authorization=f"Bearer {token}",
                Origin="http://evil.example",
                Access_Control_Request_Method="POST",
            )
            assert CARRIED.items() <= answer.headers.items()
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
            assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_stranger_s_name_is_refused_where_no_token_is_asked_for() -> None:
    """DNS rebinding: the stranger's page is then of the gateway's origin, and would read everything."""
    async with served(GATEWAY_NAMES="swarm.example.org") as server:
        for ours in ("localhost", "127.0.0.1:1", "[::1]:4096", "gateway:4096", "swarm.example.org"):
            assert (await server.get(Host=ours)).status == 200
        for strange in ("evil.example.org", "evil.example.org:4096", "127.0.0.1.evil.org"):
            answer = await server.get(Host=strange)
            assert answer.status == 421
            assert "PERPETUA_GATEWAY_NAMES" in answer.detail
        assert (await server.get(Host="")).status == 200, "no browser leaves it out"
    async with served(API_TOKENS=TOKENS) as server:
        answer = await server.get(Host="any.example.org", Authorization=f"Bearer {READER}")
        assert answer.status == 200, "a stranger's page has no token"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 200),
    ],
)
async def test_a_page_of_another_site_controls_nothing(headers: dict[str, str], status: int) -> None:
    async with served() as server:
        assert (await server.get(method="POST", **headers)).status == status
        assert (await server.get(method="GET", **headers)).status == 200


async def test_a_client_that_asks_too_often_is_told_when_to_come_again() -> None:
    async with served(CLIENT_REQUESTS_PER_S="5") as server:
        answers = [await server.get() for _ in range(40)]
        refused = [answer for answer in answers if answer.status == 429]
        assert {answer.status for answer in answers} == {200, 429}
        assert answers[0].status == 200
        assert int(refused[0].headers["retry-after"]) >= 1
        assert "too many requests" in refused[0].detail
        assert server.refused["TooManyRequests"] == len(refused)


async def test_a_forwarded_address_is_not_believed() -> None:
    """A client could else be anybody, and have everybody's share."""
    async with served(CLIENT_REQUESTS_PER_S="1") as server:
        answers = [await server.get(X_Forwarded_For=f"10.0.0.{n}") for n in range(20)]
        assert 429 in {answer.status for answer in answers}
