"""Reading the metrics of a process that is measured."""

from __future__ import annotations

from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families


def metric(port: int, name: str, **labels: str) -> float:
    """Return a metric's value, summed over the labels that are not named."""
    return sum(value for its, value in _samples(port, name) if labels.items() <= its.items())


def histogram(port: int, name: str) -> dict[float, float]:
    """Return a histogram's cumulative counts by bound."""
    return {float(labels["le"]): value for labels, value in _samples(port, f"{name}_bucket")}


def quantile(cumulative: dict[float, float], share: float) -> float | None:
    """Return the bound of a histogram below which at least this share lies; None where it counted nothing."""
    total = cumulative.get(float("inf"), 0.0)
    return next((b for b, value in sorted(cumulative.items()) if total and value >= share * total), None)


def _samples(port: int, name: str) -> list[tuple[dict[str, str], float]]:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    return [(s.labels, s.value) for family in families for s in family.samples if s.name == name]
