"""What the journal says of what was sent to a persona [A2, A3, A5]: a fold, so a takeover forgets none of it.

Sources and ids of items are told apart by digests: a checkpoint holds them for as many as are kept.
"""

from __future__ import annotations

from hashlib import blake2b

from msgspec import Struct

from libs.contracts.journal import ItemArrived, StoredMail

RECENT_SOURCES = 8
"""Sources of inbox items that count as recent [A3]."""

IDS_KEPT = 64
"""Newest items whose ids are known again, should their publish be repeated."""

DIGEST = 8
"""Bytes of a digest."""


def digest(text: str) -> bytes:
    """Return the digest of an id or a source; empty where there is none."""
    return blake2b(text.encode(), digest_size=DIGEST).digest() if text else b""


class Standing(Struct, gc=False, eq=False):
    """How an item stands that is in an inbox."""

    base: int
    """Its priority when it arrived, in hundredths [A3]."""

    attempts: int = 0
    """Thoughts that took it up and came to nothing."""


class Mail:
    """What came for one persona; made when something does."""

    __slots__ = ("_ids", "_sources", "held")

    def __init__(self) -> None:
        self.held: dict[int, Standing] = {}
        """Items that are neither handled nor dropped, by their place in the INBOX stream."""

        self._sources = b""
        """Digests of the newest items' sources, the oldest first; so are `_ids` of their ids."""

        self._ids = b""

    def arrived(self, item: ItemArrived) -> None:
        """Fold an item that came."""
        self.held[item.sequence] = Standing(item.base)
        self._sources = (self._sources + item.source)[-RECENT_SOURCES * DIGEST :]
        self._ids = (self._ids + item.id)[-IDS_KEPT * DIGEST :]

    def is_recent(self, source_id: str) -> bool:
        """Whether one of the newest items has come from this source [A3]."""
        return bool(source_id) and _has(self._sources, digest(source_id))

    def knows(self, item_id: str) -> bool:
        """Whether an item of this id has come lately."""
        return _has(self._ids, digest(item_id))

    def dump(self) -> StoredMail:
        """Return it for a checkpoint."""
        held = [(sequence, one.base, one.attempts) for sequence, one in self.held.items()]
        return StoredMail(held, self._sources, self._ids)

    @classmethod
    def load(cls, stored: StoredMail) -> Mail:
        """Return what was dumped."""
        mail = cls()
        mail.held = {sequence: Standing(base, attempts) for sequence, base, attempts in stored.held}
        mail._sources, mail._ids = stored.sources, stored.ids
        return mail


def _has(kept: bytes, one: bytes) -> bool:
    return any(kept[at : at + DIGEST] == one for at in range(0, len(kept), DIGEST))
