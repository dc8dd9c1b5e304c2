"""Errors of the command line."""

from __future__ import annotations


class CliError(Exception):
    """What was asked cannot be done. Its text says why and, where there is one, the cure."""
