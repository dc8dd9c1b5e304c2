"""How much of a thought is new [A19]. Pure, and the same in every process: no hash of Python's.

A text is the set of its runs of three words, its shingles. Two texts resemble each other as far as these
sets overlap, and a text is contained in another as far as its shingles are there (Broder 1997, "On the
resemblance and containment of documents"). Of each recent thought only the 32 least hashes are kept, from
which the resemblance is estimated: a bottom-k sketch, its standard error at most 0.09, exact for texts of
up to 34 words.

Words are runs of letters and digits without regard to case. In scripts without blanks these are clauses,
so there only what is repeated by the clause is found.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable

SHINGLE = 3
"""Words of a shingle."""

HASHES = 32
"""Hashes of a signature, of four bytes each."""

_WORD = re.compile(r"\w+")
_SPREAD = 0x9E3779B1
"""Knuth's multiplicative hash: an odd number near 2**32 over the golden ratio. It undoes CRC's linearity."""


def signature(text: str) -> bytes:
    """Return a text's signature: its 32 least hashes, ascending, four bytes each; empty without any word.

    A text of one or two words is one shingle.
    """
    hashes = sorted({zlib.crc32(" ".join(shingle).encode()) * _SPREAD % 2**32 for shingle in _shingles(text)})
    return struct.pack(f">{min(len(hashes), HASHES)}I", *hashes[:HASHES])


def similarity(one: bytes, other: bytes) -> float:
    """Return the estimated resemblance of two signed texts, 0 to 1; texts without words resemble nothing."""
    ours, theirs = _hashes(one), _hashes(other)
    least = sorted(ours | theirs)[:HASHES]
    return sum(number in ours and number in theirs for number in least) / len(least) if least else 0.0


def containment(text: str, source: str) -> float:
    """Return which part of a text's shingles stands in another text, 0 to 1.

    A text of one or two words counts as not contained: so little is in any prompt by chance.
    """
    shingles = _shingles(text)
    if not shingles or len(next(iter(shingles))) < SHINGLE:
        return 0.0
    return len(shingles & _shingles(source)) / len(shingles)


def novelty(text: str, recent: Iterable[bytes], prompt: str) -> float:
    """Return how new a thought is, 0 to 1: what neither a recent thought nor the prompt has already.

    `recent` are signatures of the persona's recent thoughts. A text without any word is not new.
    """
    own = signature(text)
    if not own:
        return 0.0
    repeated = max((similarity(own, known) for known in recent), default=0.0)
    return 1.0 - max(repeated, containment(text, prompt))


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    if len(words) < SHINGLE:
        return {tuple(words)} if words else set()
    return set(zip(words, words[1:], words[2:], strict=False))


def _hashes(signed: bytes) -> set[int]:
    return set(struct.unpack(f">{len(signed) // 4}I", signed))
