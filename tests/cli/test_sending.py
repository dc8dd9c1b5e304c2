"""`perpetua send`, `inbox`, `spend` and what commands show of lives, on a gateway in this process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from libs.bus.connection import Bus
from libs.contracts.accounts import Credit
from libs.contracts.inbox import HeldItem, InboxItem, copy_id
from libs.contracts.lives import PausedFor, SpendReply, Spent, SpentByPersona, SpentInHour
from libs.contracts.work import Counters
from tests.bus.support import held
from tests.services.standin import StandIn, gateway, held_item, life
from tests.support.eventually import eventually
from tests.unit.make import NOW

EVIL = "\x1b[2J\u202eevil"


@pytest_asyncio.fixture
async def served(bus: Bus) -> AsyncIterator[StandIn]:
    async with gateway(bus) as made:
        await made.asked.create("ann", "bob", swarm_id="s")
        yield made


class Done:
    """A command that has ended."""

    def __init__(self, status: int, out: bytes, err: bytes) -> None:
        self.status = status
        self.out = out.decode()
        self.err = err.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def started(served: StandIn, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "libs.cli", *arguments, "--gateway", served.url,
        env=os.environ | {"COLUMNS": "160"},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def run(served: StandIn, *arguments: str, given: bytes | None = None) -> Done:
    process = await started(served, *arguments)
    out, err = await asyncio.wait_for(process.communicate(given), 30)
    assert process.returncode is not None
    return Done(process.returncode, out, err)


async def stored(served: StandIn) -> list[InboxItem]:
    return [msgspec.json.decode(one.data, type=InboxItem) for one in await held(served.bus, "INBOX")]


async def test_a_text_that_is_not_utf_8_is_refused_with_the_byte_and_a_cure(served: StandIn) -> None:
    """As `head -c` cuts a character in two; the others of a command are as good as before."""
    for words in (("send", "ann", "caf\udcc3"), ("send", "ann", "Calm?", "--source", "caf\udcc3")):
        done = await run(served, *words)
        assert (done.status, done.out) == (1, "")
        assert "its byte 0xc3 is not UTF-8" in done.err and "iconv -c" in done.err
    assert await stored(served) == []
    await run(served, "send", "ann", "café")
    assert [item.content for item in await stored(served)] == ["café"]


@pytest.mark.fact("A1")
async def test_an_item_is_sent_with_what_is_said_of_it(served: StandIn) -> None:
    done = await run(
        served, "send", "ann", "Is it calm?", "--priority", "0.9", "--source", "room", "--domain", "game",
        "--mention", "@Ann", "--mention", "Bob", "--json",
    )  # fmt: skip
    (item,) = await stored(served)
    assert done.json == {"item_id": item.id, "persona_id": "ann"}
    assert (item.content, item.priority, item.source_id) == ("Is it calm?", 0.9, "room")
    assert (item.domain, item.mentions) == ("game", ["@Ann", "Bob"])
    assert "stored as" in (await run(served, "send", "ann", "Again")).out


@pytest.mark.fact("A5")
async def test_a_whole_swarm_is_sent_a_post(served: StandIn) -> None:
    done = await run(served, "send", "--swarm", "s", "All?", "--answers-most", "1")
    assert "stored for 2 personas" in done.out
    assert {(item.persona_id, item.answers_most) for item in await stored(served)} == {("ann", 1), ("bob", 1)}


async def test_each_line_of_standard_input_is_an_item_in_its_order(served: StandIn) -> None:
    lines = b"one\n\n  \ntwo\r\n" + b"x" * 8001 + b"\n" + b"y" * 200_000 + b"\nth\xffree"
    done = await run(served, "send", "ann", "-", "--source", "app.log", given=lines)
    assert [item.content for item in await stored(served)] == ["one", "two", "th\\xffree"]
    assert {item.source_id for item in await stored(served)} == {"app.log"}
    assert done.status == 1, "a line was too long"
    assert "line 5 is not sent: it is longer than 8000 characters" in done.err
    assert "line 6 is not sent" in done.err
    assert "3 sent to ann, 2 too long" in done.out


async def test_lines_are_sent_as_they_come(served: StandIn) -> None:
    """`tail -F app.log | perpetua send …`: nothing waits for the end of the input."""
    process = await started(served, "send", "--swarm", "s", "-", "--json")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"first\n")
    first = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
    assert (first["line"], first["personas"]) == (1, 2)
    process.stdin.write(b"second\n")
    assert json.loads(await asyncio.wait_for(process.stdout.readline(), 20))["line"] == 2
    process.stdin.close()
    assert await process.wait() == 0


async def test_lines_wait_while_an_inbox_is_full(served: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    from libs.contracts.refusals import Unavailable

    real, refused = served.asked.sending.to_persona, 2

    async def send(persona_id: str, request: Any) -> Any:
        nonlocal refused
        if refused:
            refused -= 1
            await real(persona_id, request)  # stored, and the answer is lost
            raise Unavailable("full")
        return await real(persona_id, request)

    monkeypatch.setattr(served.asked.sending, "to_persona", send)
    done = await run(served, "send", "ann", "-", given=b"one\ntwo\n")
    assert done.status == 0, done.err
    items = await stored(served)
    assert [item.content for item in items] == ["one", "one", "one", "two"]
    assert len({item.id for item in items}) == 2, "its scheduler knows the second copy by its id"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ann"], "name a persona and a text"),
        (["ann", "two", "words"], "put it into quotes"),
        (["--swarm", "s", "ann", "text"], "more than one text"),
        (["ann", "-", "--wait"], "--wait waits for one item"),
        (["ann", "text", "--answers-most", "3"], "is for a --swarm"),
        (["ann", "text", "--priority", "2"], "--priority"),
        (["nobody", "text"], "Persona not found: nobody"),
        (["--swarm", "none", "text"], "No persona of swarm none lives"),
        (["nobody", "-"], "line 1: Persona not found: nobody (0 sent before it)"),
        (["ann", ""], "content: "),
    ],
)
async def test_what_cannot_be_sent_is_said(served: StandIn, arguments: list[str], words: str) -> None:
    done = await run(served, "send", *arguments, given=b"line\n")
    assert done.status in (1, 2)
    assert words in done.err
    assert "Traceback" not in done.err
    assert await stored(served) == []


async def emit_handled(
    served: StandIn, persona_id: str, item_id: str, outcome: str = "handled", **payload: Any
) -> None:
    fields: dict[str, Any] = {
        "thought_count": 1,
        "items": [
            {"id": "another", "source_id": "", "outcome": "handled"},
            {"id": item_id, "source_id": "", "outcome": outcome},
        ],
        "will_respond": True,
        "response": "All calm.\nSo far.",
        "error": None,
    }
    await served.emit("inbox_handled", persona_id, fields | payload)


async def first_items(served: StandIn, count: int = 1) -> list[InboxItem]:
    async def there() -> list[InboxItem]:
        found = await stored(served)
        return found if len(found) >= count else []

    return await eventually(there, 20, "what was sent")


async def test_waiting_ends_with_the_response(served: StandIn) -> None:
    waiting = asyncio.create_task(run(served, "send", "ann", "Is it calm?", "--wait"))
    (item,) = await first_items(served)
    for who in ("bob", "ann", "ann"):
        payload = {"source": "fallback", "error": f"no model: {EVIL}"}
        await served.emit("thought_generated", who, payload, "s")
    await emit_handled(served, "bob", item.id)
    await emit_handled(served, "ann", "other")
    await emit_handled(served, "ann", item.id, "failed", will_respond=None, response=None, error="no JSON")
    await emit_handled(served, "ann", item.id, "returned", will_respond=None, response=None, error=EVIL)
    await emit_handled(served, "ann", item.id)
    done = await waiting
    assert (done.status, done.out) == (0, "All calm.\nSo far.\n")
    assert done.err.splitlines()[0].startswith("stored; waits for what becomes of it, 300 s at most")
    assert done.err.splitlines()[1:] == [
        "ann thinks without a model, and only a model answers: no model: ·[2J·evil",
        "ann has tried and failed: no JSON; it tries again",
    ]


async def test_waiting_ends_where_it_is_not_answered(served: StandIn) -> None:
    waiting = asyncio.create_task(run(served, "send", "ann", "Is it calm?", "--wait"))
    (item,) = await first_items(served)
    await emit_handled(served, "ann", item.id, will_respond=False, response=None)
    done = await waiting
    assert (done.status, done.out, "does not answer" in done.err) == (0, "", True)


async def test_waiting_ends_where_it_is_dropped(served: StandIn) -> None:
    waiting = asyncio.create_task(run(served, "send", "ann", "Is it calm?", "--wait", "--json"))
    (item,) = await first_items(served)
    payload = {"id": item.id, "reason": "full", "error": None, "content": "Is it calm?"}
    await served.emit("inbox_dropped", "ann", payload)
    done = await waiting
    assert done.status == 1
    assert done.json["ended"] == [{"persona_id": "ann", "outcome": "full", "response": None, "error": None}]


async def test_of_a_post_each_persona_s_end_is_waited_for(served: StandIn) -> None:
    waiting = asyncio.create_task(run(served, "send", "--swarm", "s", "All?", "--wait"))
    items = await first_items(served, 2)
    post_id = items[0].post_id
    assert post_id is not None
    assert {item.id for item in items} == {copy_id(post_id, "ann"), copy_id(post_id, "bob")}
    await served.emit("thought_generated", "bob", {"source": "fallback", "error": None}, "another")
    await served.emit("thought_generated", "ann", {"source": "fallback", "error": None}, "s")
    await emit_handled(served, "bob", copy_id(post_id, "bob"), response=EVIL)
    await emit_handled(served, "ann", copy_id(post_id, "ann"), will_respond=False, response=None)
    done = await waiting
    assert (done.status, done.out) == (0, "bob: ·[2J·evil\n")
    assert "ann has read it" in done.err
    assert "bob thinks" not in done.err
    assert "ann thinks without a model, and only a model answers: thinking is switched off" in done.err


async def skipping(
    served: StandIn, monkeypatch: pytest.MonkeyPatch, *, waits: Callable[[str], list[HeldItem]] | None = None
) -> None:
    """Have the stream lose all but one event between sending and following, as one does that is too small.

    `waits` says of an item's id what the inbox holds by then.
    """
    real = served.asked.sending.to_persona

    async def send(persona_id: str, request: Any) -> Any:
        accepted = await real(persona_id, request)
        if waits is not None:
            served.owners.items[persona_id] = waits(accepted.item_id)
        for number in range(4):
            await served.emit("thought_generated", "bob", {"thinking": str(number)})
        await served.bus.api("STREAM.PURGE.EVENTS", {"keep": 1})
        return accepted

    monkeypatch.setattr(served.asked.sending, "to_persona", send)
    await served.emit("thought_generated", "bob", {"thinking": "before"})


async def test_where_events_were_skipped_an_item_that_still_waits_is_waited_for(
    served: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    await skipping(served, monkeypatch, waits=lambda item_id: [held_item(item_id)])
    process = await started(served, "send", "ann", "Is it calm?", "--wait")
    (item,) = await first_items(served)
    assert process.stderr is not None
    assert (await asyncio.wait_for(process.stderr.readline(), 20)).startswith(b"stored; waits")
    said = (await asyncio.wait_for(process.stderr.readline(), 20)).decode()
    assert said == "the stream has skipped 3 events, and what became of it may be among them\n"
    await emit_handled(served, "ann", item.id)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, out) == (0, b"All calm.\nSo far.\n")


async def test_where_events_were_skipped_and_nothing_comes_the_time_out_says_so(
    served: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    await skipping(served, monkeypatch)
    served.owners.items["ann"] = [held_item(str(number)) for number in range(1001)]
    done = await run(served, "send", "ann", "Is it calm?", "--wait", "--within", "2")
    assert done.status == 1
    assert "1 of 1 not handled within 2 s" in done.err
    assert "events were skipped meanwhile, and what became of it may be among them" in done.err


async def test_where_events_were_skipped_it_does_not_wait_for_what_no_inbox_holds(
    served: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    await skipping(served, monkeypatch)
    done = await run(served, "send", "ann", "Is it calm?", "--wait", "--within", "300")
    assert done.status == 1
    assert "what became of it is not known: events were skipped meanwhile" in done.err


async def test_waiting_has_an_end(served: StandIn) -> None:
    done = await run(served, "send", "ann", "Is it calm?", "--wait", "--within", "1")
    assert done.status == 1
    assert "1 of 1 not handled within 1 s; what is stored is handled later" in done.err


@pytest.mark.fact("A2")
async def test_an_inbox_is_shown(served: StandIn) -> None:
    served.owners.items["ann"] = [
        held_item("i-1", content=f"{EVIL} one\ntwo", attempts=1, taken_up=True, waited_s=125.0),
        held_item("i-2", source_id=""),
    ]
    shown = await run(served, "inbox", "ann", "--limit", "1")
    assert "·[2J·evil one two" in shown.out
    for words in ("0.50", "0.75", "2 min", "room 1", "1, thought of now", "2 in all"):
        assert words in shown.out
    assert (await run(served, "inbox", "ann", "--json")).json["held"] == 2
    assert "nothing waits there" in (await run(served, "inbox", "bob")).out
    assert "Persona not found" in (await run(served, "inbox", "nobody")).err


async def test_spending_is_shown_as_shares(served: StandIn) -> None:
    served.owners.spent[3] = SpendReply(
        personas=[SpentByPersona("ann", Spent(3, 750, 5000)), SpentByPersona("bob", Spent(1, 250, 1000))],
        hours=[SpentInHour(490_923, None, "critic", Spent(4, 0, 6000))],
    )
    shown = (await run(served, "spend", "--limit", "1")).out
    assert "███████████████       75 %" in shown
    assert "1000 tokens, 6 s of thinking, 4 thoughts; 1 more with --limit" in shown
    by_swarm = (await run(served, "spend", "--by", "swarm")).out
    assert "(none)" in by_swarm
    assert "100 %" in by_swarm, "of the time, where no model reports tokens"
    assert (await run(served, "spend", "--by", "role", "--json")).json["rows"][0]["key"] == "critic"
    assert "nothing was spent" in (await run(served, "spend", "--by", "hour", "--swarm", "s")).out


async def test_of_a_swarm_that_is_none_nothing_is_said_to_have_been_spent(served: StandIn) -> None:
    served.owners.spent[3] = SpendReply(
        personas=[], hours=[SpentInHour(490_923, "swarm-core", "critic", Spent(4, 0, 6000))]
    )
    wrong = await run(served, "spend", "--swarm", "swarm-cor")
    assert wrong.status == 1
    assert "no swarm 'swarm-cor' is known; is `swarm-core` meant? `perpetua spend --by swarm`" in wrong.err
    assert "is known. `perpetua spend" in (await run(served, "spend", "--swarm", "xyzzy")).err


@pytest.mark.fact("A6")
async def test_a_persona_s_life_is_shown(served: StandIn) -> None:
    paused = PausedFor(account="root", credit=Credit.TOKENS, since=NOW, resumes_at=None)
    served.owners.counters["ann"] = Counters(7, NOW, life(paused=paused, waiting_for=["bob"]))
    shown = " ".join((await run(served, "personas", "show", "ann")).out.split())
    for words in (
        "mood active", "energy ██████████ 50 %", "credits left this minute █████ 25 %",
        "waits in its inbox 1", "without progress 7 s", "tokens 420", "for tokens of root", "for good",
        "waits now for bob",
    ):  # fmt: skip
        assert words in shown, words
    assert "mood" not in (await run(served, "personas", "show", "bob")).out
    assert "active, paused" in (await run(served, "personas", "list")).out


async def test_events_of_lives_are_followed_by_their_type(served: StandIn) -> None:
    await served.emit("thought_generated", "ann", {"thinking": "no"})
    await served.emit("inbox_dropped", "ann", {"id": "x", "reason": "full", "content": f"c {EVIL}"})
    process = await started(served, "watch", "--after", "0", "--type", "inbox_dropped")
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 20)).decode()
    assert "ann drops an item (full): c ·[2J·evil" in line
    process.kill()
    await process.wait()
