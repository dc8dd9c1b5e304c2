"""The registry's endpoints are a NATS micro service, which the `nats` tool lists."""

from __future__ import annotations

from typing import Any

import msgspec
import nats.errors
import pytest

from libs.bus.connection import Bus
from libs.bus.endpoints import Gate, Handler, Request, micro_service
from libs.contracts.journal import Position
from tests.bus.support import Noted


async def echo(message: Position, _: Request) -> bytes:
    return msgspec.json.encode(message)


async def asked(bus: Bus, what: str) -> Any:
    message = await bus.client.request(f"$SRV.{what}.registry", b"", timeout=30)
    return msgspec.json.decode(message.data)


async def test_the_service_is_found_with_its_endpoints_and_their_numbers(bus: Bus) -> None:
    endpoints: dict[str, tuple[type, Handler[Any]]] = {"create": (Position, echo), "reap": (Position, echo)}
    async with (
        Gate() as gate,
        micro_service(bus, "registry", "0.1.0", "Personas", "perpetua.registry", endpoints, Noted(), gate),
    ):
        ping = await asked(bus, "PING")
        assert (ping["name"], ping["version"]) == ("registry", "0.1.0")
        info = await asked(bus, "INFO")
        assert info["description"] == "Personas"
        assert {endpoint["subject"] for endpoint in info["endpoints"]} == {
            "perpetua.registry.create",
            "perpetua.registry.reap",
        }
        await bus.ask("perpetua.registry.create", Position(sequence=1), Position, timeout=30)
        stats = await asked(bus, "STATS")
        numbers = {endpoint["name"]: endpoint["num_requests"] for endpoint in stats["endpoints"]}
        assert numbers == {"create": 1, "reap": 0}
    with pytest.raises(nats.errors.NoRespondersError):
        await asked(bus, "PING")


async def test_of_two_instances_one_answers_a_request(bus: Bus) -> None:
    seen: list[str] = []

    def named(name: str) -> Any:
        async def handle(message: Position, _: Request) -> bytes:
            seen.append(name)
            return msgspec.json.encode(message)

        return {"here": (Position, handle)}

    async with (
        Gate() as gate,
        micro_service(bus, "registry", "0.1.0", "one", "svc", named("one"), Noted(), gate),
        micro_service(bus, "registry", "0.1.0", "two", "svc", named("two"), Noted(), gate),
    ):
        for _ in range(40):
            await bus.ask("svc.here", Position(sequence=1), Position, timeout=30)
    assert len(seen) == 40
    assert set(seen) == {"one", "two"}
