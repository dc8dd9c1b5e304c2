"""Why an endpoint brought no answer, what that means for the next request, and what cures it.

EndpointError
├── outcome       one of the few words that metrics count
├── again         whether asking once more may help [3.13]
├── retry_after   seconds that the server asked to be left alone, if it did
├── weighs        what the failure says of the endpoint as a whole, for the circuit breaker
├── is_outage     whether it says nothing of the prompt
└── cure          what a person can do
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, StrEnum

from libs.settings.cognition import PREFIX
from services.thinker.backends.http_pool import HttpError, TooLarge, Unreachable

_BASE_URL = f"{PREFIX}THINKER_BASE_URL"
_EXCERPT_CHARS = 200
_AGAIN = frozenset({429, 502, 503, 504})
_OF_THE_PROMPT = frozenset({400, 408, 409, 413, 422})
"""Statuses that say something of one request, not of the endpoint."""


class Outcome(StrEnum):
    """What became of a request; `not_asked` is a thought for which none was made."""

    ANSWERED = "answered"
    UNAUTHORIZED = "unauthorized"
    THROTTLED = "throttled"
    REJECTED = "rejected"
    MISDIRECTED = "misdirected"
    SERVER_ERROR = "server_error"
    UNREACHABLE = "unreachable"
    CUT = "cut"
    TIMEOUT = "timeout"
    INVALID = "invalid"
    CANCELLED = "cancelled"
    NOT_ASKED = "not_asked"


_OUTAGES = frozenset(
    {
        Outcome.UNAUTHORIZED,
        Outcome.THROTTLED,
        Outcome.MISDIRECTED,
        Outcome.SERVER_ERROR,
        Outcome.UNREACHABLE,
        Outcome.CUT,
    }
)


class Weight(Enum):
    """What a failure says of the endpoint."""

    NONE = 0
    """Nothing: another prompt may well be answered."""

    ONE = 1
    """It may be down: several in a row mean it is."""

    ALL = 2
    """It will answer nobody until something is changed."""


class EndpointError(Exception):
    """An attempt that brought no answer. Its text is the cause."""

    def __init__(
        self,
        text: str,
        outcome: Outcome,
        cure: str,
        *,
        again: bool = False,
        retry_after: float | None = None,
        weighs: Weight = Weight.ONE,
    ) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.cure = cure
        self.again = again
        self.retry_after = retry_after
        self.weighs = weighs

    @property
    def is_outage(self) -> bool:
        """Whether the prompt has no part in it: it may be answered once the endpoint is what it should be.

        A prompt that takes too long, or whose answer is no answer, has.
        """
        return self.outcome in _OUTAGES


def of_timeout(limit_ms: int) -> EndpointError:
    """Return the fault of an attempt that took too long."""
    cure = f"lower {PREFIX}THINKER_CONCURRENCY, or raise {PREFIX}THINKER_TIMEOUT_MS"
    return EndpointError(f"no answer within {limit_ms} ms", Outcome.TIMEOUT, cure, again=True)


def of_http(error: HttpError) -> EndpointError:
    """Return the fault of an attempt without a whole answer."""
    if isinstance(error, Unreachable):
        cure = f"start the server, or set {_BASE_URL} to where it is"
        again = not error.is_refusal_of_certificate
        return EndpointError(str(error), Outcome.UNREACHABLE, cure, again=again)
    if isinstance(error, TooLarge):
        return of_garbage(str(error))
    cure = "look into the server's log"
    return EndpointError(str(error), Outcome.CUT, cure, again=True)


def of_garbage(text: str) -> EndpointError:
    """Return the fault of an answer that is no chat completion."""
    cure = f"check that {_BASE_URL} is the base of an OpenAI-compatible API (it usually ends in /v1)"
    return EndpointError(text, Outcome.INVALID, cure)


def of_status(status: int, headers: Mapping[str, str], body: bytes) -> EndpointError:
    """Return the fault of an answer whose status is not 200."""
    excerpt = " ".join(body[: 8 * _EXCERPT_CHARS].decode(errors="replace").split())[:_EXCERPT_CHARS]
    text = f"HTTP {status}: {excerpt}"
    if status in (401, 403):
        cure = f"set {PREFIX}THINKER_API_KEY to a key that the endpoint accepts"
        return EndpointError(text, Outcome.UNAUTHORIZED, cure, weighs=Weight.ALL)
    if 300 <= status < 400:
        target = headers.get("Location", "somewhere else")[:_EXCERPT_CHARS]
        cure = f"redirects are not followed: set {_BASE_URL} to the address itself"
        return EndpointError(f"HTTP {status}: redirects to {target}", Outcome.MISDIRECTED, cure)
    if status in _OF_THE_PROMPT:
        cure = "the endpoint does not take this request: see its words"
        return EndpointError(text, Outcome.REJECTED, cure, weighs=Weight.NONE)
    retry_after = seconds_of(headers.get("Retry-After"), datetime.now(UTC))
    again = status in _AGAIN
    if status == 429:
        cure = f"lower {PREFIX}THINKER_CONCURRENCY, or think less often"
        return EndpointError(text, Outcome.THROTTLED, cure, again=again, retry_after=retry_after)
    if status < 500:
        cure = f"check {_BASE_URL} and {PREFIX}THINKER_MODEL"
        return EndpointError(text, Outcome.MISDIRECTED, cure)
    cure = "look into the server's log"
    return EndpointError(text, Outcome.SERVER_ERROR, cure, again=again, retry_after=retry_after)


def seconds_of(retry_after: str | None, now: datetime) -> float | None:
    """Return the seconds that a `Retry-After` asks for, a number or an HTTP date; None for neither."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max((at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds(), 0.0)
