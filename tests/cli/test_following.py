"""`perpetua watch`, and what holds for every command that asks a gateway, on a gateway in this process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from libs.bus.connection import Bus
from libs.cli.api import Api, GatewayAway
from tests.services.standin import gateway
from tests.services.test_feed import followed
from tests.support.eventually import eventually
from tests.support.ports import free_port

HOST = "127.0.0.1"
TOKEN, ANOTHER = "a" * 20, "b" * 20


class Watching:
    """`perpetua watch --json` at a port."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None and process.stderr is not None
        self.process, self.stdout, self.stderr = process, process.stdout, process.stderr

    async def event(self) -> str:
        """Return what the next event's thought says."""
        thinking: str = json.loads(await asyncio.wait_for(self.stdout.readline(), 20))["payload"]["thinking"]
        return thinking

    async def end(self) -> tuple[int, str]:
        """Return its status once it has ended by itself, and what it has said on standard error."""
        said = await asyncio.wait_for(self.stderr.read(), 20)
        return await self.process.wait(), said.decode()


@asynccontextmanager
async def watch(port: str, *arguments: str, token: str = "") -> AsyncIterator[Watching]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "libs.cli", "watch", "--json", *arguments, "--gateway", f"http://{HOST}:{port}",
        env=os.environ | {"PERPETUA_API_TOKEN": token},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Watching(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
def port() -> str:
    return str(free_port(HOST))


async def test_watch_goes_on_after_a_restart_of_the_gateway_where_it_has_seen_nothing(
    bus: Bus, port: str
) -> None:
    """Without `--after` it begins with what is stored from now on, also while it is not connected."""
    async with AsyncExitStack() as stack:
        async with gateway(bus, GATEWAY_PORT=port) as first:
            await first.emit("thought_generated", "ann", {"thinking": "before"})
            watching = await stack.enter_async_context(watch(port))
            await eventually(lambda: followed(bus), 20, "watching")
        assert b"is away" in await asyncio.wait_for(watching.stderr.readline(), 20)
        await first.emit("thought_generated", "ann", {"thinking": "meanwhile"})
        async with gateway(bus, GATEWAY_PORT=port):
            assert await watching.event() == "meanwhile"


async def test_watch_without_a_token_that_counts_ends_at_once(bus: Bus, port: str) -> None:
    async with gateway(bus, GATEWAY_PORT=port, API_TOKENS=f"read:{TOKEN}"):
        for arguments in ([], ["--after", "0"]):
            async with watch(port, *arguments, token=ANOTHER) as watching:
                status, said = await watching.end()
            assert status == 1
            assert len(said.splitlines()) == 1 and "PERPETUA_API_TOKEN" in said


async def test_watch_ends_once_its_token_counts_no_longer(bus: Bus, port: str) -> None:
    async with AsyncExitStack() as stack:
        async with gateway(bus, GATEWAY_PORT=port, API_TOKENS=f"read:{TOKEN}") as first:
            watching = await stack.enter_async_context(watch(port, "--after", "0", token=TOKEN))
            await first.emit("thought_generated", "ann", {"thinking": "mine"})
            assert await watching.event() == "mine"
        async with gateway(bus, GATEWAY_PORT=port, API_TOKENS=f"read:{ANOTHER}"):
            status, said = await watching.end()
    assert status == 1
    assert "PERPETUA_API_TOKEN" in said.splitlines()[-1]


def test_watch_waits_for_what_a_proxy_before_the_gateway_says_is_away() -> None:
    """Its 502 is no refusal of the gateway's."""
    with answering(502) as (url, _), pytest.raises(GatewayAway):
        Api(url).get("/v1/cognition/status")


def test_what_stays_on_this_machine_goes_to_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would see the token, and cannot reach this machine's loopback anyway."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with answering(200) as (proxy, by_proxy), answering(200) as (url, direct):
        monkeypatch.setenv("http_proxy", proxy)
        Api(url, TOKEN).get("/here")
        Api(url.replace(HOST, "localhost"), TOKEN).get("/here")
        Api("http://gateway.example", TOKEN).get("/there")
    assert direct == ["/here", "/here"]
    assert by_proxy == ["http://gateway.example/there"]


@contextmanager
def answering(status: int) -> Iterator[tuple[str, list[str]]]:
    """A server that answers everything so; its URL, and what it was asked for."""
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{server.server_port}", asked
        server.shutdown()
