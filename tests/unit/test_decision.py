"""The decision of a persona that has messages [H15]."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.cognition.decision import INSTRUCTION, Decision, NoDecision, parse_decision

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def said(**fields: Any) -> str:
    return json.dumps(fields)


@pytest.mark.fact("H15")
@given(
    st.booleans(),
    TEXT,
    st.sampled_from(
        ["{}", " \n{}\n\t", "```json\n{}\n```", "\n```\n{}\n```\n", "```{}```", "```JSON {} ```"]
    ),
    st.booleans(),
)
def test_one_object_is_read_with_white_space_and_a_fence_around_it(
    will_respond: bool, response: str, around: str, ascii_only: bool
) -> None:
    answer = json.dumps({"response": response, "will_respond": will_respond}, ensure_ascii=ascii_only)
    found = parse_decision(around.replace("{}", answer))
    assert found == Decision(will_respond, response)


@pytest.mark.fact("H15")
@pytest.mark.parametrize(
    ("will_respond", "response", "answer"),
    [
        (True, " Calm. ", "Calm."),
        (True, "", None),
        (True, " \n", None),
        (False, "", None),
        (False, "Calm.", None),
    ],
)
def test_false_or_an_empty_response_is_a_skip(will_respond: bool, response: str, answer: str | None) -> None:
    assert parse_decision(said(will_respond=will_respond, response=response)).answer == answer


@pytest.mark.fact("H15")
@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        (said(response="x"), "will_respond", "is missing"),
        (said(will_respond=True), "response", "is missing"),
        (said(will_respond="true", response="x"), "will_respond", "is a string, not a boolean"),
        (said(will_respond=1, response="x"), "will_respond", "is a number, not a boolean"),
        (said(will_respond=None, response="x"), "will_respond", "is null, not a boolean"),
        (said(will_respond=False, response=None), "response", "is null, not a string"),
        (said(will_respond=True, response=["x"]), "response", "is a list, not a string"),
        (said(will_respond=True, response={}), "response", "is an object, not a string"),
        (said(Will_Respond=True, response="x"), "will_respond", "is missing"),
        ('{"will_respond": true, "will_respond": false, "response": ""}', "will_respond", "is there twice"),
        (r'{"will_respond": true, "response": "\ud800"}', "response", "holds half of a surrogate pair"),
    ],
)
def test_a_missing_or_mistyped_field_is_an_error_that_names_it(text: str, field: str, problem: str) -> None:
    with pytest.raises(NoDecision) as caught:
        parse_decision(text)
    assert (caught.value.field, caught.value.problem) == (field, problem)
    assert str(caught.value) == f"no decision: {field}: {problem}"


GOOD = said(will_respond=True, response="x")


@pytest.mark.fact("H15")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "Sure, I respond.",
        f"Sure: {GOOD}",
        f"{GOOD} {GOOD}",
        f"{GOOD}.",
        f"```json\n{GOOD}",
        f"```\n```\n{GOOD}\n```\n```",
        f"```python\nprint()\n```\n{GOOD}",
        f"[{GOOD}]",
        "true",
        "null",
        "{'will_respond': True, 'response': 'x'}",
        "{will_respond: true, response: ''}",
        '{"will_respond": true, "response": "a\nb"}',
        GOOD[:-1],
        "```",
        "``````",
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
)
def test_anything_else_is_an_error_and_never_a_default(text: str) -> None:
    with pytest.raises(NoDecision, match=r"^no decision: the answer is ") as caught:
        parse_decision(text)
    assert caught.value.field is None
    assert len(str(caught.value)) < 200


@pytest.mark.fact("H15")
@given(st.text() | JSON.map(json.dumps) | st.dictionaries(
    st.sampled_from(["will_respond", "response", "why"]), JSON).map(json.dumps)
)  # fmt: skip
def test_whatever_a_model_says_is_a_decision_or_an_error(text: str) -> None:
    try:
        found = parse_decision(text)
    except NoDecision:
        return
    fields = json.loads(text)
    assert (fields["will_respond"], fields["response"]) == (found.will_respond, found.response)
    assert type(fields["will_respond"]) is bool and type(fields["response"]) is str


@pytest.mark.fact("H15")
def test_a_model_is_told_of_both_fields_in_prose_without_an_example_to_copy() -> None:
    assert "will_respond" in INSTRUCTION and "response" in INSTRUCTION
    assert not set('{}[]"`') & set(INSTRUCTION)
