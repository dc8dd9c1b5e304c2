"""Which service exports which metric, by the names that Prometheus stores. docs/operations.md shows it."""

from __future__ import annotations

EVERY = (
    "perpetua_process_info", "perpetua_ready", "process_cpu_seconds_total", "process_resident_memory_bytes",
    "process_start_time_seconds", "perpetua_bus_faults_total", "perpetua_process_crashes_total",
    "perpetua_spans_dropped_total",
)  # fmt: skip
"""Every service exports these."""

HANDLES = ("perpetua_messages_handled_total", "perpetua_message_handling_seconds_bucket")

SERVICES = {
    "registry": (
        *EVERY, *HANDLES, "perpetua_personas", "perpetua_registry_journal_records", "perpetua_stream_answers",
        "perpetua_stream_messages", "perpetua_stream_messages_limit", "perpetua_stream_bytes",
        "perpetua_stream_oldest_age_seconds", "perpetua_work_pending", "perpetua_work_unacknowledged",
    ),
    "scheduler": (
        *EVERY, *HANDLES, "perpetua_tick_lag_seconds_bucket", "perpetua_queue_wait_seconds_bucket",
        "perpetua_ticks_skipped_total", "perpetua_thoughts_stored_total", "perpetua_thoughts_stale_total",
        "perpetua_thoughts_withdrawn_total", "perpetua_chunks_dead_total",
        "perpetua_tick_to_stored_seconds_bucket", "perpetua_shards_owned", "perpetua_thoughts_in_flight",
        "perpetua_shard_takeovers_total", "perpetua_shards_fenced_total", "perpetua_thoughts_behind_seconds",
        "perpetua_looks_total", "perpetua_budget_pauses_total", "perpetua_inbox_received_total",
        "perpetua_persona_energy_bucket", "perpetua_inbox_depth_bucket", "perpetua_personas_in_mood",
        "perpetua_personas_paused", "perpetua_spent_tokens_total", "perpetua_spent_thinking_seconds_total",
        "perpetua_thought_seconds_bucket", "perpetua_thoughts_settled_total",
        "perpetua_personas_ticked", "perpetua_personas_not_ticked",
    ),
    "thinker": (
        *EVERY, *HANDLES, "perpetua_inference_seconds_bucket", "perpetua_settle_seconds_bucket",
        "perpetua_thoughts_total", "perpetua_thought_failures_total", "perpetua_tokens_total",
        "perpetua_context_dropped_total", "perpetua_charters_trimmed_total", "perpetua_batch_rows_bucket",
        "perpetua_batch_fill_ratio_bucket", "perpetua_batch_wait_seconds_bucket",
        "perpetua_batch_inference_seconds_bucket", "perpetua_thoughts_in_hand", "perpetua_captures_total",
        "perpetua_endpoint_requests_total", "perpetua_endpoint_circuit",
        "perpetua_endpoint_circuit_opened_total", "perpetua_context_sources_total",
        "perpetua_inbox_items_taken_up_total", "perpetua_decisions_total",
        "perpetua_decisions_asked_again_total", "perpetua_thoughts_repeating_total",
        "perpetua_summaries_total",
    ),
    "compressor": (
        *EVERY, *HANDLES, "perpetua_events_published_total", "perpetua_snapshots_published_total",
        "perpetua_proposals_stored_total", "perpetua_published_journal_sequence", "perpetua_publishing",
        "perpetua_roll_ups_total", "perpetua_roll_ups_lost_total",
        "perpetua_roll_up_snapshots_left_out_total",
    ),
    "gateway": (*EVERY, "perpetua_sse_clients", "perpetua_http_connections"),
}  # fmt: skip

FAILS = "perpetua_tasks_failed_total"

ONCE_COUNTED = {
    "registry": (FAILS,),
    "scheduler": (FAILS, "perpetua_inbox_items_total", "perpetua_inbox_dropped_total"),
    "thinker": (FAILS, "perpetua_batch_faults_total"),
    "compressor": (FAILS,),
    "gateway": (FAILS, "perpetua_http_refused_total"),
}
"""Series that exist only once there was something to count: an item of an inbox that ended, or a fault."""

NAMES = {name for names in (*SERVICES.values(), *ONCE_COUNTED.values()) for name in names}
