"""A server at the default address [1.1]: every swarm of this machine would find it, so this runs alone."""

from __future__ import annotations

import pytest

from tests.conformance.test_thoughts import first_thoughts
from tests.support.endpoint import endpoint
from tests.support.swarm import swarm


@pytest.mark.fact("1.1")
def test_a_server_at_the_default_address_is_used_and_said() -> None:
    with endpoint(port=11434), swarm(settings={"LOOP_INTERVAL_MS": "100"}) as running:
        assert first_thoughts(running, 1)[0]["payload"]["source"] == "model"
        assert "it answers at the default address" in running.until_output("thinks")
        thinker = next(row for row in running.ps() if row["service"] == "thinker")
        assert "qwen2.5:3b-instruct" in thinker["summary"]["thinks_with"]
