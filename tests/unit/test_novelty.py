"""How new a thought is [A19]."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cognition.novelty import HASHES, containment, novelty, signature, similarity
from libs.contracts.limits import NOVELTY_THRESHOLD

TEXTS = st.text(max_size=300)
WORDS = st.lists(st.sampled_from("abcdefgh"), max_size=60).map(" ".join)
PROMPT = "You are the inner voice of one persona. Say what you observe: one to three concrete signals."


def prose(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [f"word{rng.randrange(5000)}" for _ in range(count)]


def changed(words: list[str], count: int, seed: int) -> list[str]:
    """The words with so many of them replaced."""
    rng = random.Random(seed)
    found = list(words)
    for at in rng.sample(range(len(words)), count):
        found[at] = f"other{at}"
    return found


def exact(one: str, other: str) -> float:
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return set(zip(words, words[1:], words[2:], strict=False)) if len(words) > 2 else {tuple(words)}

    both, either = shingles(one) & shingles(other), shingles(one) | shingles(other)
    return len(both) / len(either)


@pytest.mark.fact("A19")
def test_a_signature_is_the_same_in_every_process() -> None:
    assert signature("The sea is calm tonight.").hex() == "37810ba7ae068686dd5414d2"


@pytest.mark.fact("A19")
@given(TEXTS, TEXTS)
def test_a_similarity_is_symmetric_within_its_bounds_and_whole_for_the_same_text(
    one: str, other: str
) -> None:
    ours, theirs = signature(one), signature(other)
    assert len(ours) <= 4 * HASHES
    assert 0.0 <= similarity(ours, theirs) == similarity(theirs, ours) <= 1.0
    assert similarity(ours, ours) == (1.0 if ours else 0.0)


@pytest.mark.fact("A19")
@given(TEXTS, st.lists(TEXTS, max_size=4), TEXTS)
def test_novelty_is_from_0_to_1(text: str, recent: list[str], prompt: str) -> None:
    assert 0.0 <= novelty(text, [signature(known) for known in recent], prompt) <= 1.0


@pytest.mark.fact("A19")
@given(
    WORDS.filter(lambda text: 0 < len(text.split()) <= 18), WORDS.filter(lambda t: 0 < len(t.split()) <= 18)
)
def test_of_short_texts_the_similarity_is_exact(one: str, other: str) -> None:
    """Up to 32 shingles in both together, all of them are in the signatures."""
    assert similarity(signature(one), signature(other)) == pytest.approx(exact(one, other))


@pytest.mark.fact("A19")
@pytest.mark.parametrize("changes", [0, 1, 3, 10, 30, 100])
def test_of_long_texts_the_similarity_is_near_the_truth(changes: int) -> None:
    errors = []
    for seed in range(40):
        words = prose(300, seed)
        one, other = " ".join(words), " ".join(changed(words, changes, seed))
        errors.append(similarity(signature(one), signature(other)) - exact(one, other))
    assert abs(sum(errors) / len(errors)) < 0.04, "no bias"
    assert max(abs(error) for error in errors) < 0.3


@pytest.mark.fact("A19")
def test_a_thought_that_says_the_same_with_a_few_words_changed_repeats() -> None:
    for seed in range(20):
        words = prose(100, seed)
        recent = [signature(" ".join(prose(100, 1000 + seed))), signature(" ".join(words))]
        again = " ".join(changed(words, 3, seed)).upper().replace(" ", "\n ")
        assert novelty(again, recent, PROMPT) < NOVELTY_THRESHOLD


@pytest.mark.fact("A19")
def test_a_thought_of_the_same_words_in_another_order_is_new() -> None:
    for seed in range(20):
        words = prose(100, seed)
        recent = [signature(" ".join(words))]
        random.Random(seed).shuffle(words)
        assert novelty(" ".join(words), recent, PROMPT) > 0.9


@pytest.mark.fact("A19")
def test_a_thought_that_parrots_its_prompt_is_not_new() -> None:
    assert novelty("Say what you observe: one to three concrete signals.", [], PROMPT) == 0.0
    half = novelty("The inner voice of one persona watches over seven quiet harbours", [], PROMPT)
    assert 0.5 < half < 0.7, "what is new is the part of it that the prompt does not have"
    assert containment("", PROMPT) == 0.0


@pytest.mark.fact("A19")
def test_a_thought_of_one_or_two_words_repeats_only_the_same_one() -> None:
    assert novelty("Persona", [], PROMPT) == 1.0, "by chance it is in any prompt"
    recent = [signature("All calm.")]
    assert novelty("all calm", recent, PROMPT) == 0.0
    assert novelty("all stormy", recent, PROMPT) == 1.0


@pytest.mark.fact("A19")
@pytest.mark.parametrize("text", ["", " \n", "…", "!?"])
def test_a_thought_without_words_is_not_new(text: str) -> None:
    assert novelty(text, [], PROMPT) == 0.0
    assert similarity(signature(text), signature(text)) == 0.0
