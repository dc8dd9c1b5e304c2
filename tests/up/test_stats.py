"""`perpetua stats`, and the end of `perpetua up`, on a run with a model that takes its time [H16]."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

import pytest

from tests.support.endpoint import endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

DELAY_S = 0.03


def run_of(running: Swarm) -> dict[str, Any]:
    done = running.cli("stats", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.fact("H16")
def test_the_stages_of_a_run_are_shown_and_failed_thoughts_are_counted_apart() -> None:
    with endpoint() as model:
        model.delay = DELAY_S
        settings = {"THINKER_BASE_URL": model.base_url, "LOOP_INTERVAL_MS": "100"}
        with swarm("--quiet", settings=settings) as running:
            eventually_sync(lambda: run_of(running)["outcomes"].get("completed", 0) > 5, 40, "thoughts")
            well, model.reply = model.reply, lambda _: 400
            eventually_sync(lambda: run_of(running)["outcomes"].get("failed", 0) > 2, 40, "failures")
            model.reply = well
            running.post("/v1/cognition/stop")
            stored = running.get("/v1/swarm/personas/root-thinker")["thought_count"]

            def all_told() -> dict[str, Any] | None:
                """The scheduler's part and the thinker's: each is said when its presence is renewed."""
                told = run_of(running)
                outcomes, counts = told["outcomes"], {one["stage"]: one["count"] for one in told["stages"]}
                assert sum(outcomes[name] for name in ("completed", "failed", "fallback")) == stored, told
                assert counts["total"] == counts["inference"] == outcomes["completed"], told
                return told

            found = eventually_sync(all_told, 30, "every thought in one of them")
            assert found is not None
            stages = {stage["stage"]: stage for stage in found["stages"]}
            assert list(stages) == ["queue wait", "inference", "publish", "total"]
            for stage in stages.values():
                assert stage["min_ms"] <= stage["mean_ms"] <= stage["max_ms"] < 20_000
                if stage["stage"] == "queue wait":  # by the event loop's clock, in whole milliseconds
                    assert stage["min_ms"] >= 0 and stage["max_ms"] > 0
                else:
                    assert stage["min_ms"] > 0
            assert stages["inference"]["min_ms"] >= 1000 * DELAY_S
            assert stages["total"]["mean_ms"] >= stages["inference"]["mean_ms"]
            completed = found["outcomes"]["completed"]
            assert completed < stored
            assert "mean ms" in running.cli("stats").stdout
            assert running.stop(signal.SIGINT) == 0
            assert any(line.startswith(f"thoughts  {completed} completed") for line in running.output)
            assert any("total  min " in line for line in running.output), running.output[-12:]


@pytest.mark.fact("H16")
def test_without_a_model_the_last_lines_count_declared_fallbacks_as_such() -> None:
    with swarm("--quiet", settings={"LOOP_INTERVAL_MS": "100"}) as running:
        eventually_sync(lambda: run_of(running)["outcomes"].get("fallback", 0) > 3, 40, "thoughts")
        assert running.stop(signal.SIGINT) == 0
        last = eventually_sync(
            lambda: next((line for line in running.output if line.startswith("thoughts  ")), None)
        )
        assert last is not None
        assert re.match(r"thoughts  0 completed, 0 failed, [1-9]\d* fallback\b", last), last
