"""Write the dashboards: `python deploy/grafana/generate.py`. With `--check`, say whether they are up to date."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT = 8, 7

Queries = list[tuple[str, str]]
"""PromQL and the legend of its series."""


def quantile(share: float, buckets: str) -> str:
    return f"histogram_quantile({share}, sum by (le) ({buckets}))"


def p95(metric: str, chosen: str = "") -> str:
    return quantile(0.95, f"rate({metric}_bucket{chosen}[1m])")


def p50(metric: str, chosen: str = "") -> str:
    return quantile(0.5, f"rate({metric}_bucket{chosen}[1m])")


def now(metric: str, *shares: float) -> Queries:
    """Quantiles of a gauge histogram."""
    return [(quantile(share, f"{metric}_bucket"), f"p{round(100 * share)}") for share in shares]


def batch_fill(chosen: str = "") -> Queries:
    filled, batches = f"perpetua_batch_fill_ratio_sum{chosen}", f"perpetua_batch_fill_ratio_count{chosen}"
    return [(f"sum(rate({filled}[1m])) / sum(rate({batches}[1m]))", "mean")]


SWARM: list[tuple[str, str, str, Queries]] = [
    ("stat", "Thoughts a second", "ops", [("sum(rate(perpetua_thoughts_stored_total[1m]))", "")]),
    (
        "stat",
        "Fallbacks",
        "percentunit",
        [
            (
                'sum(rate(perpetua_thoughts_total{source="fallback"}[1m])) / sum(rate(perpetua_thoughts_total[1m]))',
                "",
            )
        ],
    ),
    (
        "stat",
        "Ready",
        "short",
        [("sum by (service) (perpetua_ready)", "{{service}}")],
    ),
    ("stat", "Shards owned, of 64", "short", [("sum(perpetua_shards_owned)", "")]),
    ("stat", "Publishers", "short", [("sum(perpetua_publishing)", "")]),
    ("stat", "Dead letters in 24 h", "short", [("sum(increase(perpetua_chunks_dead_total[24h]))", "")]),
    (
        "timeseries",
        "Thoughts by phase",
        "ops",
        [
            (
                "sum by (event_type) (rate(perpetua_events_published_total{event_type=~"
                '"thought_generated|hypothesis_raised|check_requested|snapshot_compressed"}[1m]))',
                "{{event_type}}",
            )
        ],
    ),
    (
        "timeseries",
        "Thoughts by source",
        "ops",
        [("sum by (source) (rate(perpetua_thoughts_total[1m]))", "{{source}}")],
    ),
    (
        "timeseries",
        "Tick lag",
        "s",
        [(p50("perpetua_tick_lag_seconds"), "p50"), (p95("perpetua_tick_lag_seconds"), "p95")],
    ),
    (
        "timeseries",
        "Queue wait",
        "s",
        [(p50("perpetua_queue_wait_seconds"), "p50"), (p95("perpetua_queue_wait_seconds"), "p95")],
    ),
    (
        "timeseries",
        "Inference",
        "s",
        [(p50("perpetua_inference_seconds"), "p50"), (p95("perpetua_inference_seconds"), "p95")],
    ),
    (
        "timeseries",
        "Tick to journal",
        "s",
        [(p50("perpetua_tick_to_stored_seconds"), "p50"), (p95("perpetua_tick_to_stored_seconds"), "p95")],
    ),
    ("timeseries", "Batch fill", "percentunit", batch_fill()),
    (
        "timeseries",
        "Tokens a second",
        "short",
        [("sum by (kind) (rate(perpetua_tokens_total[1m]))", "{{kind}}")],
    ),
    (
        "timeseries",
        "Tokens a minute by swarm and role",
        "short",
        [
            (
                "60 * topk(12, sum by (swarm, role) (rate(perpetua_spent_tokens_total[5m])))",
                "{{swarm}} {{role}}",
            )
        ],
    ),
    (
        "timeseries",
        "Credits",
        "short",
        [
            ("sum(perpetua_personas_paused)", "personas out of credits"),
            ("60 * sum(rate(perpetua_budget_pauses_total[5m]))", "pauses a minute"),
        ],
    ),
    ("timeseries", "Energy", "percentunit", now("perpetua_persona_energy", 0.05, 0.5)),
    ("timeseries", "Moods", "short", [("sum by (mood) (perpetua_personas_in_mood)", "{{mood}}")]),
    (
        "timeseries",
        "Messages",
        "ops",
        [
            ("sum(rate(perpetua_inbox_received_total[1m]))", "received"),
            ("sum by (outcome) (rate(perpetua_inbox_items_total[1m]))", "{{outcome}}"),
            ("sum(rate(perpetua_inbox_dropped_total[1m])) or vector(0)", "dropped"),
        ],
    ),
    ("timeseries", "Waiting in an inbox", "short", now("perpetua_inbox_depth", 0.5, 0.99)),
    (
        "timeseries",
        "Personas by status",
        "short",
        [
            ("max by (status) (perpetua_personas)", "{{status}}"),
            ("sum by (reason) (perpetua_personas_not_ticked)", "not ticked: {{reason}}"),
        ],
    ),
    (
        "timeseries",
        "Work",
        "short",
        [
            ("max(perpetua_work_pending)", "chunks waiting"),
            ("max(perpetua_work_unacknowledged)", "chunks in hand"),
            ("sum(perpetua_thoughts_in_flight)", "thoughts under way"),
        ],
    ),
    ("timeseries", "Skipped ticks", "ops", [("sum(rate(perpetua_ticks_skipped_total[1m]))", "skipped")]),
    (
        "timeseries",
        "Streams: messages",
        "short",
        [("max by (stream) (perpetua_stream_messages)", "{{stream}}")],
    ),
    ("timeseries", "Streams: bytes", "bytes", [("max by (stream) (perpetua_stream_bytes)", "{{stream}}")]),
    (
        "timeseries",
        "Event stream: how far back it reaches",
        "s",
        [('max(perpetua_stream_oldest_age_seconds{stream="EVENTS"})', "oldest event")],
    ),
    ("timeseries", "Followers by SSE", "short", [("sum(perpetua_sse_clients)", "clients")]),
    (
        "timeseries",
        "Memory by process",
        "bytes",
        [("process_resident_memory_bytes", "{{service}} {{instance}}")],
    ),
    (
        "timeseries",
        "Processor time",
        "short",
        [("rate(process_cpu_seconds_total[1m])", "{{service}} {{instance}}")],
    ),
]

ONE = '{instance=~"$instance"}'
THINKER: list[tuple[str, str, str, Queries]] = [
    ("stat", "Ready", "short", [(f"perpetua_ready{ONE}", "{{instance}}")]),
    ("stat", "Thoughts in hand", "short", [(f"sum(perpetua_thoughts_in_hand{ONE})", "")]),
    (
        "stat",
        "Endpoint's circuit",
        "short",
        [(f"perpetua_endpoint_circuit{ONE} == 1", "{{perpetua_endpoint_circuit}}")],
    ),
    (
        "timeseries",
        "Thoughts",
        "ops",
        [(f"sum by (source) (rate(perpetua_thoughts_total{ONE}[1m]))", "{{source}}")],
    ),
    (
        "timeseries",
        "Inference",
        "s",
        [(p50("perpetua_inference_seconds", ONE), "p50"), (p95("perpetua_inference_seconds", ONE), "p95")],
    ),
    (
        "timeseries",
        "Answer to journal",
        "s",
        [(p50("perpetua_settle_seconds", ONE), "p50"), (p95("perpetua_settle_seconds", ONE), "p95")],
    ),
    (
        "timeseries",
        "Tokens a second",
        "short",
        [(f"sum by (kind) (rate(perpetua_tokens_total{ONE}[1m]))", "{{kind}}")],
    ),
    (
        "timeseries",
        "Batch fill",
        "percentunit",
        batch_fill(ONE),
    ),
    (
        "timeseries",
        "Batches",
        "s",
        [
            (p95("perpetua_batch_wait_seconds", ONE), "wait p95"),
            (p95("perpetua_batch_inference_seconds", ONE), "in the model p95"),
        ],
    ),
    (
        "timeseries",
        "Endpoint requests",
        "ops",
        [(f"sum by (outcome) (rate(perpetua_endpoint_requests_total{ONE}[1m]))", "{{outcome}}")],
    ),
    (
        "timeseries",
        "Left out of prompts",
        "ops",
        [
            (f"sum(rate(perpetua_context_dropped_total{ONE}[1m]))", "events"),
            (f"sum(rate(perpetua_charters_trimmed_total{ONE}[1m]))", "charters"),
        ],
    ),
    (
        "timeseries",
        "Captures",
        "ops",
        [(f"sum by (outcome) (rate(perpetua_captures_total{ONE}[1m]))", "{{outcome}}")],
    ),
]


def dashboard(
    uid: str, title: str, panels: list[tuple[str, str, str, Queries]], *, one: bool
) -> dict[str, Any]:
    variable = {
        "name": "instance", "label": "Thinker", "type": "query", "datasource": SOURCE, "refresh": 2,
        "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
        "query": {"query": "label_values(perpetua_thoughts_in_hand, instance)", "refId": "instance"},
    }  # fmt: skip
    return {
        "uid": uid,
        "title": title,
        "tags": ["perpetua"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [variable] if one else []},
        "panels": list(_laid_out(panels)),
    }


def _laid_out(panels: list[tuple[str, str, str, Queries]]) -> Any:
    """Stats in one row of small panels, the rest three a row."""
    stats = [panel for panel in panels if panel[0] == "stat"]
    wide = 24 // len(stats)
    for number, panel in enumerate(stats):
        yield _panel(number + 1, panel, {"x": number * wide, "y": 0, "w": wide, "h": 4})
    for number, panel in enumerate(panel for panel in panels if panel[0] != "stat"):
        place = {"x": number % 3 * WIDTH, "y": 4 + number // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT}
        yield _panel(len(stats) + number + 1, panel, place)


def _panel(number: int, panel: tuple[str, str, str, Queries], place: dict[str, int]) -> dict[str, Any]:
    kind, title, unit, queries = panel
    return {
        "id": number,
        "type": kind,
        "title": title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + n), "expr": expr, "legendFormat": legend, "datasource": SOURCE}
            for n, (expr, legend) in enumerate(queries)
        ],
    }


def main() -> int:
    made = {
        "swarm.json": dashboard("perpetua-swarm", "Perpetua: the swarm", SWARM, one=False),
        "thinker.json": dashboard("perpetua-thinker", "Perpetua: a thinker", THINKER, one=True),
    }
    texts = {name: json.dumps(board, indent=1) + "\n" for name, board in made.items()}
    stale = [name for name, text in texts.items() if (FOLDER / name).read_text() != text]
    if "--check" in sys.argv:
        return len(stale)
    for name, text in texts.items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
