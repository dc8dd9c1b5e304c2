"""One swarm whose personas have lives of their own, and a model that answers as the tests want."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.endpoint import Endpoint, endpoint
from tests.support.swarm import Swarm, swarm
from tests.unit.messages import decision

PLENTY = "4000000000"
SETTINGS = {
    "CADENCE": "adaptive",
    "LOOP_INTERVAL_MS": "200",
    "MAX_EVENTS": "20000",
    "TOKEN_CREDITS_PER_MINUTE": PLENTY,
    "CPU_CREDITS_PER_MINUTE": PLENTY,
    "IDLE_TTL_SECS": "86400",
}


def user_prompt(request: dict[str, Any]) -> str:
    return str(request["messages"][-1]["content"])


def reply(request: dict[str, Any]) -> str:
    """Answer every message, and think something new each time of nothing else."""
    words = user_prompt(request)
    if "messages to the persona" in words:
        return decision(True, f"It is calm, says {hash(words)}.")
    return f"Thought {hash(words)} about {len(words)} letters."


@pytest.fixture(scope="session")
def model() -> Iterator[Endpoint]:
    with endpoint(reply) as running:
        yield running


@pytest.fixture(scope="session")
def up(model: Endpoint) -> Iterator[Swarm]:
    settings = SETTINGS | {"THINKER_BASE_URL": model.base_url}
    with swarm("--quiet", settings=settings, own={"ROLL_UP_INTERVAL_MS": "300"}) as running:
        yield running


@pytest.fixture(autouse=True)
def replies_as_usual(model: Endpoint) -> Iterator[None]:
    """Let no test's own answers outlive it."""
    yield
    model.reply = reply
