"""A persona's life on the page, and messages to it, in a real browser on a gateway in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from libs.bus.connection import Bus
from libs.bus.presence import Presence
from libs.contracts.accounts import Credit
from libs.contracts.inbox import Accepted, InboxItem, SendRequest
from libs.contracts.lives import PausedFor
from libs.contracts.presence import PresenceRecord
from libs.contracts.refusals import Unavailable
from libs.contracts.thoughts import RollUpPayload, Source
from libs.contracts.work import Counters
from tests.bus.support import held, running
from tests.clients.browsing import Watched, opened
from tests.services.standin import StandIn, gateway, life
from tests.support.eventually import eventually
from tests.unit.make import NOW

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest_asyncio.fixture
async def served(bus: Bus) -> AsyncIterator[StandIn]:
    async with gateway(bus) as made:
        await made.asked.create("ann", "bob", swarm_id="s")
        yield made


async def item_of(served: StandIn, content: str) -> InboxItem:
    async def found() -> InboxItem | None:
        items = [msgspec.json.decode(one.data, type=InboxItem) for one in await held(served.bus, "INBOX")]
        return next((item for item in items if item.content == content), None)

    there = await eventually(found, 30, "what was sent")
    assert there is not None
    return there


async def handle(served: StandIn, item: InboxItem, outcome: str = "handled", **payload: Any) -> None:
    fields: dict[str, Any] = {
        "thought_count": 1,
        "items": [{"id": item.id, "source_id": "", "outcome": outcome}],
        "will_respond": True,
        "response": "All calm.",
        "error": None,
    }
    await served.emit("inbox_handled", item.persona_id, fields | payload)


async def is_harmless(page: Watched) -> None:
    assert await page.page.title() == "Perpetua"
    assert await page.page.evaluate("document.querySelectorAll('img').length") == 1, "only the logo"
    assert page.strangers == []


async def say(page: Watched, text: str) -> None:
    await page.find(".talk-form textarea").fill(text)
    await page.find(".talk-form [type='submit']").click()


@pytest.mark.fact("A6")
async def test_mood_energy_credits_and_inbox_are_shown_as_they_change(
    browser: Browser, served: StandIn
) -> None:
    served.owners.counters["ann"] = Counters(7, NOW, life(mood="tired", energy=0.25, inbox_load=3))
    async with opened(browser, served, "/#persona=ann") as page:
        await page.says("#persona .mood", "tired")
        for words in ("3 items waiting", "25 %", "420 tokens"):
            await page.says("#persona .life", words)
        assert await page.page.evaluate("document.querySelector('.life meter').value") == 0.25
        assert await page.page.evaluate("document.querySelector('.paused').offsetParent") is None
        paused = PausedFor(account=EVIL, credit=Credit.TOKENS, since=NOW, resumes_at=None)
        served.owners.counters["ann"] = Counters(
            8, NOW, life(mood="idle", inbox_load=0, paused=paused, waiting_for=["bob", EVIL])
        )
        await page.says("#persona .mood", "idle")
        await page.says("#persona .paused", f"{EVIL} is out of tokens")
        await page.says("#persona .life", f"bob, {EVIL}")
        await page.says("#persona .life", "empty")
        await is_harmless(page)


async def test_a_persona_without_a_life_yet_is_shown_without_one(browser: Browser, served: StandIn) -> None:
    async with opened(browser, served, "/#persona=bob") as page:
        await page.says("#persona .charter", "Watch.")
        assert await page.page.evaluate("document.querySelector('.life').offsetParent") is None


@pytest.mark.fact("A1")
async def test_a_message_is_sent_and_its_response_comes(browser: Browser, served: StandIn) -> None:
    async with opened(browser, served, "/#persona=ann") as page:
        await page.says("#persona .name", "name of ann")
        await say(page, EVIL)
        await page.says(".message", "Stored: it will be read.")
        item = await item_of(served, EVIL)
        assert (item.persona_id, item.priority) == ("ann", None)
        await handle(served, item, "failed", will_respond=None, response=None, error=EVIL)
        await page.says(".message", f"A thought of it failed ({EVIL}); it is tried again.")
        await handle(served, item, response=f"{EVIL}\n\x1b[31mred \u202egnp.exe")
        await page.says(".message[data-state='handled'] .response", EVIL)
        await page.says(".message .response", "\\x1b[31mred \\u202egnp.exe")
        await page.says("#list", "answers 1 item")
        assert await page.page.evaluate("document.querySelector('.talk-form textarea').value") == ""
        await is_harmless(page)


async def test_an_urgent_message_has_the_highest_priority_and_may_be_left_unanswered(
    browser: Browser, served: StandIn
) -> None:
    async with opened(browser, served, "/#persona=ann") as page:
        await page.says("#persona .name", "name of ann")
        await page.find(".talk-form input[type='checkbox']").check()
        await page.find(".talk-form textarea").fill("Fire?")
        await page.find(".talk-form textarea").press("Control+Enter")
        item = await item_of(served, "Fire?")
        assert item.priority == 1.0
        await handle(served, item, will_respond=False, response=None)
        await page.says(".message", "Read, and not answered.")


async def test_what_becomes_of_a_message_is_told_also_after_another_was_looked_at(
    browser: Browser, served: StandIn
) -> None:
    async with opened(browser, served, "/#persona=ann") as page:
        await page.says("#persona .name", "name of ann")
        await say(page, "Calm?")
        item = await item_of(served, "Calm?")
        await page.find("#tree .node[data-id='bob']").click()
        await page.says("#persona .name", "name of bob")
        assert await page.find(".message").count() == 0
        payload = {"id": item.id, "reason": "full", "error": None, "content": "Calm?"}
        await served.emit("inbox_dropped", "ann", payload)
        await page.says("#list", "drops an item")
        await page.find("#tree .node[data-id='ann']").click()
        await page.says(".message[data-state='dropped']", "Dropped: its inbox is full")


async def test_what_cannot_be_sent_is_said_and_stays_to_be_sent_again(
    browser: Browser, served: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise Unavailable("The inbox of persona ann is full")

    async with opened(browser, served, "/#persona=ann") as page:
        await page.says("#persona .name", "name of ann")
        with monkeypatch.context() as patch:
            patch.setattr(served.asked.sending, "to_persona", full)
            await say(page, "Calm?")
            await page.says(".talk .error", "The inbox of persona ann is full")
        assert await page.find(".message").count() == 0
        await page.find(".talk-form [type='submit']").click()
        await item_of(served, "Calm?")
        await page.says(".message", "Stored")
        await served.asked.reap("ann")
        await page.until(
            "document.querySelector('.talk-form').offsetParent === null", "no way to send any more"
        )


@pytest.mark.fact("A1")
async def test_what_seemed_not_to_be_sent_is_sent_once_where_it_is_sent_again(
    browser: Browser, served: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what a 503 has stored: the same text goes under the same id, another one under its own."""
    sending = served.asked.sending
    send = sending.to_persona
    ids: list[str | None] = []

    async def stored_and_unknown(persona_id: str, request: SendRequest) -> Accepted:
        ids.append(request.id)
        await send(persona_id, request)
        raise Unavailable("nobody knows whether it is stored")

    async with opened(browser, served, "/#persona=ann") as page:
        await page.says("#persona .name", "name of ann")
        with monkeypatch.context() as patch:
            patch.setattr(sending, "to_persona", stored_and_unknown)
            await say(page, "Calm?")
            await page.says(".talk .error", "nobody knows")
            await say(page, "All calm?")
            await eventually(lambda: len(set(ids)) == 2, 30, "the other text, under an id of its own")
            await page.until("document.querySelector('.talk-form button').disabled === false", "an answer")
        await say(page, "Calm?")
        await page.says(".message", "Stored")
        stored = [msgspec.json.decode(one.data, type=InboxItem) for one in await held(served.bus, "INBOX")]
        assert {item.id for item in stored if item.content == "Calm?"} == {ids[0]}
        await handle(served, await item_of(served, "All calm?"), response="It is.")
        await page.says(".message[data-state='handled'] .response", "It is.")


@pytest.mark.fact("A18")
async def test_what_a_swarm_remembers_is_no_thought(browser: Browser, served: StandIn) -> None:
    """It is said by the swarm, and says nothing of how personas think."""
    remembered = RollUpPayload(
        thinking=f"All calm. {EVIL}", source=Source.FALLBACK, model=None, usage=None, error="no model",
        persona_scope=["ann", "bob"], cold_snapshot_count=3, hot_event_count=9, warm_fact_count=2,
    )  # fmt: skip
    await served.emit("snapshot_compressed", None, remembered, "s")
    thought = {"thinking": "Hm.", "phase": "observe", "thought_count": 1, "source": "model", "model": "m"}
    await served.emit("thought_generated", "ann", thought | {"latency_ms": 5, "error": None})
    async with opened(browser, served) as page:
        row = "#list .event[data-phase='compress']"
        for words in ("swarm s", "remembers", "3 snapshots, declared fallback", f"All calm. {EVIL}"):
            await page.says(row, words)
        await page.says("#rate-note", "of a model")
        assert "undefined" not in await page.find("body").inner_text()
        assert await page.find(".notice").count() == 0
        await is_harmless(page)


async def test_events_of_lives_are_readable_and_can_be_shown_alone(browser: Browser, served: StandIn) -> None:
    thought = {"thinking": "Hm.", "phase": "observe", "thought_count": 1, "source": "model", "model": "m"}
    await served.emit("thought_generated", "ann", thought | {"inbox_item_ids": ["a", "b"], "error": None})
    await served.emit(
        "inbox_received",
        "ann",
        {"source_id": EVIL, "domain": "chat", "priority": 0.6, "content_excerpt": EVIL},
    )
    await served.emit("budget_paused", "ann", {"account": "root", "reason": "420 tokens", "resumes_at": None})
    await served.emit("budget_resumed", "ann", {"account": "root"})
    await served.emit("dependency_timed_out", "ann", {"dependency": EVIL})
    async with opened(browser, served) as page:
        await page.says("#list", f"is sent by {EVIL}")
        for words in (
            "priority 0.60",
            "waits for credits of root",
            "has credits of root again",
            "waits no longer",
            "took up 2 items",
        ):
            await page.says("#list", words)
        await page.find("#show").select_option("messages")
        await page.until("document.querySelectorAll('#list .event').length === 1", "messages alone")
        await is_harmless(page)
        assert page.complaints == []


@pytest.mark.fact("H9")
async def test_who_is_there_is_shown_with_what_it_last_did(browser: Browser, served: StandIn) -> None:
    def current() -> PresenceRecord:
        return PresenceRecord(
            service="thinker", instance="thinker-7", boot="b", pid=1, host="h", ready=True, since=NOW,
            restarts=2, last_activity=f"thought {EVIL}", last_activity_at=NOW,
        )  # fmt: skip

    async with running(Presence(served.bus, current).run()), opened(browser, served) as page:
        await page.find("#processes summary").click()
        for words in ("thinker-7", "restarted 2×", f"thought {EVIL}", "ago"):
            await page.says("#processes-list", words)
        await is_harmless(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_phone(browser: Browser, served: StandIn, scheme: str) -> None:
    paused = PausedFor(account="a" * 128, credit=Credit.CPU_MS, since=NOW, resumes_at=NOW)
    served.owners.counters["ann"] = Counters(7, NOW, life(paused=paused, waiting_for=["b" * 128]))
    async with opened(browser, served, "/#persona=ann", width=360, height=740, scheme=scheme) as page:
        await page.says("#persona .paused", "thinking time")
        await say(page, "x" * 300)
        await page.says(".message", "Stored")
        assert await page.page.evaluate("document.documentElement.scrollWidth") <= 360
