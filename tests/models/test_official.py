"""Families that CTranslate2's own converter covers: converted, checked against torch, thought with.

Only where torch is installed (`conftest.py` leaves this file out elsewhere): nothing else here needs it.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from libs.models.tiny import tokenizer
from services.thinker.prompt import SYSTEM, Prompt
from tests.models.conftest import cli, one_line
from tests.support.hugging_face import generated
from tests.thinker.models import backend_of, sentence

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "query_pre_attn_scalar": 16,
    "vocab_size": 400,
}
TOKENS = 12


def written(folder: Path, family: str, **changes: Any) -> Path:
    """A small random model of a family, as transformers writes it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(7)
    made = tokenizer(373)
    ends = {"eos_token_id": made.eos_token_id, "bos_token_id": None, "pad_token_id": made.pad_token_id}
    config: Any = AutoConfig.for_model(family, **SMALL | ends | changes)
    loader: Any = AutoModelForCausalLM
    model = loader.from_config(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.1)
    model.save_pretrained(str(folder))
    made.save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize("family", ["mistral", "gemma", "gemma3_text"])
async def test_a_family_that_is_not_covered_here_is_converted_with_torch(family: str, tmp_path: Path) -> None:
    source = written(tmp_path / "source", family)
    done = cli(
        "pull",
        str(source),
        "--as",
        "theirs",
        "--compute-type",
        "float32",
        "--data-dir",
        str(tmp_path),
        "--json",
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout)
    assert (manifest["converter"], manifest["family"]) == ("ctranslate2", family)
    assert manifest["check"]["tokens"] == 480
    assert manifest["check"]["largest"] < 1e-3
    settings = {"REPEAT_PENALTY": "1", "MAX_TOKENS": str(TOKENS), "CT2_LENGTH_STEP": "1"}
    async with backend_of(Path(manifest["path"]), **settings) as (backend, loaded):
        prompts = [Prompt(SYSTEM, sentence(1 + n, n)) for n in range(8)]
        answers = await asyncio.gather(*(backend.answer(prompt) for prompt in prompts))
        expected = generated(source, [loaded.chat.ids(prompt) for prompt in prompts], TOKENS)
    assert [answer.token_ids for answer in answers] == expected


@pytest.mark.parametrize("family", ["phi3", "qwen2_moe", "smollm3"])
def test_what_their_converter_cannot_do_is_said_in_one_line(family: str, tmp_path: Path) -> None:
    source = written(tmp_path / "source", family)
    line = one_line(cli("pull", str(source), "--as", "theirs", "--data-dir", str(tmp_path)))
    assert "CTranslate2's converter cannot convert this model" in line
    assert "Covered: Qwen2, Qwen3 and Llama" in line
    assert not (tmp_path / "models" / "theirs").exists()


def test_gemma_2_is_refused_since_ctranslate2_does_not_cap_its_logits(tmp_path: Path) -> None:
    """Without the two caps in its config it is converted right: they are what is lost."""
    source = written(tmp_path / "source", "gemma2")
    line = one_line(cli("pull", str(source), "--as", "theirs", "--data-dir", str(tmp_path)))
    assert "the converted model is not its source" in line
    caps = {"final_logit_softcapping": None, "attn_logit_softcapping": None}
    uncapped = written(tmp_path / "uncapped", "gemma2", **caps)
    done = cli("pull", str(uncapped), "--as", "theirs", "--data-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_int8_is_checked_too(tmp_path: Path) -> None:
    source = written(tmp_path / "source", "mistral")
    done = cli(
        "pull", str(source), "--as", "theirs", "--compute-type", "int8", "--data-dir", str(tmp_path), "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["check"]["largest"] < 1e-3
