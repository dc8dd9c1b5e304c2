"""Why a process cannot start."""

from __future__ import annotations


class ConfigurationError(Exception):
    """The service cannot start as it is configured. Its text is the one line that people see [H2]."""
