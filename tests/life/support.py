"""Making personas with lives, and watching them."""

from __future__ import annotations

import time
from typing import Any

from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm


def make(up: Swarm, persona_id: str, *, swarm_id: str | None = None, **policy: Any) -> None:
    """Create a persona whose charter names it, so that its calls can be told from those of others."""
    body: dict[str, Any] = {
        "persona_id": persona_id,
        "name": persona_id,
        "role": "critic",
        "charter": charter(persona_id),
        "policy": {"share_memory": False} | policy,
    }
    up.post("/v1/swarm/personas", body | ({"swarm_id": swarm_id} if swarm_id else {}))


def charter(persona_id: str) -> str:
    return f"Find what is wrong for {persona_id}!"


def state(up: Swarm, persona_id: str) -> dict[str, Any]:
    found: dict[str, Any] = up.get(f"/v1/swarm/personas/{persona_id}")
    return found


def thoughts(up: Swarm, persona_id: str) -> int:
    return int(state(up, persona_id)["thought_count"])


def rested(up: Swarm, *persona_ids: str) -> None:
    """Wait until each has ended its first cycle, and looked since whether anything is new."""

    def at_rest() -> bool:
        return all(is_at_rest(state(up, name)) for name in persona_ids)

    eventually_sync(at_rest, 30, f"{persona_ids} at rest")


def is_at_rest(shown: dict[str, Any]) -> bool:
    """Whether a persona has ended a cycle, and neither thinks nor waits for its turn."""
    count = shown["thought_count"]
    return count > 0 and count % 4 == 0 and shown["life"]["next_look_at"] is not None


def send(up: Swarm, persona_id: str, content: str = "Is it calm?", **more: Any) -> str:
    sent = up.post(f"/v1/swarm/personas/{persona_id}/inbox", {"content": content} | more)
    return str(sent["item_id"])


def payloads(up: Swarm, event_type: str, persona_id: str) -> list[dict[str, Any]]:
    """Payloads of a persona's events of one type, oldest first."""
    events = []
    after = 0
    while True:
        page = up.get(f"/v1/cognition/events?after={after}&limit=1000&persona_id={persona_id}")
        events += [entry["event"] for entry in page["events"]]
        if not page["events"]:
            return [event["payload"] for event in events if event["event_type"] == event_type]
        after = page["next_after"]


def told_of_reaping(up: Swarm, persona_id: str) -> list[dict[str, Any]]:
    """Wait until it is public that a persona is reaped: its state says so before."""
    told = eventually_sync(lambda: payloads(up, "persona_reaped", persona_id), 60, f"{persona_id} reaped")
    return told or []


def make_rested(up: Swarm, *persona_ids: str, **more: Any) -> None:
    """Create personas, and wait until each rests."""
    for name in persona_ids:
        make(up, name, **more)
    rested(up, *persona_ids)


def early_in_a_minute() -> None:
    """Windows are minutes of the clock: what is spent is to be spent in one."""
    if (passed := time.time() % 60) > 35:
        time.sleep(60.5 - passed)
