"""Swarms whose API is tested: hostile requests never disturb anybody else's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.swarm import Swarm, swarm


@pytest.fixture(scope="module")
def target() -> Iterator[Swarm]:
    """A swarm whose loop nobody has started yet."""
    with swarm("--quiet", settings={"AUTO_START": "false", "MAX_EVENTS": "5000"}) as up:
        yield up
