"""Where an event stands in the journal; the order of the public streams."""

from __future__ import annotations

from typing import TypeAlias

Place: TypeAlias = tuple[int, int]
"""A record's journal sequence and the event's index in the record, from 1."""


def format_place(place: Place) -> str:
    """Return a place as the header of a public message carries it."""
    return f"{place[0]}.{place[1]}"


def parse_place(text: str) -> Place:
    """Return the place that a header carries."""
    sequence, _, index = text.partition(".")
    return int(sequence), int(index)
