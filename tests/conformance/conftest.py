"""Swarms that several facts are tested on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.endpoint import Endpoint, endpoint
from tests.support.swarm import Swarm, swarm


@pytest.fixture(scope="package")
def quiet() -> Iterator[Swarm]:
    """A swarm whose loop nobody has started; for facts about personas."""
    with swarm(settings={"AUTO_START": "false", "MAX_EVENTS": "5000"}) as running:
        yield running


@pytest.fixture
def lone() -> Iterator[Swarm]:
    """A fresh swarm with its seed persona, thinking every 100 ms."""
    with swarm(settings={"LOOP_INTERVAL_MS": "100", "MAX_EVENTS": "20000"}) as running:
        yield running


@pytest.fixture
def model() -> Iterator[Endpoint]:
    """A stand-in for a model server."""
    with endpoint() as running:
        yield running
