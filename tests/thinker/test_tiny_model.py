"""The tiny model says gibberish, but never nothing: with it every thought of a swarm is a model's."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from libs.models.convert import load_tokenizer
from libs.models.tiny import build
from services.thinker.prompt import Prompt
from tests.thinker.models import backend_of, sentence


async def test_each_token_that_it_says_is_text_to_read(tmp_path: Path) -> None:
    """Of a single token an answer is blank soonest, and at this temperature it says anything it can."""
    build(tmp_path / "tiny")
    prompts = [Prompt("s", sentence(1 + n % 40, n)) for n in range(600)]
    settings = {"MAX_TOKENS": "1", "TEMPERATURE": "2", "CT2_COMPUTE_TYPE": "int8"}
    async with backend_of(tmp_path / "tiny", **settings) as (backend, _):
        answers = await asyncio.gather(*(backend.answer(prompt) for prompt in prompts))
    said = [answer.text or "" for answer in answers]
    assert [text for text in said if not text.strip() or not text.isprintable() or "\ufffd" in text] == []
    assert all(answer.failure is None for answer in answers)
    assert len(set(said)) > 50, "it has more than a few to say"


def making(folder: Path) -> subprocess.Popen[bytes]:
    """A process that makes one, as `perpetua up --model tiny` has it made."""
    return subprocess.Popen([sys.executable, "-m", "libs.models.tiny", str(folder)])


def is_whole(folder: Path) -> bool:
    return (folder / "model.bin").is_file() and load_tokenizer(folder).chat_template is not None


KILLED = """
import os, runpy, signal, sys
from pathlib import Path
from transformers import PreTrainedTokenizerFast

def half(_, folder):
    (Path(folder) / "tokenizer.json").write_text('{"version": "1.')
    os.kill(os.getpid(), signal.SIGKILL)

PreTrainedTokenizerFast.save_pretrained = half
runpy.run_module("libs.models.tiny", run_name="__main__")
"""


def test_one_that_was_killed_as_it_was_made_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "tiny"
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob("tokenizer.json")), "half of it is somewhere"
    assert not folder.exists()
    with making(folder) as process:
        assert process.wait(100) == 0
    assert is_whole(folder)
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == ["tiny"]


def test_two_that_make_it_at_once_share_one(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    with making(folder) as one, making(folder) as other:
        assert (one.wait(100), other.wait(100)) == (0, 0)
    assert is_whole(folder)
