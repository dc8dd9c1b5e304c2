"""The page at `/`, in a real browser."""

from __future__ import annotations

import os
import signal

import pytest
from playwright.async_api import Browser

from tests.clients.browsing import Watched, opened
from tests.support.eventually import eventually
from tests.support.swarm import Swarm

EVIL = "<img src=x onerror=\"document.title='owned'\">"
CHARTER = f"<script>document.title='owned'</script>{EVIL} \x1b[31mred\x1b[0m \u202egnp.exe"
SEE_INTERRUPTION = """() => new MutationObserver(() => {
  window.interrupted ||= document.querySelector("[data-kind=stream]") !== null;
}).observe(document.body, {childList: true, subtree: true})"""
ROWS = "document.querySelectorAll('#list .event').length"
NEWEST = "Number(document.querySelector('#list .event')?.dataset.sequence ?? 0)"


async def test_the_page_opens_and_shows_thoughts_as_they_come(browser: Browser, running: Swarm) -> None:
    """No complaint in the console, nothing asked of another host, and the newest thought first."""
    async with opened(browser, running) as page:
        await page.says("#state", "Running")
        await page.until(f"{ROWS} >= 3", "rows")
        newest = await page.page.evaluate(NEWEST)
        await page.until(f"{NEWEST} >= {newest} + 10", "newer rows")
        await page.says("#list", "root-thinker")
        await page.says("#tree", "root-thinker")
        await page.says("#active", "1")
        await page.until("document.querySelector('#rate').textContent > '0'", "a rate")
        await page.says("#snapshot-body", "phase=compress", within=30)
        assert (page.complaints, page.strangers) == ([], [])


async def test_it_says_when_every_thought_is_the_fallback_and_how_to_change_it(
    browser: Browser, running: Swarm
) -> None:
    async with opened(browser, running) as page:
        await page.says("#notices", "Every thought is the declared fallback")
        await page.says("#notices", "perpetua up --model tiny")
        await page.find("#notices button").click()
        await page.until("document.querySelectorAll('.notice').length === 0", "the notice put away")


async def test_the_loop_is_stopped_and_started_on_the_page(browser: Browser, running: Swarm) -> None:
    async with opened(browser, running) as page:
        await page.find("#stop").click()
        await page.says("#state", "Stopped")
        assert running.get("/v1/cognition/status")["running"] is False
        await page.find("#interval").fill("300")
        await page.find("#start").click()
        await page.says("#state", "Running")
        status = running.get("/v1/cognition/status")
        assert (status["running"], status["loop_interval_ms"]) == (True, 300)
        await page.find("#interval").fill("200")
        await page.find("#interval").press("Enter")
        await eventually(lambda: running.get("/v1/cognition/status")["loop_interval_ms"] == 200, 30)
        assert (page.complaints, page.strangers) == ([], [])


@pytest.mark.fact("H4")
async def test_a_loop_that_no_scheduler_ticks_is_said_to_wait_and_can_be_stopped(
    browser: Browser, running: Swarm
) -> None:
    """It is no stopped loop: to start it would change nothing."""
    async with opened(browser, running) as page:
        await page.says("#state", "Running")
        scheduler = running.pid("scheduler")
        os.kill(scheduler, signal.SIGSTOP)
        try:
            await page.says("#state", "Waiting: no scheduler answers")
            assert await page.find("#stop").is_visible()
            assert not await page.find("#start").is_visible()
            await page.says("[data-kind='unticked']", "The loop is to run, and no scheduler ticks")
            await page.says("[data-kind='unticked']", "no scheduler answers")
        finally:
            os.kill(scheduler, signal.SIGCONT)
        await page.says("#state", "Running", within=30)
        await page.until("document.querySelector('[data-kind=unticked]') === null", "the notice gone")


async def test_a_persona_is_made_shown_spawned_under_and_reaped_on_the_page(
    browser: Browser, running: Swarm
) -> None:
    async with opened(browser, running) as page:
        await page.find("#create").click()
        await fill(page, name="Scout", role="researcher", charter="Look around.", persona_id="scout")
        await page.says("#persona", "Look around.")
        await page.says("#persona", "observe #1")
        await page.find("#persona button:has-text('Spawn a child')").click()
        await fill(page, name="Sub", role="helper", charter="Help.", persona_id="sub")
        await page.says("#persona", "Help.")
        assert running.get("/v1/swarm/personas/sub")["identity"]["parent_id"] == "scout"
        await page.find("#persona button:has-text('Reap')").click()
        await page.find("#reap-form [name='reason']").fill("enough")
        await page.find("#reap-form [type='submit']").click()
        await page.says("#persona", "Reaped: it thinks no more.")
        await page.says("#persona .list", "enough")
        assert running.get("/v1/swarm/personas/sub")["status"] == "reaped"
        assert (page.complaints, page.strangers) == ([], [])


async def fill(page: Watched, **fields: str) -> None:
    for name, value in fields.items():
        await page.find(f"#persona-form [name='{name}']").fill(value)
    await page.find("#persona-form [type='submit']").click()


async def test_what_the_api_refuses_is_said_in_its_own_words(browser: Browser, running: Swarm) -> None:
    async with opened(browser, running) as page:
        await page.find("#create").click()
        await fill(page, name="n", role="r", charter="c", persona_id="root-thinker")
        await page.says("#persona-form .error", "Persona id already exists: root-thinker")


async def test_what_personas_say_is_shown_as_text_and_never_obeyed(browser: Browser, running: Swarm) -> None:
    """Markup, terminal escapes and direction overrides in name, role, charter, id and reason are text."""
    body = {"persona_id": EVIL, "name": EVIL, "role": EVIL, "charter": CHARTER, "swarm_id": "evil"}
    running.post("/v1/swarm/personas", body)
    async with opened(browser, running) as page:
        await page.find("#tree .node", has_text=EVIL).click()
        await page.says("#persona .name", EVIL)
        await page.says("#persona .charter", "<script>document.title='owned'</script>")
        await page.says("#persona .charter", "\\x1b[31mred\\x1b[0m \\u202egnp.exe")
        await page.says("#list", EVIL)
        await page.page.reload()
        await page.says("#persona .name", EVIL)
        assert await page.page.title() == "Perpetua"
        assert await page.page.evaluate("document.querySelectorAll('img').length") == 1, "only the logo"
        assert (page.complaints, page.strangers) == ([], [])


async def test_the_page_goes_on_by_itself_after_a_crash_of_the_gateway(
    browser: Browser, running: Swarm
) -> None:
    async with opened(browser, running) as page:
        await page.until(f"{ROWS} >= 3", "rows")
        await page.page.evaluate(SEE_INTERRUPTION)
        os.kill(running.pid("gateway"), signal.SIGKILL)
        await page.until("window.interrupted", "the interruption said")
        await page.until(
            "document.querySelector('[data-kind=stream]') === null", "the stream again", within=30
        )
        newest = await page.page.evaluate(NEWEST)
        await page.until(f"{NEWEST} > {newest}", "newer rows")
        await page.says("#state", "Running")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_phone(browser: Browser, running: Swarm, scheme: str) -> None:
    """Nothing is wider than the screen, and a persona's details open over the page and close again."""
    async with opened(browser, running, width=360, height=740, scheme=scheme) as page:
        await page.until(f"{ROWS} >= 3", "rows")
        assert await page.page.evaluate("document.documentElement.scrollWidth") <= 360
        await page.find("#tree .node[data-id='root-thinker']").click()
        await page.says("#persona .charter", "Continuously observe")
        await page.find("#persona button:has-text('Close')").click()
        await page.until("document.querySelector('#persona').offsetParent === null", "the details closed")


async def test_it_is_used_with_the_keyboard_alone(browser: Browser, running: Swarm) -> None:
    async with opened(browser, running) as page:
        await page.until("document.querySelector('#tree .node') !== null", "the tree")
        await page.find("#lineage-filter").press("Tab")
        assert await page.page.evaluate("document.activeElement.getAttribute('role')") == "treeitem"
        await page.page.keyboard.press("Home")
        first = await page.page.evaluate("document.activeElement.dataset.id")
        await page.page.keyboard.press("Enter")
        await page.until("document.querySelector('#persona .charter') !== null", "the details")
        assert await page.page.evaluate("new URLSearchParams(location.hash.slice(1)).get('persona')") == first
        await page.page.keyboard.press("Escape")
        await page.until("document.querySelector('#persona .charter') === null", "the details closed")
        assert await page.page.evaluate("document.activeElement.dataset.id") == first, "focus stays"
