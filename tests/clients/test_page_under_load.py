"""The page stays small and quick while hundreds of thoughts a second go by."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import nats
import pytest
from playwright.async_api import Browser

from tests.clients.browsing import Watched, opened
from tests.support.eventually import eventually
from tests.support.swarm import Swarm, swarm

PERSONAS = 500
BUSY = """() => new Promise((done) => {
  const begin = performance.now();
  let frames = 0;
  const frame = (now) => {
    frames += 1;
    now - begin < 3000 ? requestAnimationFrame(frame) : done(frames);
  };
  requestAnimationFrame(frame);
})"""


@pytest.fixture(scope="module")
def crowd() -> Iterator[Swarm]:
    """Five hundred personas that think once a second; the stream holds about a second of their events."""
    settings = {"LOOP_INTERVAL_MS": "1000", "MAX_EVENTS": "700", "MAX_BRANCHING_FACTOR": "1000"}
    with swarm("--quiet", settings=settings) as up:
        for number in range(1, PERSONAS):
            body = {"persona_id": f"p{number:03}", "name": f"P {number}", "role": "r", "charter": "c"}
            up.post("/v1/swarm/personas", body | ({"parent_id": "p001"} if number % 3 == 0 else {}))
        yield up


async def count(page: Watched, selector: str) -> int:
    return await page.find(selector).count()


async def another_stream_full(swarm: Swarm) -> None:
    """Return once the stream holds nothing of what it holds now."""
    client = await nats.connect(swarm.nats_url, **swarm.nats_as("reader"))
    try:
        events = client.jetstream()
        last = (await events.stream_info("EVENTS")).state.last_seq

        async def evicted() -> bool:
            return (await events.stream_info("EVENTS")).state.first_seq > last + 1

        await eventually(evicted, 60, "a stream that holds later events only")
    finally:
        await client.close()


async def test_hundreds_of_thoughts_a_second_leave_the_page_small_and_smooth(
    browser: Browser, crowd: Swarm
) -> None:
    """Rows and nodes are bounded, what is not shown is said, and frames keep coming."""
    async with opened(browser, crowd, "/#persona=p002") as page:
        await page.until("Number(document.querySelector('#rate').textContent) > 300", "the rate", within=30)
        await page.says("#hidden-note", "a sample")
        frames = max([await page.page.evaluate(BUSY) for _ in range(3)])
        assert frames > 30, "at least ten frames a second on a machine that does all the rest as well"
        assert await count(page, "#list > li") <= 120
        await page.says("#tree-note", "100 more")
        assert await count(page, "#tree .node") == 400
        assert await count(page, "*") < 6000
        await page.find("#lineage-filter").fill("p498")
        await page.until("document.querySelectorAll('#tree .node').length === 2", "it and its parent")
        assert (page.complaints, page.strangers) == ([], [])


async def test_a_pause_shows_the_newest_events_without_gaps(browser: Browser, crowd: Swarm) -> None:
    async with opened(browser, crowd) as page:
        await page.until("Number(document.querySelector('#rate').textContent) > 100", "the rate", within=30)
        shown = "[...document.querySelectorAll('#list .event')].map((row) => Number(row.dataset.sequence))"
        for _ in range(5):
            await page.find("#pause").click()
            rows = await page.page.evaluate(shown)
            if await count(page, "#list .lag") == 0:
                break
            await page.find("#pause").click()  # the gateway was slower than the stream just now: later again
        assert rows == list(range(rows[0], rows[0] - 120, -1))
        await page.says("#newer", "newer event")
        assert await page.page.evaluate(shown) == rows, "rows stay while somebody reads them"
        await page.find("#newer").click()
        await page.until(f"{shown}[0] > {rows[0]}", "newer rows")


async def test_it_says_how_many_events_it_has_missed(browser: Browser, crowd: Swarm) -> None:
    """The gateway is away, and crashes, for longer than the stream holds events."""
    async with opened(browser, crowd) as page:
        await page.until("document.querySelectorAll('#list .event').length > 50", "rows")
        gateway = crowd.pid("gateway")
        os.kill(gateway, signal.SIGSTOP)
        await another_stream_full(crowd)
        os.kill(gateway, signal.SIGKILL)
        await page.says("#events-note", "events missed", within=30)
        await page.until(
            "document.querySelector('[data-kind=stream]') === null", "the stream again", within=30
        )
        note = await page.find("#events-note").inner_text()
        assert re.search(r"[1-9][\d,]* events missed", note), note
