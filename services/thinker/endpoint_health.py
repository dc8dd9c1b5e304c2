"""What people are told of a model endpoint: when it is given up, why, and when it is back; once each."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, Counter, Enum

from services.thinker.backends.breaker import PATIENCE_S, State, Transition
from services.thinker.backends.faults import Outcome
from services.thinker.backends.watching import Requested

log = structlog.get_logger("endpoint")


class EndpointMetrics:
    """Metrics of asking an endpoint."""

    def __init__(self, registry: CollectorRegistry) -> None:
        requests = Counter(
            "perpetua_endpoint_requests_total",
            "Requests to the model endpoint, by outcome; `not_asked` are thoughts for which none was made.",
            ["outcome"],
            registry=registry,
        )
        self._requests = {outcome: requests.labels(outcome.value) for outcome in Outcome}
        self._breaker = Enum(
            "perpetua_endpoint_circuit",
            "State of the circuit breaker before the model endpoint.",
            states=[state.value for state in State],
            registry=registry,
        )
        self._opened = Counter(
            "perpetua_endpoint_circuit_opened_total",
            "How often the circuit was opened, failed probes included.",
            registry=registry,
        )

    def requested(self, details: Requested) -> None:
        """Count a request."""
        self._requests[details.outcome].inc()

    def moved(self, details: Transition) -> None:
        """Show a transition of the circuit breaker."""
        self._breaker.state(details.state.value)
        if details.state is State.OPEN and details.pause:
            self._opened.inc()


class EndpointHealth:
    """Feeds the metrics, and says what changes: a failed probe changes nothing."""

    def __init__(self, metrics: EndpointMetrics, changed: Callable[[], None]) -> None:
        self._metrics = metrics
        self._changed = changed
        self._said: Outcome | None = None
        """The kind of failure that was said last; none while requests are made."""

    def requested(self, details: Requested) -> None:
        """Count a request."""
        self._metrics.requested(details)

    def moved(self, details: Transition) -> None:
        """Say it where the endpoint is left alone, for another kind of reason than before, or is back.

        A hold that thoughts wait for is only shown.
        """
        self._metrics.moved(details)
        self._changed()
        because, is_held = details.because, details.state is State.HELD
        if because is None:
            if self._said is not None:
                log.info("endpoint_back")
            self._said = None
        elif because.outcome is not self._said and not (is_held and details.pause <= PATIENCE_S):
            log.warning(
                "endpoint_asks_for_a_pause" if is_held else "endpoint_given_up",
                error=str(because),
                cure=because.cure,
                seconds=round(details.pause),
                meanwhile="thoughts are declared fallbacks, and it is asked again afterwards",
            )
            self._said = because.outcome
