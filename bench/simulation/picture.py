"""Four panels of a simulated day: energy, moods, tokens a minute, waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

from bench.simulation.day import outage, storm
from bench.simulation.record import CLASSES
from bench.simulation.world import World
from bench.swarms import percentile
from services.scheduler.inner_state import Mood

_EVERY = 5
"""Minutes that a point of the panel of waits stands for."""


def draw(world: World, file: Path) -> None:
    """Draw the day into a file whose ending says its format."""
    figure, panels = pyplot.subplots(4, 1, figsize=(11, 12), sharex=True, constrained_layout=True)
    hours = [(index + 1) / 60 for index in range(len(world.record.minutes))]
    for panel, paint in zip(panels, (_energy, _moods, _tokens, _waits), strict=True):
        paint(panel, world, hours)
        for name, (begin, end) in (("storm", storm(world.options)), ("outage", outage(world.options))):
            panel.axvspan(begin / 3600, end / 3600, color="red" if name == "storm" else "gray", alpha=0.15)
        panel.legend(loc="upper left", fontsize=8)
    panels[-1].set_xlabel("hour; red: a storm at twice the capacity, gray: the endpoint is away")
    figure.savefig(file, dpi=80, metadata={"Software": None} if file.suffix == ".png" else None)
    pyplot.close(figure)


def _energy(panel: Any, world: World, hours: list[float]) -> None:
    for index, name in enumerate(("least", "5 of 100", "25 of 100", "median")):
        values = [minute.energy[index] if minute.energy else 1.0 for minute in world.record.minutes]
        panel.plot(hours, values, label=name, linewidth=0.8)
    panel.set_ylabel("energy, once a minute")
    panel.set_ylim(0, 1.05)


def _moods(panel: Any, world: World, hours: list[float]) -> None:
    moods = [Mood.OVERWHELMED, Mood.TIRED, Mood.ACTIVE]
    rows = [[minute.mood[mood] for minute in world.record.minutes] for mood in moods]
    panel.stackplot(hours, *rows, labels=[str(mood) for mood in moods])
    panel.set_ylabel("personas by mood (the others are idle)")


def _tokens(panel: Any, world: World, hours: list[float]) -> None:
    panel.plot(hours, [minute.tokens for minute in world.record.minutes], label="tokens", linewidth=0.8)
    panel.set_ylabel("tokens in a minute")


def _waits(panel: Any, world: World, hours: list[float]) -> None:
    minutes = world.record.minutes
    for kind in CLASSES:
        points = []
        for begin in range(0, len(minutes), _EVERY):
            some = [wait for minute in minutes[begin : begin + _EVERY] for wait in minute.waits[kind]]
            if some:
                points.append((hours[begin], max(percentile(some, 0.95), 0.1)))
        panel.plot(*zip(*points, strict=True) if points else ([], []), ".-", label=kind, linewidth=0.6)
    panel.set_yscale("log")
    panel.set_ylabel("wait until handled, p95, s")
