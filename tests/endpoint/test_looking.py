"""Whether anything answers at the default address: `auto` looks there, and again [1.1]."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from libs.models.tiny import build
from services.thinker import looking
from services.thinker.backends import choosing
from services.thinker.backends.base import Backend
from services.thinker.backends.choosing import choose_again
from services.thinker.looking import Looking
from tests.endpoint.serving import Exchange, Server, serving, settings
from tests.support.eventually import eventually
from tests.support.manifests import manifest
from tests.support.ports import free_port


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


async def test_a_pulled_model_that_is_broken_is_said_and_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else thinks, and the thinker goes on with its declared fallback meanwhile."""
    looks = 0

    async def counted(*args: Any) -> Backend | None:
        nonlocal looks
        looks += 1
        return await choose_again(*args)

    monkeypatch.setattr(looking, "LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr(looking, "choose_again", counted)
    store = tmp_path / "models"
    build(store / "mine")
    (store / "mine" / "manifest.json").write_bytes(msgspec.json.encode(manifest("mine")))
    model = store / "mine" / "model.bin"
    whole = model.read_bytes()
    model.write_bytes(b"garbage" * 99)
    changes: list[str | None] = []
    nobody = settings(f"http://127.0.0.1:{free_port('127.0.0.1')}/v1")
    finder = Looking(nobody, store, lambda: changes.append(finder.trouble))
    with capture_logs() as logs:
        finding = asyncio.create_task(finder.found())
        await eventually(lambda: looks >= 3)
        assert not finding.done()
        assert finder.trouble is not None and f"{store / 'mine'} cannot be loaded" in finder.trouble
        mended = tmp_path / "whole"
        mended.write_bytes(whole)
        mended.rename(model)
        backend = await asyncio.wait_for(finding, 60)
    await backend.close()
    assert backend.model == "mine"
    assert len(changes) == 2 and changes[-1] is None, "said once, and taken back"
    assert [entry["event"] for entry in logs].count("cannot_think_with_it") == 1
