"""Whether anything answers at the default address: `auto` looks there, and again [1.1]."""

from __future__ import annotations

import pytest

from libs.supervisor.broker import free_port
from services.thinker.backends import choosing
from services.thinker.backends.choosing import choose_again
from tests.endpoint.serving import Exchange, Server, serving, settings


async def finds(server: Server | str) -> bool:
    url = server if isinstance(server, str) else server.base_url
    found = await choose_again(settings(url))
    if found is not None:
        await found.close()
    return found is not None


@pytest.mark.parametrize("status", [200, 401, 404, 500])
async def test_whatever_speaks_http_is_found(status: int) -> None:
    async def behave(exchange: Exchange) -> None:
        await exchange.answer(status, b"x")

    async with serving(behave) as server:
        assert await finds(server)
        assert server.requests[0].head.startswith("GET /v1/models HTTP/1.1\r\n")


async def test_a_long_list_of_models_is_not_read_to_its_end() -> None:
    async def behave(exchange: Exchange) -> None:
        await exchange.answer(200, b" " * 10_000_000)

    async with serving(behave) as server:
        assert await finds(server)


async def test_what_does_not_speak_http_is_no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_ANSWERS_WITHIN_S", 0.3)

    async def other(exchange: Exchange) -> None:
        await exchange.send(b"220 mail ready\r\n")

    async def nothing(exchange: Exchange) -> None:
        exchange.cut()

    async def never(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n")

    for behave in (other, nothing, never):
        async with serving(behave) as server:
            assert not await finds(server)
    assert not await finds(f"http://127.0.0.1:{free_port('127.0.0.1')}/v1")
