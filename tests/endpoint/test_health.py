"""What people are told of an endpoint: once each, and nothing of a pause that thoughts wait for."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.thinker.backends.breaker import PATIENCE_S, State, Transition
from services.thinker.backends.faults import of_status
from services.thinker.endpoint_health import EndpointHealth, EndpointMetrics


class Heard:
    """A breaker's transitions, and what they bring about."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.changes = 0
        self.health = EndpointHealth(EndpointMetrics(self.registry), self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def moved(self, state: State, pause: float = 0.0) -> list[str]:
        """Return the events that are logged."""
        because = None if state is State.CLOSED else of_status(429, {}, b"no")
        with capture_logs() as logs:
            self.health.moved(Transition(state, because, pause))
        return [entry["event"] for entry in logs]

    def shown(self) -> list[str]:
        name = "perpetua_endpoint_circuit"
        return [state for state in State if self.registry.get_sample_value(name, {name: state.value})]


def test_a_long_pause_is_said_once_and_shown() -> None:
    heard = Heard()
    assert heard.moved(State.HELD, 60.0) == ["endpoint_asks_for_a_pause"]
    assert heard.shown() == [State.HELD]
    assert heard.moved(State.HELD, 61.0) == []
    assert heard.moved(State.CLOSED) == ["endpoint_back"]
    assert (heard.shown(), heard.changes) == ([State.CLOSED], 3)


def test_a_pause_that_thoughts_wait_for_is_shown_and_not_said() -> None:
    heard = Heard()
    assert heard.moved(State.HELD, PATIENCE_S) == []
    assert (heard.shown(), heard.changes) == ([State.HELD], 1)
    assert heard.moved(State.CLOSED) == []


def test_an_endpoint_that_is_given_up_after_such_a_pause_is_said() -> None:
    heard = Heard()
    heard.moved(State.HELD, 1.0)
    assert heard.moved(State.OPEN, 1.0) == ["endpoint_given_up"]
    assert heard.moved(State.HALF_OPEN) == []
    assert heard.moved(State.OPEN, 2.0) == []
    assert heard.moved(State.CLOSED) == ["endpoint_back"]
