"""Answers of one shard's personas come at different times: each is stored, and asked for once [3.2]."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from libs.contracts.tokens import shard_of
from tests.support.endpoint import endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import swarm
from tests.up.test_outage import asked, thoughts

NEIGHBOURS = [name for n in range(4000) if shard_of(name := f"p{n}") == 0][:24]


@pytest.mark.fact("3.2")
def test_answers_of_one_chunk_that_come_one_by_one_are_all_stored_and_none_is_asked_for_again() -> None:
    spread = random.Random(7)

    def slowly(_: dict[str, Any]) -> str:
        time.sleep(spread.uniform(0.0, 0.6))
        return "A calm signal. One doubt remains."

    with endpoint(slowly) as model:
        settings = {"LOOP_INTERVAL_MS": "100", "MAX_EVENTS": "5000", "THINKER_BASE_URL": model.base_url}
        with swarm("--quiet", settings=settings | {"AUTO_START": "false"}) as running:
            for name in NEIGHBOURS:
                running.post(
                    "/v1/swarm/personas", {"persona_id": name, "name": "P", "role": "r", "charter": "c"}
                )
            running.post("/v1/cognition/start")
            eventually_sync(lambda: len(thoughts(running)) > 6 * len(NEIGHBOURS), 80)
            running.post("/v1/cognition/stop")
            stored = len(thoughts(running))
        calls = asked(model)
        assert [thought for thought, times in calls.items() if times > 1] == []
        assert len(calls) - stored <= len(NEIGHBOURS), "but for what a stop withdraws every answer is stored"
