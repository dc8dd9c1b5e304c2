"""What people are told of a model endpoint: when it is given up, why, and when it is back; once each."""

from __future__ import annotations

from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, Counter, Enum

from services.thinker.backends.breaker import State, Transition
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
        """Say it where the endpoint is given up, for another kind of reason than before, or is back."""
        self._metrics.moved(details)
        because = details.because
        if because is not None and because.outcome is not self._said:
            log.warning(
                "endpoint_given_up",
                error=str(because),
                cure=because.cure,
                meanwhile="thoughts are declared fallbacks, and it is asked again now and then",
            )
        elif because is None and self._said is not None:
            log.info("endpoint_back")
        self._said = because.outcome if because is not None else None
        self._changed()
