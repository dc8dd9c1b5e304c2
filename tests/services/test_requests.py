"""What the gateway makes of requests: empty bodies, ids that read like its own paths, and what it notes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libs.bus.connection import Bus
from services.gateway.app import published
from tests.services.standin import StandIn, gateway
from tests.support.http import Answer, fetch

READER = "read-token-0123456789"
STRANGE = "text-of-a-stranger"
TYPES = ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", ""]


def fixed_segments() -> set[str]:
    """Every word that stands in some path of the API."""
    paths = published("0")["paths"]
    return {word for path in paths for word in path.split("/") if word and not word.startswith("{")}


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


@pytest.mark.fact("2.6")
async def test_an_id_that_reads_like_a_part_of_a_path_is_an_id(bus: Bus) -> None:
    """Nothing fixed stands where an id may."""
    async with gateway(bus) as served:
        for word in sorted(fixed_segments() | {"session", "import", "schema", "static"}):
            await asked_by(served, word)


async def asked_by(served: StandIn, word: str) -> None:
    """Make each request that names an id, of a persona and a swarm of this name."""
    path, child = f"/v1/swarm/personas/{word}", f"under-{word}"
    await served.asked.create(word, swarm_id=word)
    assert (await ask(served, "GET", path)).json["identity"]["id"] == word
    body = {"name": "n", "role": "r", "charter": "c", "persona_id": child}
    assert (await ask(served, "POST", f"{path}/spawn", body)).json["identity"]["parent_id"] == word
    sent = await ask(served, "POST", f"{path}/inbox", {"content": "Calm?", "id": word, "once": True})
    assert sent.json == {"item_id": word, "persona_id": word}
    assert (await ask(served, "GET", f"{path}/inbox/{word}")).json == sent.json
    assert (await ask(served, "GET", f"{path}/inbox")).json["held"] == 0
    everybody = await ask(served, "POST", f"/v1/swarm/swarms/{word}/inbox", {"content": "All calm?"})
    assert everybody.json["personas"] == 2
    waits = await ask(served, "PUT", f"{path}/dependencies", {"waiting_for": [child]})
    assert waits.status == 200, waits.text
    assert (await ask(served, "POST", f"{path}/reap", {"cascade": True})).json["count"] == 2


@pytest.mark.fact("H9")
async def test_what_is_refused_at_the_door_is_not_noted_as_answered(bus: Bus) -> None:
    """Else strangers would write what `perpetua ps` and the page show."""
    async with gateway(bus, API_TOKENS=f"read:{READER}") as served:
        assert (await ask(served, "GET", f"/v1/{STRANGE}")).status == 401
        known = {"Authorization": f"Bearer {READER}"}
        assert (await ask(served, "POST", f"/v1/{STRANGE}", {}, headers=known)).status == 403
        assert served.answered == []
        assert (await ask(served, "GET", "/v1/swarm/lineage", headers=known)).status == 200
        assert served.answered == ["GET /v1/swarm/lineage"]
