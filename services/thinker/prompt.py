"""Prompts [3.12]. The system prompt is one for all personas; the rest goes from what changes least to most.

So a backend may compute the system prompt once, and a server that caches prefixes reuses the most of a
persona's last prompt.
"""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec import Struct

from libs.cognition.decision import INSTRUCTION, WILL_RESPOND
from libs.cognition.phases import phase_of
from libs.contracts.thoughts import Phase
from libs.contracts.work import ContextLine, TakenItem, WorkItem

_encode = msgspec.json.Encoder().encode

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

DECISION_START = f'{{"{WILL_RESPOND}":'
"""How every decision begins: where a model can be made to go on from it, it need not find its form."""

SHARED_HEAD = "what the swarm remembers, oldest first:"
_MESSAGES = "messages to the persona, best first:"


class Prompt(Struct, frozen=True):
    """What a backend is asked."""

    system: str
    user: str
    prefill: str = ""
    """What the answer begins with, where the backend's model can be had to go on from there."""


def build(item: WorkItem, wrong: str | None = None) -> Prompt:
    """Return the prompt of a thought: with messages a decision is asked for, and the phase is background.

    `wrong` is what was wrong with the last answer to it.
    """
    phase = phase_of(item.thought_count)
    lines = [
        f"id: {item.persona_id}",
        f"name: {item.name}",
        f"role: {item.role}",
        f"charter: {item.charter}",
        *([SHARED_HEAD, *map(context_text, item.shared)] if item.shared else ()),
        "recent context, oldest first:",
        "\n".join(map(context_text, item.context)) or NO_CONTEXT,
        f"phase: {phase}",
        f"thought_count: {item.thought_count}",
    ]
    if not item.inbox:
        return Prompt(SYSTEM, "\n".join([*lines, INSTRUCTIONS[phase]]))
    messages = [message_text(number, one) for number, one in enumerate(item.inbox, start=1)]
    user = "\n".join([*lines, _background(phase), _MESSAGES, *messages, _decide(wrong)])
    return Prompt(SYSTEM, user, DECISION_START)


def asking(phase: Phase, wrong: str | None) -> str:
    """Return what a prompt with messages has that one without lacks, but for the messages."""
    return "\n".join([_background(phase), _MESSAGES, _decide(wrong)])


def context_text(line: ContextLine) -> str:
    """Return an event as a line of a prompt."""
    return f"{line.event_type} {line.timestamp} {line.excerpt}"


def message_text(number: int, one: TakenItem) -> str:
    """Return a message as a prompt tells it. Whatever others wrote stands on one line, between quotes."""
    source = f" from {_quoted(one.source_id)}" if one.source_id else ""
    told = f"{number}. {_quoted(one.domain)}{source} at {_quoted(one.timestamp)}: {_quoted(one.content)}"
    if one.post_id is None:
        return told
    answers = f" Answers so far: {', '.join(map(_quoted, one.answers))}." if one.answers else ""
    may = "It may still be answered." if one.may_answer else "It is left to others to answer."
    return f"{told} It went to the whole swarm.{answers} {may}"


def _background(phase: Phase) -> str:
    return f"That phase, in the background: {INSTRUCTIONS[phase]}"


def _decide(wrong: str | None) -> str:
    again = f" Your last answer was not taken ({wrong})." if wrong is not None else ""
    return f"Decide whether the persona responds to the messages. {INSTRUCTION}{again}"


def _quoted(value: str | datetime) -> str:
    return _encode(value).decode()
