"""The numbered facts of the specification, and where each lives in the code.

`just conformance` prints how many of them hold; docs/facts.md shows this table.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """What a number says, and the files that make it so."""

    title: str
    files: tuple[str, ...]


FACTS: dict[str, Fact] = {
    "1.1": Fact(
        "Settings: names, defaults, floors, aliases",
        ("libs/settings/cognition.py",),
    ),
    "1.2": Fact(
        "An invalid value stops the process with one line",
        ("libs/settings/reader.py",),
    ),
    "2.1": Fact(
        "Policy; a partial one is completed",
        ("libs/contracts/personas.py",),
    ),
    "2.2": Fact(
        "Identity and runtime state",
        (
            "libs/contracts/personas.py",
            "services/gateway/peers.py",
        ),
    ),
    "2.3": Fact(
        "Swarm, depth and policy are inherited",
        ("services/registry/rules.py",),
    ),
    "2.4": Fact(
        "Refusals, their order and their texts",
        (
            "services/registry/rules.py",
            "libs/contracts/refusals.py",
        ),
    ),
    "2.5": Fact(
        "A child's depth limit is clamped to its parent's",
        ("services/registry/rules.py",),
    ),
    "2.6": Fact(
        "Lengths, characters, encoding of odd ids",
        (
            "libs/contracts/limits.py",
            "libs/contracts/tokens.py",
        ),
    ),
    "2.7": Fact(
        "Creating emits persona_spawned",
        ("services/registry/rules.py",),
    ),
    "2.8": Fact(
        "Reap, cascade, order, counting",
        (
            "services/registry/rules.py",
            "services/registry/reaping.py",
        ),
    ),
    "2.9": Fact(
        "No thought after persona_reaped",
        (
            "services/registry/reaping.py",
            "services/scheduler/ledger.py",
        ),
    ),
    "2.10": Fact(
        "Lineage",
        (
            "services/gateway/lineage.py",
            "services/registry/queries.py",
        ),
    ),
    "3.1": Fact(
        "Thought counts and phases",
        ("libs/cognition/phases.py",),
    ),
    "3.2": Fact(
        "Side by side, one in flight, ticks are skipped",
        (
            "services/scheduler/ticker.py",
            "services/scheduler/dispatches.py",
        ),
    ),
    "3.3": Fact(
        "1, 2, 3, … without gap or repeat, whatever is killed",
        (
            "libs/journal/tail.py",
            "services/scheduler/owner.py",
        ),
    ),
    "3.4": Fact(
        "First tick at once, no burst, ticks without personas",
        (
            "services/scheduler/agenda.py",
            "services/scheduler/ticker.py",
        ),
    ),
    "3.5": Fact(
        "Context: the newest 8, in stream order, frozen",
        (
            "libs/cognition/context.py",
            "services/scheduler/history.py",
        ),
    ),
    "3.6": Fact(
        "Thought payload",
        (
            "libs/contracts/thoughts.py",
            "libs/cognition/compose.py",
        ),
    ),
    "3.7": Fact(
        "check_result of the test phase",
        ("libs/cognition/compose.py",),
    ),
    "3.8": Fact(
        "Proposals",
        (
            "libs/cognition/compose.py",
            "services/compressor/folding.py",
        ),
    ),
    "3.9": Fact(
        "Memory snapshots",
        ("services/compressor/folding.py",),
    ),
    "3.10": Fact(
        "Trimming",
        ("libs/cognition/text.py",),
    ),
    "3.11": Fact(
        "The declared fallback",
        (
            "libs/cognition/compose.py",
            "services/thinker/backends/fallback.py",
        ),
    ),
    "3.12": Fact(
        "Prompts",
        ("services/thinker/prompt.py",),
    ),
    "3.13": Fact(
        "The endpoint is asked again once",
        ("services/thinker/backends/openai_compat.py",),
    ),
    "3.14": Fact(
        "Events, their types, and types of our own",
        (
            "libs/contracts/thoughts.py",
            "services/gateway/feed.py",
        ),
    ),
    "3.15": Fact(
        "All events of a thought come from one answer",
        (
            "libs/contracts/journal.py",
            "services/compressor/folding.py",
        ),
    ),
    "4.1": Fact(
        "Start",
        (
            "services/registry/running.py",
            "services/registry/rules.py",
        ),
    ),
    "4.2": Fact(
        "Stop",
        (
            "services/registry/running.py",
            "services/scheduler/halting.py",
        ),
    ),
    "4.3": Fact(
        "Status",
        ("services/gateway/peers.py",),
    ),
    "5.1": Fact(
        "The nine endpoints",
        ("services/gateway/routes/",),
    ),
    "5.2": Fact(
        "Errors",
        (
            "services/gateway/problems.py",
            "services/gateway/routes/common.py",
        ),
    ),
    "5.3": Fact(
        "The event stream",
        (
            "services/gateway/feed.py",
            "services/gateway/sse.py",
        ),
    ),
    "5.4": Fact(
        "Timestamps and event ids",
        ("libs/cognition/compose.py",),
    ),
    "A1": Fact(
        "Inbox items and what may be sent",
        ("libs/contracts/inbox.py", "services/gateway/sending.py", "services/gateway/senders.py"),
    ),
    "A2": Fact(
        "At most 1000 items, the worst gives way, nothing accepted is lost", ("services/scheduler/inbox.py",)
    ),
    "A3": Fact(
        "Priority of an item by what concerns its persona",
        ("services/scheduler/priority.py", "services/scheduler/mail.py"),
    ),
    "A4": Fact(
        "Waiting raises an item's priority, and 30 s of it do in every mood; nothing starves",
        ("services/scheduler/inbox.py",),
    ),
    "A5": Fact(
        "A thought takes up ten items; failing ones are retried, then set aside; so many answer a post",
        (
            "services/scheduler/inbox.py",
            "services/gateway/sending.py",
            "libs/cognition/handling.py",
            "services/scheduler/places.py",
            "services/scheduler/offers.py",
        ),
    ),
    "A6": Fact("Energy, attention, responses, compute budget", ("services/scheduler/inner_state.py",)),
    "A7": Fact("Work costs energy, rest gives it back once", ("services/scheduler/inner_state.py",)),
    "A8": Fact("Mood is computed where it is used", ("services/scheduler/inner_state.py",)),
    "A9": Fact("Which items a persona engages with now", ("services/scheduler/inner_state.py",)),
    "A10": Fact(
        "The wait until the next look", ("services/scheduler/cadence.py", "services/scheduler/rhythm.py")
    ),
    "A11": Fact(
        "Who has nothing new rests, at no cost",
        ("services/scheduler/cadence.py", "services/scheduler/rhythm.py"),
    ),
    "A12": Fact(
        "Urgent items wake their persona at once",
        ("services/scheduler/ready.py", "services/scheduler/inbox.py"),
    ),
    "A13": Fact("Under load everybody's cadence slows", ("services/scheduler/cadence.py",)),
    "A14": Fact("Nobody has a second turn before another's first", ("services/scheduler/ready.py",)),
    "A15": Fact(
        "Personas that wait for others; a cycle is refused",
        ("services/registry/dependencies.py", "services/scheduler/waits.py"),
    ),
    "A16": Fact(
        "Credits are reserved before a thought and settled after it",
        (
            "services/scheduler/accounts.py",
            "services/scheduler/account.py",
            "services/scheduler/rolling_up.py",
            "libs/contracts/accounts.py",
        ),
    ),
    "A17": Fact(
        "Who makes no progress for its whole idle time is reaped",
        ("services/scheduler/idling.py", "services/scheduler/running.py"),
    ),
    "A18": Fact(
        "Shared memory, rolled up",
        ("services/compressor/rollups.py", "services/thinker/summaries.py", "services/scheduler/memory.py"),
    ),
    "A19": Fact(
        "Novelty of a thought, and from where it repeats",
        ("libs/cognition/novelty.py", "libs/cognition/compose.py"),
    ),
    "H1": Fact(
        "Load, warm up, bind, then ready; each in one place",
        ("services/thinker/service.py", "services/thinker/backends/ct2.py"),
    ),
    "H2": Fact(
        "A named backend that cannot think stops the process with one line, for good",
        ("services/thinker/backends/ct2.py", "libs/supervisor/child.py", "libs/runtime/process.py"),
    ),
    "H3": Fact(
        "Each process says what it hosts and what it could not, over the bus, /readyz and ps",
        ("libs/contracts/presence.py", "libs/runtime/process.py", "libs/cli/ps.py"),
    ),
    "H4": Fact(
        "Whoever is active is ticked, or the status and the metrics say why not",
        ("services/gateway/peers.py", "services/scheduler/census.py"),
    ),
    "H5": Fact(
        "A start that fails half way takes back what it made, no more, and says how much",
        ("libs/bus/provision.py", "libs/supervisor/up.py"),
    ),
    "H6": Fact(
        "Roles and identities are durable together, under the persona's id",
        ("libs/contracts/registry.py", "services/registry/buckets.py", "libs/roster/load.py"),
    ),
    "H7": Fact(
        "Every task has an owner that sees its end; a crash is logged, counted, told, and ends the owner",
        ("libs/concurrency/tasks.py", "libs/runtime/crashes.py", "libs/bus/connection.py"),
    ),
    "H8": Fact(
        "SIGTERM and Ctrl-C drain and end with 0; twice is once; `up` asked again after 0.5 s ends at once",
        ("libs/runtime/process.py", "libs/supervisor/ending.py"),
    ),
    "H9": Fact(
        "Who is there, since when, and what it last did",
        ("libs/bus/presence.py", "libs/cli/ps.py", "services/gateway/static/js/processes.js"),
    ),
    "H10": Fact(
        "What keeps failing is tried more and more seldom, up to a cap; nothing loops hot",
        ("libs/concurrency/waiting.py", "libs/supervisor/child.py", "services/thinker/backends/breaker.py"),
    ),
    "H11": Fact("Shares of a model's window", ("services/thinker/budget.py",)),
    "H12": Fact(
        "Context is packed newest first, whole, and what is left out counted", ("services/thinker/budget.py",)
    ),
    "H13": Fact(
        "Each source of a prompt has a floor; the rest they share",
        ("services/thinker/allocation.py", "services/thinker/budget.py"),
    ),
    "H14": Fact(
        "The model's own template, inside the backend alone",
        ("services/thinker/backends/chat.py",),
    ),
    "H15": Fact(
        "One call decides and writes; no default for what is missing",
        ("libs/cognition/decision.py", "libs/cognition/handling.py", "services/thinker/thinking.py"),
    ),
    "H16": Fact(
        "Each stage of a thought is measured; completed, skipped, failed and fallback are counted apart",
        ("services/scheduler/metrics.py", "services/thinker/metrics.py", "libs/supervisor/stats.py"),
    ),
    "H17": Fact(
        "What the system adds to a thought is measured and published",
        ("bench/latency.py", "docs/benchmarks.md"),
    ),
    "H18": Fact(
        "A thought is captured and replayed with something changed",
        ("services/thinker/capture.py", "services/thinker/replay.py", "libs/cli/replay.py"),
    ),
}
