"""What can go wrong on the bus, and whether trying again helps.

BusError
├── NoAnswer              the broker, or whoever was asked, does not answer; ask again
│   └── OutcomeUnknown        a publish: stored or not, nobody knows; repeat under the same fence
│       └── NoStream              no stream listens: without a leader for now, or not made
├── PublishRefused        the stream said no
│   ├── WrongLastSequence     another writer was faster, or the stream lost its tail
│   ├── SubjectFull           the bound of the subject or stream is reached; room may come
│   └── TooLarge              a message that the stream, or the broker itself, takes from nobody
├── ApiRefused            the JetStream API said no
├── StreamRewound         a stream holds less than was read from it: data was lost below us
└── InstanceTaken         another process runs under this instance name
"""

from __future__ import annotations

import msgspec

_WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
_FULL = "maximum"
_TOO_LARGE = 10054
_WITHOUT_LEADER = frozenset({10008, 10009, 10118})
_NOT_NOW = frozenset({10023, 10077})
"""The broker has no resources, or its store has failed: both pass, or an operator mends them."""

FORBIDDEN = 403
CONTENT_TOO_LARGE = 413
DENIED = "the broker does not allow it: is this the service's own key, and the broker's users.conf current?"

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
"""What decoding a message raises that is not what it should be."""


class BusError(Exception):
    """Something went wrong between this process and the broker."""


class NoAnswer(BusError):
    """Nobody answered a request in time."""

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(f"no answer on {subject}: {reason}")
        self.subject = subject


class OutcomeUnknown(NoAnswer):
    """A publish was not acknowledged in time. It may be stored all the same."""


class NoStream(OutcomeUnknown):
    """No stream listens on the subject: it has no leader now, or is not there at all."""

    def __init__(self, subject: str) -> None:
        super().__init__(subject, "no stream listens on it now")


class PublishRefused(BusError):
    """The stream did not store a message."""

    def __init__(self, subject: str, code: int, description: str) -> None:
        super().__init__(f"publish to {subject} refused: {description} ({code})")
        self.subject = subject
        self.code = code
        self.description = description


class WrongLastSequence(PublishRefused):
    """The expected sequence was not the last one."""

    @property
    def actual(self) -> int | None:
        """The last sequence according to the broker, 0 where it holds none.

        None where it does not say: it refuses so while another write to the subject is under way (10164).
        """
        tail = self.description.rsplit(" ", 1)[-1]
        return int(tail) if tail.isdigit() else None


class SubjectFull(PublishRefused):
    """The subject, or the whole stream, holds as many messages as it may."""


class TooLarge(PublishRefused):
    """A message weighs more than the stream, or the broker itself, takes."""

    @classmethod
    def of(cls, subject: str, size: int, most: int) -> TooLarge:
        """Return the error for a message of so many bytes."""
        return cls(subject, _TOO_LARGE, f"{size} bytes with headers, and the broker's max_payload is {most}")


class ApiRefused(BusError):
    """A JetStream API request was answered with an error."""

    def __init__(self, subject: str, status: int, code: int, description: str) -> None:
        super().__init__(f"{subject}: {description} ({status}/{code})")
        self.status = status
        self.code = code
        self.description = description

    @property
    def not_found(self) -> bool:
        """Whether what was asked for does not exist."""
        return self.status == 404


class StreamRewound(BusError):
    """A stream ends before a sequence that was read from it."""

    def __init__(self, stream: str, read: int, last: int) -> None:
        super().__init__(
            f"stream {stream} ends at {last}, but {read} was read from it: the broker lost data; "
            "start again to recover from what it holds"
        )


class InstanceTaken(BusError):
    """Two living processes share an instance name; the newer one stays."""

    def __init__(self, service: str, instance: str) -> None:
        super().__init__(
            f"another {service} took over the instance name {instance!r}; give each its own PERPETUA_INSTANCE"
        )


def is_without_leader(code: int) -> bool:
    """Whether the broker says by this JetStream error code that it cannot answer now: ask again."""
    return code in _WITHOUT_LEADER


def refused(subject: str, code: int, description: str) -> PublishRefused | OutcomeUnknown:
    """Return the error of a refused publish by its JetStream error code and text.

    What a stream says without a leader, resources or a sound disk is no refusal: the publish is to be
    repeated.
    """
    if code in _WRONG_LAST_SEQUENCE:
        return WrongLastSequence(subject, code, description)
    if code == _TOO_LARGE:
        return TooLarge(subject, code, description)
    if description.startswith(_FULL):
        return SubjectFull(subject, code, description)
    if is_without_leader(code) or code in _NOT_NOW:
        return OutcomeUnknown(subject, description)
    return PublishRefused(subject, code, description)
