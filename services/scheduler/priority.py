"""How urgent an inbox item is for a persona when it arrives [A3]. Pure; priorities are integer hundredths."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from msgspec import Struct

from libs.contracts.inbox import InboxItem

BASE = 50
MENTIONED = 40
RECENT_SOURCE = 20
RELEVANT = 20
YOUNG = 10
MOST = 100

URGENT = 80
"""Items of a higher base priority wake their persona at once [A12]."""

YOUNG_S = 60.0
"""Younger than so many seconds at its arrival: an item stays what it was then, waiting adds to it [A4]."""

RELEVANT_FROM = 0.25
"""Overlap coefficient from which an item concerns a persona's role and charter."""

_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(
    _WORD.findall(
        # Lucene's English list
        "a an and are as at be but by for if in into is it no not of on or such that the their then there "
        "these they this to was will with "
        # and the words that questions, requests and charters are full of
        "about all also am any been can could did do does from get give had has have he hello her here hi "
        "him his how i its just let like made make may me more my need new now one our out please said "
        "say see she should so some take tell thanks than them think too try up us use want we were what "
        "when where which who why would you your"
    )
)


class Listener(Struct, frozen=True, gc=False):
    """What of a persona decides how much an item concerns it."""

    name: str
    """Folded for comparison; empty for a name that nobody can write behind an `@`."""

    words: frozenset[str]
    """Content words of its role and charter."""


@lru_cache(maxsize=1024)
def listener(name: str, role: str, charter: str) -> Listener:
    """Return a persona as a listener; the last 1024 asked for are remembered."""
    return Listener(_folded(name).lstrip("@"), content_words(f"{role} {charter}"))


def base_priority(item: InboxItem, persona: Listener, is_recent: bool, age_s: float) -> int:
    """Return an item's priority for a persona, 0 to 100.

    The sender's word decides where there is one. `is_recent` says whether the item's source is one of the
    persona's recent ones. `age_s` is how many seconds lay between the item's
    timestamp and its arrival; below zero, by clocks that differ, counts as young.
    """
    if item.priority is not None:
        return int(item.priority * MOST + 0.5)
    points = BASE
    if is_mentioned(persona.name, item):
        points += MENTIONED
    if is_recent:
        points += RECENT_SOURCE
    if is_relevant(persona.words, item.content):
        points += RELEVANT
    if age_s < YOUNG_S:
        points += YOUNG
    return min(points, MOST)


def is_mentioned(name: str, item: InboxItem) -> bool:
    """Whether an item names a persona, in its mentions or as `@Name` in its content.

    Case, width and the amount of white space do not matter. The name must end there: `@Ann` names neither
    Anna nor Ann-Marie. What stands behind a letter or digit is an address, no mention.
    """
    if not name:
        return False
    if any(_folded(mention).lstrip("@") == name for mention in item.mentions):
        return True
    text, sought = _folded(item.content), f"@{name}"
    at = text.find(sought)
    while at >= 0:
        if not (at and _of_word(text[at - 1])) and not _goes_on(text, at + len(sought)):
            return True
        at = text.find(sought, at + 1)
    return False


def is_relevant(words: frozenset[str], content: str) -> bool:
    """Whether a text has enough of a persona's words.

    The measure is the overlap coefficient (Szymkiewicz–Simpson) of the two sets of content words: how many
    they share, divided by the size of the smaller one. So one word of a short message is enough, and a
    long message needs several.
    """
    said = content_words(content)
    smaller = min(len(said), len(words))
    return smaller > 0 and len(said & words) >= RELEVANT_FROM * smaller


@lru_cache(maxsize=256)
def content_words(text: str) -> frozenset[str]:
    """Return a text's distinct words without stop words, folded, plurals as singulars.

    Remembered for the last 256 texts, since a swarm-wide post is looked at once a persona. Scripts that
    put no blanks between words give whole clauses, which hardly ever match.
    """
    words = {_singular(word) for word in _WORD.findall(_folded(text)) if word not in _STOP_WORDS}
    return frozenset(word for word in words if len(word) > 1)


def _singular(word: str) -> str:
    """Return a word without its plural ending, by the S-stemmer (Harman 1991)."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("us", "ss")):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return f"{word[:-3]}y"
    if word.endswith("es") and word.endswith(("aes", "ees", "oes")):
        return word
    return word[:-1]


@lru_cache(maxsize=256)
def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _of_word(character: str) -> bool:
    return character.isalnum() or character == "_" or unicodedata.category(character)[0] == "M"


def _goes_on(text: str, at: int) -> bool:
    """Whether a name would go on at an index: with a letter, digit or mark, or with `-` and one of these."""
    rest = text[at : at + 2]
    return bool(rest) and (
        _of_word(rest[0]) or (rest[0] in "-\u2010" and len(rest) == 2 and _of_word(rest[1]))
    )
