"""The page where the gateway asks for a token, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser

from libs.bus.connection import Bus
from tests.clients.browsing import Watched, opened
from tests.services.standin import gateway
from tests.support.endpoint import endpoint
from tests.support.swarm import Swarm, swarm

READER, MASTER = "read-token-0123456789", "control-token-0123456789"
SCRIPT = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def closed() -> Iterator[Swarm]:
    """A swarm that asks for tokens, and whose model answers in HTML."""
    with (
        endpoint(lambda _: f"{SCRIPT} \x1b[31mred\x1b[0m <|im_end|> seen.") as model,
        swarm(
            "--quiet",
            settings={"LOOP_INTERVAL_MS": "200", "THINKER_BASE_URL": model.base_url},
            own={"API_TOKENS": f"read:{READER},control:{MASTER}"},
        ) as up,
    ):
        yield up


async def sign_in(page: Watched, token: str) -> None:
    await page.find("#sign-in-form [name='token']").fill(token)
    await page.find("#sign-in-form [type='submit']").click()


async def test_a_token_is_asked_for_once_and_the_stream_follows(browser: Browser, closed: Swarm) -> None:
    """A wrong one is said to be; the right one is nowhere a script, an address or a store could show it."""
    async with opened(browser, closed) as page:
        await sign_in(page, "wrong-token-0123456789")
        await page.says("#sign-in-form .error", "does not know this token")
        await sign_in(page, MASTER)
        await page.says("#state", "Running")
        await page.until("document.querySelectorAll('#list .event').length >= 3", "rows")
        await page.page.reload()
        await page.says("#state", "Running")
        kept = (
            "document.cookie + location.href + JSON.stringify(localStorage) + JSON.stringify(sessionStorage)"
        )
        assert MASTER not in await page.page.evaluate(kept)
        assert "perpetua" not in await page.page.evaluate("document.cookie")
        await page.find("#stop").click()
        await page.says("#state", "Stopped")
        await page.find("#start").click()
        await page.says("#state", "Running")
        await page.find("#sign-out").click()
        await page.find("#sign-in[open]").wait_for()
        assert page.strangers == []


async def test_who_may_only_read_is_shown_nothing_to_control(browser: Browser, closed: Swarm) -> None:
    async with opened(browser, closed) as page:
        await sign_in(page, READER)
        await page.until("document.querySelectorAll('#list .event').length >= 3", "rows")
        await page.until("document.body.dataset.scope === 'read'", "the scope")
        assert await page.page.evaluate("document.querySelector('#stop').offsetParent") is None
        assert await page.page.evaluate("document.querySelector('#create').offsetParent") is None
        await page.find("#tree .node[data-id='root-thinker']").click()
        await page.says("#persona .charter", "Continuously observe")
        assert await shown_of(page, ["Spawn a child", "Reap …", "Send", "New persona", "Stop"]) == []
        status = await page.page.evaluate(
            "fetch('/v1/cognition/stop', {method: 'POST'}).then((r) => r.status)"
        )
        assert status == 403


async def shown_of(page: Watched, buttons: list[str]) -> list[str]:
    """Which buttons with one of these names can be seen."""
    said = await page.find("button:visible").all_inner_texts()
    return [text for text in said if text in buttons]


async def test_who_may_only_read_is_not_asked_to_make_the_first_persona(browser: Browser, bus: Bus) -> None:
    async with gateway(bus, API_TOKENS=f"read:{READER}") as served, opened(browser, served) as page:
        await sign_in(page, READER)
        await page.says("#tree", "No personas yet.")
        assert await shown_of(page, ["New persona"]) == []


async def test_escape_does_not_end_the_question_for_a_token(browser: Browser, closed: Swarm) -> None:
    """A browser closes a dialog with the second Escape, whatever the page says to it."""
    async with opened(browser, closed) as page:
        await page.find("#sign-in[open]").wait_for()
        for _ in range(4):
            await page.page.keyboard.press("Escape")
        await sign_in(page, READER)
        await page.says("#state", "Running")
        assert await page.find("#sign-in[open]").count() == 0


async def test_what_a_model_says_is_shown_as_text_and_never_obeyed(browser: Browser, closed: Swarm) -> None:
    async with opened(browser, closed) as page:
        await sign_in(page, MASTER)
        await page.says("#list", "<script>document.title='owned'</script>", within=30)
        await page.says("#list", "\\x1b[31mred")
        assert await page.page.title() == "Perpetua"
        assert await page.page.evaluate("document.querySelectorAll('img').length") == 1, "only the logo"
        assert page.strangers == []
