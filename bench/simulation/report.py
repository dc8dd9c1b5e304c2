"""The table of a simulated day."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bench.simulation.day import is_night
from bench.simulation.world import World


def figures(world: World) -> dict[str, Any]:
    """Return what the day came to. Nothing but `took s` depends on the machine."""
    record, options, minutes = world.record, world.options, world.record.minutes
    moods: Counter[str] = Counter()
    for minute in minutes:
        moods.update(minute.mood)
    seen = max(sum(moods.values()), 1)
    ends = Counter(record.ends.values())
    night = sum(tokens for at, _, tokens in record.tokens_at if is_night(at, options))
    return {
        "personas": options.personas,
        "hours": options.hours,
        "seed": options.seed,
        "sent": record.sent,
        "handled": ends["handled"],
        "set aside": ends["set aside"],
        "dropped": ends["dropped"],
        "still held": len(world.held()),
        "ended twice": len(record.twice),
        "thoughts": sum(minute.thoughts for minute in minutes),
        "fallbacks": sum(minute.fallbacks for minute in minutes),
        "tokens": sum(record.by_persona.values()),
        "tokens at night": night,
        "busy, share of the thinker": round(world.thinkers.busy_s / options.slots / options.seconds, 3),
        "resting, share of time": round(sum(m.resting for m in minutes) / seen, 4),
        "paused, share of time": round(sum(m.paused for m in minutes) / seen, 4),
        "locked out at the end": world.locked_out(),
        "reaped": len(world.registry.reaped),
        "moods, share of time": {mood: round(count / seen, 4) for mood, count in sorted(moods.items())},
        "least energy": round(min((m.energy[0] for m in minutes if m.energy), default=1.0), 3),
        "highest load": round(max(minute.load for minute in minutes), 2),
        "waits s": record.wait_table(),
        "overspent": record.credits.overspent(world.limits(), world.childless()),
        "took s": round(world.took_s, 1),
    }


def table(found: dict[str, Any]) -> str:
    """Return figures as lines."""
    lines = [f"{key:28} {value:>12}" for key, value in found.items() if not isinstance(value, dict)]
    moods = "  ".join(f"{mood} {share:.2%}" for mood, share in found["moods, share of time"].items())
    lines.append(f"{'moods, share of time':28} {moods}")
    for kind, waits in found["waits s"].items():
        shown = "  ".join(f"{key} {value:g}" for key, value in waits.items())
        lines.append(f"{f'waits s, {kind}':28} {shown}")
    return "\n".join(lines)
