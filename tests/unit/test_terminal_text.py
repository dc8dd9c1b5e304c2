"""What personas say is data: no control character of theirs reaches a terminal."""

from __future__ import annotations

import json
import sys
import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.cli.output import print_table
from libs.contracts.thoughts import EventType, OwnEventType, RollUpPayload, Source, ThoughtEvent
from libs.runtime.plain import plain
from libs.supervisor import text
from tests.unit.make import NOW

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x08\u202e\u2066\ufeff\u2028\ud800\ue000"
ANY = st.text(st.characters()) | st.just(HOSTILE)


def event(kind: str = "thought_generated", persona_id: str | None = "p", **payload: Any) -> ThoughtEvent:
    return ThoughtEvent(
        id="e", event_type=kind, persona_id=persona_id, swarm_id=None, timestamp=NOW, payload=payload
    )


def is_safe(line: str) -> bool:
    """One line, nothing that moves a cursor, changes a color or reorders text."""
    return not any(unicodedata.category(c) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp") for c in line)


@given(ANY)
@example(HOSTILE)
def test_plain_text_is_safe_and_as_long_as_before(said: str) -> None:
    assert is_safe(plain(said))
    assert len(plain(said)) == len(said)


def test_plain_text_keeps_what_people_read() -> None:
    assert plain("Größe, 日本, 😀, a\tb\nc") == "Größe, 日本, 😀, a b c"
    assert plain("\x1b[31mred") == "·[31mred"


@given(ANY, st.integers(0, 60))
def test_brief_text_is_safe_and_within_its_width(said: str, width: int) -> None:
    line = text.brief(said, width)
    assert is_safe(line)
    assert len(line) <= max(width, 1)
    assert line == plain(said) or line.endswith("…")


@given(st.sampled_from([*EventType, *OwnEventType]) | ANY, st.none() | ANY, ANY)
@example("unheard_of\x1b[2J", HOSTILE, HOSTILE)
def test_no_event_brings_a_control_character_to_the_terminal(
    kind: str, persona_id: str | None, said: str
) -> None:
    names = (
        "thinking", "phase", "model", "title", "result_excerpt", "reason", "name", "role", "depth", "content",
        "content_excerpt", "source_id", "priority", "items", "will_respond", "response", "error", "account",
        "resumes_at", "inbox_item_ids",
    )  # fmt: skip
    assert is_safe(text.event_line(event(kind, persona_id, **dict.fromkeys(names, said))))
    assert is_safe(text.event_line(event(kind, persona_id)))


def test_an_event_s_line_says_who_thought_what() -> None:
    thought = event(thinking="All is well.", phase="observe", thought_count=5, model="m", latency_ms=12)
    assert text.event_line(thought).endswith(" p #5 observe (m, 12 ms) All is well.")
    fallback = event(thinking="phase=observe", phase="observe", thought_count=5, model=None)
    assert text.event_line(fallback).endswith(" p #5 observe (fallback) phase=observe")
    assert text.event_line(event("proposal_created", title="Do")).endswith(" p proposes: Do")
    assert text.event_line(event("check_result", None, stopped=True, reason="tea")).endswith(
        " - check result: tea"
    )
    assert text.event_line(event("persona_spawned", name="n", role="r", depth=2)).endswith(
        "spawned: n, r, depth 2"
    )
    assert text.event_line(event("persona_reaped", reason="why")).endswith("reaped: why")


@pytest.mark.parametrize(
    ("kind", "payload", "line"),
    [
        (
            "inbox_received",
            {"source_id": "room", "priority": 0.6, "content_excerpt": "Calm?"},
            "← room (0.60): Calm?",
        ),
        (
            "inbox_received",
            {"source_id": "", "domain": "chat", "content_excerpt": "Calm?"},
            "← chat (-): Calm?",
        ),
        ("inbox_handled", {"items": [1], "will_respond": True, "response": "Yes."}, "→ Yes."),
        (
            "inbox_handled",
            {"items": [1, 2], "will_respond": False, "response": None},
            "reads 2 items and does not answer",
        ),
        (
            "inbox_handled",
            {"items": [1], "will_respond": None, "error": "no JSON"},
            "an item, and no decision: no JSON",
        ),
        (
            "inbox_dropped",
            {"reason": "full", "content": "Calm?", "error": None},
            "drops an item (full): Calm?",
        ),
        ("inbox_dropped", {"reason": "failed", "content": "C", "error": "e"}, "drops an item (failed, e): C"),
        (
            "budget_paused",
            {"account": "root", "reason": "420 tokens", "resumes_at": "12:01"},
            "waits for credits of root until 12:01: 420 tokens",
        ),
        (
            "budget_paused",
            {"account": "root", "reason": "r", "resumes_at": None},
            "waits for credits of root: r",
        ),
        ("budget_resumed", {"account": "root"}, "has credits of root again"),
        ("dependency_timed_out", {"dependency": "ann"}, "waits no longer for dependency=ann"),
    ],
)
def test_an_event_of_a_life_is_a_line_that_people_read(kind: str, payload: dict[str, Any], line: str) -> None:
    assert text.event_line(event(kind, **payload)).endswith(f" p {line}")


def test_a_thought_says_how_many_items_it_took_up() -> None:
    thought = event(thinking="Hm.", phase="test", thought_count=7, model="m", inbox_item_ids=["a", "b"])
    assert text.event_line(thought).endswith(" p #7 test (m, 0 ms, took up 2) Hm.")


@pytest.mark.fact("A18")
@pytest.mark.parametrize(
    ("count", "model", "said"), [(3, "m", "(3 snapshots, m)"), (1, None, "(a snapshot, fallback)")]
)
def test_what_a_swarm_remembers_is_said_by_the_swarm_and_is_no_thought(
    count: int, model: str | None, said: str
) -> None:
    payload = RollUpPayload(
        thinking="Calm.", source=Source.MODEL if model else Source.FALLBACK, model=model, usage=None,
        error=None, persona_scope=["a", "b"], cold_snapshot_count=count, hot_event_count=9,
        warm_fact_count=2,
    )  # fmt: skip
    roll_up = ThoughtEvent(
        id="e", event_type=EventType.SNAPSHOT_COMPRESSED, persona_id=None, swarm_id="crew",
        timestamp=NOW, payload=msgspec.to_builtins(payload),
    )  # fmt: skip
    assert text.event_line(roll_up).endswith(f" crew remembers {said}: Calm.")


@given(ANY)
@example(HOSTILE)
def test_json_for_programs_is_safe_on_a_terminal_and_means_the_same(said: str) -> None:
    shown = text.plain_json(json.dumps({said: [said]}, indent=2, ensure_ascii=False))
    assert is_safe(shown.replace("\n", ""))
    assert json.loads(shown) == {said: [said]}


def test_json_keeps_what_people_read() -> None:
    assert text.plain_json('{"a": "Größe, 日本, 😀"}') == '{"a": "Größe, 日本, 😀"}'
    assert text.plain_json('{"a": "\x9b31m\u202e"}') == '{"a": "\\u009b31m\\u202e"}'


def test_a_long_thought_is_cut_to_the_width() -> None:
    assert len(text.event_line(event(thinking="x" * 500), 80)) <= 80


@pytest.mark.parametrize(
    ("terminal", "no_color", "styled"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_colors_are_for_terminals_that_want_them(
    terminal: bool, no_color: str, styled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert text.style("x", "red") == ("\x1b[31mx\x1b[0m" if styled else "x")
    assert text.style("x", "") == "x"


def test_a_table_that_programs_read_has_a_row_a_line_and_its_ids_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    ids = [f"{'persona-' * 20}{number}" for number in range(3)]
    print_table(("persona", "status"), [(one, "active") for one in ids], "")
    lines = capsys.readouterr().out.rstrip("\n").split("\n")
    assert [line.split() for line in lines[-3:]] == [[one, "active"] for one in ids]


def test_in_a_terminal_only_the_last_column_is_wrapped_and_no_word_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by reading what is printed: at 80 columns ids were folded, and could not be copied."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    name, said = "persona-with-a-name-of-29-char", "it looks at everything that was thought"
    print_table(("id", "of late"), [(name, said), (name, None), (name, "")], "")
    lines = capsys.readouterr().out.split("\n")
    assert [line.split() for line in lines if name in line] == [[name, "it", "looks"], [name, "-"], [name]]
    assert " ".join(line.removeprefix(name).strip() for line in lines[2:]).split()[:7] == said.split()
    assert max(map(len, lines[1:])) <= len(name) + 2 + len("everything")
    print_table(("id", "status"), [("x" * 50, "a-very-long-word")], "")
    assert f"{'x' * 50}  a-very-long-word" in capsys.readouterr().out, "wider than the terminal, and whole"
