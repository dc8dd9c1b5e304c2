"""An OpenAI-compatible chat completions endpoint: Ollama, vLLM, llama.cpp, a hosted service."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

import aiohttp
import msgspec
import structlog
from msgspec import Struct

from libs.cognition.compose import Answer, failed
from libs.contracts.thoughts import Usage
from libs.settings.cognition import ThinkerSettings
from services.thinker.prompt import Prompt

log = structlog.get_logger("openai_compat")

RETRIED_STATUSES = frozenset({429, 502, 503, 504})
RETRY_AFTER_S = 0.5
CONCURRENCY = 128
ANSWER_BYTES = 4 * 1024 * 1024
"""The largest answer that is read, in bytes."""

_ERROR_CHARS = 200


class EndpointError(Exception):
    """An attempt that brought no answer; `again` says whether another one may."""

    def __init__(self, text: str, again: bool) -> None:
        super().__init__(text)
        self.again = again


class _Part(Struct):
    text: str | None = None


class _Message(Struct):
    content: str | list[_Part] | None = None


class _Choice(Struct):
    message: _Message | None = None
    finish_reason: str | None = None


class _Completion(Struct):
    choices: list[_Choice] = []
    usage: msgspec.Raw = msgspec.Raw(b"null")


_decode = msgspec.json.Decoder(_Completion).decode


class OpenAICompat:
    """Asks the endpoint for each prompt, side by side. Retries once where that can help [3.13]."""

    capacity = CONCURRENCY
    immediate = False
    ignores = ("THINKER_REPEAT_PENALTY", "THINKER_REPEAT_LAST_N", "THINKER_SEED")
    """Settings that this backend cannot honour."""

    def __init__(self, settings: ThinkerSettings, why: str) -> None:
        self.description = f"{settings.model} at {settings.endpoint}, because {why}"
        self.model: str | None = settings.model
        self._settings = settings
        self._room = asyncio.Semaphore(CONCURRENCY)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def answer(self, prompt: Prompt) -> Answer:
        """Return the endpoint's answer, or the failure of its last attempt."""
        async with self._room:
            return await self._ask(prompt)

    async def _ask(self, prompt: Prompt) -> Answer:
        began = perf_counter()
        try:
            try:
                completion = await self._attempt(prompt)
            except EndpointError as error:
                if not error.again:
                    raise
                await asyncio.sleep(RETRY_AFTER_S)
                completion = await self._attempt(prompt)
        except EndpointError as error:
            log.debug("no_answer", error=str(error))
            return failed(str(error), _ms(began))
        choice = completion.choices[0]
        return Answer(
            text=_text(choice.message),
            model=self.model,
            finish_reason=choice.finish_reason,
            usage=_usage(completion.usage),
            latency_ms=_ms(began),
        )

    async def _attempt(self, prompt: Prompt) -> _Completion:
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_ms / 1000)
        try:
            async with self._open_session().post(
                self._settings.endpoint, data=self._body(prompt), headers=self._headers(), timeout=timeout
            ) as response:
                data = await _read(response)
        except TimeoutError:
            raise EndpointError(f"no answer within {self._settings.timeout_ms} ms", again=True) from None
        except aiohttp.ClientError as error:
            raise EndpointError(f"{type(error).__name__}: {error}", again=True) from error
        if response.status != 200:
            excerpt = " ".join(data.decode(errors="replace").split())[:_ERROR_CHARS]
            raise EndpointError(f"HTTP {response.status}: {excerpt}", response.status in RETRIED_STATUSES)
        return _parse(data)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CONCURRENCY, keepalive_timeout=30)
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self._settings.api_key is not None:
            headers["Authorization"] = f"Bearer {self._settings.api_key}"
        return headers

    def _body(self, prompt: Prompt) -> bytes:
        body: dict[str, Any] = {
            "model": self._settings.model,
            "messages": [
                {"role": "system", "content": prompt.system},
                {"role": "user", "content": prompt.user},
            ],
            "temperature": self._settings.temperature,
            "max_tokens": self._settings.max_tokens,
            "stream": False,
        }
        if self._settings.top_p is not None:
            body["top_p"] = self._settings.top_p
        return msgspec.json.encode(body)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the body. Raises `EndpointError` for one that is far larger than any answer."""
    data = bytearray()
    async for piece in response.content.iter_chunked(65_536):
        data += piece
        if len(data) > ANSWER_BYTES:
            raise EndpointError(f"the answer is larger than {ANSWER_BYTES} bytes", again=False)
    return bytes(data)


def _parse(data: bytes) -> _Completion:
    try:
        completion = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EndpointError(f"not a chat completion: {error}", again=False) from error
    if not completion.choices:
        raise EndpointError("a chat completion without choices", again=False)
    return completion


def _usage(raw: msgspec.Raw) -> Usage | None:
    """Return what the endpoint counted; a count in another form is no reason to lose the answer."""
    try:
        usage: Usage | None = msgspec.json.decode(raw, type=Usage | None)
    except msgspec.DecodeError:
        return None
    return usage


def _text(message: _Message | None) -> str:
    content = message.content if message is not None else None
    if isinstance(content, list):
        return "".join(part.text or "" for part in content)
    return content or ""


def _ms(began: float) -> int:
    return round((perf_counter() - began) * 1000)
