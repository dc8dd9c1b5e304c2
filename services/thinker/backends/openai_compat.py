"""An OpenAI-compatible chat completions endpoint: Ollama, vLLM, llama.cpp, a hosted service."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from time import perf_counter
from urllib.parse import urlsplit

import structlog
from msgspec.structs import replace

from libs.cognition.compose import Answer
from libs.contracts.presence import Circuit
from libs.runtime.process import ConfigurationError
from libs.settings.cognition import PREFIX, ThinkerSettings
from services.thinker.backends import completions, faults
from services.thinker.backends.breaker import PATIENCE_S, Breaker, Permit, State, Transition
from services.thinker.backends.completions import Completion
from services.thinker.backends.faults import EndpointError, Outcome
from services.thinker.backends.http_pool import HttpError, Pool, Response
from services.thinker.backends.watching import Nobody, Requested, Watcher
from services.thinker.budget import ENDPOINT_WINDOW, budget_of, estimated
from services.thinker.prompt import Prompt

log = structlog.get_logger("endpoint")

RETRY_S = 0.5
"""Seconds before the second attempt [3.13], where the server asks for no more."""

_SLACK_S = 0.1
"""How late the timers of a busy process may be."""

ANSWER_BYTES = 4 * 1024 * 1024
"""The largest answer that is read, in bytes."""

_AGENT = "perpetua"


class OpenAICompat:
    """Asks the endpoint for each prompt, side by side.

    An attempt may take the settings' time; a thought at most two of those and half a second, once it has its
    place among those that are under way. While the circuit is open, or held for longer than a thought can
    wait, no request is made: the thought is answered at once, as a failure that names cause and cure.
    """

    always: Answer | None = None

    def __init__(self, settings: ThinkerSettings, why: str) -> None:
        self.endpoint = shown(settings.endpoint)
        self.description = f"{settings.model} at {self.endpoint}, because {why}"
        self.model: str | None = settings.model
        self.budget = budget_of(settings.window or ENDPOINT_WINDOW, settings.max_tokens)
        self.capacity = settings.concurrency
        self.ignores = ("THINKER_REPEAT_PENALTY", "THINKER_REPEAT_LAST_N") + (
            () if settings.seed_given else ("THINKER_SEED",)
        )
        """Settings that this backend cannot honour; a seed is sent where one was given."""

        self.watcher: Watcher = Nobody()
        self._settings = replace(settings, max_tokens=self.budget.asked)
        self._timeout = settings.timeout_ms / 1000
        self._room = asyncio.Semaphore(settings.concurrency)
        self._pool = _pool(settings)
        self._breaker = Breaker(asyncio.get_running_loop().time, self._moved)

    def trouble(self) -> str | None:
        """Return why thoughts are fallbacks or wait for now, and the cure; None while requests are made."""
        because = self._breaker.because
        if because is None:
            return None
        return f"the endpoint {self.endpoint} is left alone: {because}; {because.cure}"

    def circuit(self) -> Circuit:
        """Return whether the endpoint is asked now, and if not why, and until when."""
        breaker = self._breaker
        because, is_paused = breaker.because, breaker.state in (State.OPEN, State.HELD)
        return Circuit(
            endpoint=self.endpoint,
            state=breaker.state.value,
            because=f"{because}; {because.cure}" if because is not None else None,
            until=datetime.now(UTC) + timedelta(seconds=breaker.pause_left) if is_paused else None,
        )

    def count(self, text: str) -> int:
        """Return an estimate: only the server knows its model's tokens."""
        return estimated(text)

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.close()

    async def answer(self, prompt: Prompt) -> Answer:
        """Return the endpoint's answer, or the failure of its last attempt."""
        if self._breaker.wait > PATIENCE_S:
            return self._not_asked()
        async with self._room:
            return await self._think(completions.request(self._settings, prompt))

    def _not_asked(self) -> Answer:
        self._note(Outcome.NOT_ASKED)
        return Answer(error=self.trouble(), asked=False, outage=True)

    async def _think(self, body: bytes) -> Answer:
        began = perf_counter()
        try:
            completion = await self._ask(body, began + 2 * self._timeout + RETRY_S + _SLACK_S)
        except EndpointError as error:
            log.debug("no_answer", error=str(error))
            return Answer(error=str(error), latency_ms=_ms(began), outage=error.is_outage)
        if completion is None:
            return self._not_asked()
        return Answer(
            text=completion.text,
            model=self.model,
            finish_reason=completion.finish_reason,
            usage=completion.counted(),
            latency_ms=_ms(began),
        )

    async def _ask(self, body: bytes, deadline: float) -> Completion | None:
        """Return an answer, asked for twice if need be; None where the endpoint is left alone."""
        permit = await self._permit(deadline)
        if permit is None:
            return None
        try:
            return await self._attempt(body, permit)
        except EndpointError as error:
            if not error.again or not self._is_soon(deadline):
                raise
            await asyncio.sleep(RETRY_S)
            permit = await self._permit(deadline)
            if permit is None:
                raise
        return await self._attempt(body, permit)

    async def _permit(self, deadline: float) -> Permit | None:
        """Return leave to make a request, waited for where it comes soon."""
        while self._breaker.wait:
            if not self._is_soon(deadline):
                return None
            await asyncio.sleep(self._breaker.wait)
        return self._breaker.admit()

    def _is_soon(self, deadline: float) -> bool:
        """Whether a request may be made so early that it has all the time of an attempt."""
        spare = deadline - self._timeout - perf_counter()
        return self._breaker.wait <= max(min(PATIENCE_S, spare), 0.0)

    async def _attempt(self, body: bytes, permit: Permit) -> Completion:
        try:
            completion = await self._request(body)
        except EndpointError as error:
            permit.failed(error)
            self._note(error.outcome)
            raise
        except BaseException:
            permit.withdrawn()
            self._note(Outcome.CANCELLED)
            raise
        permit.succeeded()
        self._note(Outcome.ANSWERED)
        return completion

    async def _request(self, body: bytes) -> Completion:
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._pool.ask(body)
        except TimeoutError:
            raise faults.of_timeout(round(self._timeout * 1000)) from None
        except HttpError as error:
            raise faults.of_http(error) from error
        return _read(response)

    def _note(self, outcome: Outcome) -> None:
        self.watcher.requested(Requested(outcome))

    def _moved(self, to: Transition) -> None:
        if to.pause:
            log.debug("endpoint_left_alone", error=str(to.because), seconds=round(to.pause, 1))
        self.watcher.moved(to)


def shown(url: str) -> str:
    """Return a URL without the name and password that may stand in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _pool(settings: ThinkerSettings) -> Pool:
    headers = {
        "User-Agent": _AGENT,
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
    }
    if settings.api_key is not None:
        headers["Authorization"] = f"Bearer {settings.api_key}"
    try:
        return Pool(settings.endpoint, headers, ANSWER_BYTES)
    except ValueError as error:  # also a host that is no name
        raise ConfigurationError(
            f"{PREFIX}THINKER_BASE_URL or {PREFIX}THINKER_API_KEY cannot be used: {error}"
        ) from error


def _read(response: Response) -> Completion:
    """Return the completion of a whole answer. Raises `EndpointError`."""
    if response.status != 200:
        raise faults.of_status(response.status, response.headers, response.body)
    return completions.parse(response.body)


def _ms(began: float) -> int:
    return round((perf_counter() - began) * 1000)
