"""The `fixed` cadence: credits and idle time of a policy are counted and shown, and hold nobody up."""

from __future__ import annotations

import pytest

from tests.life.support import make, payloads, state, thoughts
from tests.support.endpoint import endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import swarm

TTL_S = 1


@pytest.mark.fact("A6", "A16", "A17")
def test_under_fixed_who_has_no_credits_and_no_time_thinks_on_and_both_are_shown() -> None:
    """The model says the same each time: none of it is progress."""
    with endpoint(lambda _: "All is calm here, as it has been all the time, and nobody comes.") as model:
        settings = {"CADENCE": "fixed", "LOOP_INTERVAL_MS": "100", "THINKER_BASE_URL": model.base_url}
        with swarm("--quiet", settings=settings) as up:
            make(
                up, "pauper", idle_ttl_secs=TTL_S, token_credits_per_minute=0, cpu_credits_per_minute=0
            )  # fmt: skip
            eventually_sync(lambda: state(up, "pauper")["life"]["idle_secs"] > 2 * TTL_S, 30, "no progress")
            before = thoughts(up, "pauper")
            eventually_sync(lambda: thoughts(up, "pauper") > before + 4, 30, "it thinks on")
            shown = state(up, "pauper")
            assert (shown["status"], shown["life"]["paused"]) == ("active", None)
            assert shown["life"]["compute_budget"] == 0.0
            assert shown["life"]["tokens"] >= 120 * before
            assert payloads(up, "budget_paused", "pauper") == []
            assert payloads(up, "persona_reaped", "pauper") == []
            rows = {row["key"]: row for row in up.get("/v1/swarm/spend")["rows"]}
            assert rows["pauper"]["tokens"] >= shown["life"]["tokens"]
