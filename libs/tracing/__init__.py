"""Traces: what a process does for one request or thought, exported by OpenTelemetry where that is set."""
