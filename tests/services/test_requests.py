"""What the gateway makes of requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libs.bus.connection import Bus
from tests.services.standin import StandIn, gateway
from tests.support.http import Answer, fetch

TYPES = ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", ""]


async def ask(served: StandIn, method: str, path: str, body: object = None, **more: Any) -> Answer:
    return await asyncio.to_thread(fetch, f"{served.url}{path}", method, body, **more)


@pytest.mark.fact("4.1")
@pytest.mark.parametrize("content_type", TYPES)
async def test_an_empty_body_is_none_whatever_type_it_is_said_to_be_of(bus: Bus, content_type: str) -> None:
    """`curl -d ''` says that nothing is a form."""
    async with gateway(bus) as served:
        await served.asked.create("ann")
        for path in ("/v1/cognition/stop", "/v1/swarm/personas/ann/reap"):
            answer = await ask(served, "POST", path, raw=b"", headers={"Content-Type": content_type})
            assert answer.status == 200, (path, answer.text)
        assert (await served.asked.swarm.record("ann")).status == "reaped"


@pytest.mark.fact("5.2")
async def test_a_body_of_another_type_is_refused_and_a_needed_one_is_missed(bus: Bus) -> None:
    async with gateway(bus) as served:
        headers = {"Content-Type": TYPES[0]}
        assert (await ask(served, "POST", "/v1/cognition/stop", raw=b"{}", headers=headers)).status == 415
        needed = await ask(served, "POST", "/v1/swarm/personas", raw=b"", headers=headers)
        assert (needed.status, needed.json["detail"]) == (400, "body: Expected a JSON object, got nothing")
