"""Prompts [3.12]. The system prompt is one for all personas; the rest goes from what changes least to most.

So a backend may compute the system prompt once, and a server that caches prefixes reuses the most of a
persona's last prompt.
"""

from __future__ import annotations

from msgspec import Struct

from libs.cognition.phases import phase_of
from libs.contracts.thoughts import Phase
from libs.contracts.work import ContextLine, WorkItem

SYSTEM = (
    "You are the inner voice of one persona in a swarm of personas that think all the time and act on "
    "nothing. Each turn you are told who the persona is, what it has lately thought, and which phase of "
    "thinking it is in. Write the persona's next thought: short, concrete, honest about what is not known, "
    "and different from what it thought before. Write plain text without any markup."
)

INSTRUCTIONS = {
    Phase.OBSERVE: "Say what you observe: one to three concrete signals, and one thing that is uncertain.",
    Phase.REFLECT: "Reflect on what was observed: one hypothesis, its rationale, and a note on its risk.",
    Phase.TEST: (
        "Design one check of the hypothesis and evaluate it: what result you expect, and how good the "
        "evidence is."
    ),
    Phase.COMPRESS: "Compress what was thought lately: a short summary of the state, and facts to retain.",
}

NO_CONTEXT = "none"


class Prompt(Struct, frozen=True):
    """What a backend is asked."""

    system: str
    user: str


def build(item: WorkItem) -> Prompt:
    """Return the prompt of a thought."""
    phase = phase_of(item.thought_count)
    user = "\n".join(
        [
            f"id: {item.persona_id}",
            f"name: {item.name}",
            f"role: {item.role}",
            f"charter: {item.charter}",
            "recent context, oldest first:",
            "\n".join(context_text(line) for line in item.context) or NO_CONTEXT,
            f"phase: {phase}",
            f"thought_count: {item.thought_count}",
            INSTRUCTIONS[phase],
        ]
    )
    return Prompt(SYSTEM, user)


def context_text(line: ContextLine) -> str:
    """Return an event as a line of a prompt."""
    return f"{line.event_type} {line.timestamp} {line.excerpt}"
