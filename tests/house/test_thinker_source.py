"""What is done once in a thinker, and what its backends alone know, stands in one place [H1, H14]."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.parsing import parsed

ROOT = Path(__file__).parent.parent.parent
BACKENDS = "services/thinker/backends/"
MODEL_MAKERS = "libs/models/"
"""Models are pulled, converted and made here; no prompt is."""

FORMATS = re.compile(
    r"chat_template|AutoTokenizer|ChatTokenizer|backend_tokenizer|im_start|\[/?INST|header_id"
)
"""How models want to be asked, and by what they are told apart."""

ONCE = {
    "the model is loaded": ("Generator", None, "services/thinker/backends/ct2.py"),
    "the model is warmed up": ("generate_batch", ("max_length", 1), "services/thinker/backends/ct2.py"),
    "the consumer is bound": ("Puller", None, "services/thinker/service.py"),
    "readiness is reported": ("set_ready", None, "services/thinker/service.py"),
}
"""What is called, with which constant argument, and where."""


def sources(*folders: str) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text()


def calls(text: str) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.Call):
            named = node.func
            yield named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", ""), node


def has(call: ast.Call, argument: tuple[str, object] | None) -> bool:
    given = {(word.arg, word.value.value) for word in call.keywords if isinstance(word.value, ast.Constant)}
    return argument is None or argument in given


@pytest.mark.fact("H1")
@pytest.mark.parametrize("what", ONCE)
def test_exactly_one_place_does_it(what: str) -> None:
    name, argument, place = ONCE[what]
    found = [
        file
        for file, text in sources("services/thinker")
        for called, call in calls(text)
        if called == name and has(call, argument)
    ]
    assert found == [place]


@pytest.mark.fact("H14")
def test_only_backends_know_how_a_model_wants_to_be_asked() -> None:
    knowing = {file for file, text in sources("libs", "services") if FORMATS.search(text)}
    assert {file for file in knowing if not file.startswith((BACKENDS, MODEL_MAKERS))} == set()
    assert f"{BACKENDS}chat.py" in knowing, "the test sees what it looks for"


@pytest.mark.fact("H14")
def test_makers_of_models_are_no_way_around_the_backends() -> None:
    """What knows templates besides the backends is imported by no service but for its folder of models."""
    imported = {
        (file, line.strip())
        for file, text in sources("services")
        for line in text.splitlines()
        if re.match(r"\s*(from|import) libs\.models", line)
    }
    assert imported == {("services/thinker/backends/choosing.py", "from libs.models.store import Store")}
