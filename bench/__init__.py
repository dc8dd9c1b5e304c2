"""Measurements; docs/benchmarks.md keeps their figures."""
