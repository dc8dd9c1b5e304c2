"""A thinker's middle part with a real backend and, as a rule, no broker: items in, thoughts out."""

from __future__ import annotations

from typing import Any, cast

from prometheus_client import CollectorRegistry

from services.thinker.backends.base import Backend
from services.thinker.capture import CaptureMetrics, Captures
from services.thinker.metrics import ThinkerMetrics
from services.thinker.results import Owners
from services.thinker.thinking import Thinking
from tests.thinker.models import thinker_settings


class Reading:
    """Thinks with a backend, and what it counts meanwhile; settles with nobody unless owners are given."""

    def __init__(self, backend: Backend, owners: Owners | None = None) -> None:
        self.registry = CollectorRegistry()
        nowhere = cast("Any", None)
        metrics = ThinkerMetrics(self.registry, lambda: 0)
        captures = Captures(nowhere, "off", "t", thinker_settings(), CaptureMetrics(self.registry))
        owners = owners or Owners(nowhere, "t")
        self.thinking = Thinking(owners, lambda: backend, metrics, lambda _: None, captures)

    def counted(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0
