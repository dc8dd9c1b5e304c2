"""Families that are not covered here: CTranslate2's own converter, where torch is installed."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.models.architecture import COVERED, family_of
from libs.models.check import as_stored
from libs.models.convert import copy_tokenizer
from libs.models.errors import NotCovered


def require_torch(config: dict[str, Any]) -> None:
    """Raise `NotCovered` for a family that is not covered here, where torch is missing."""
    if config.get("quantization_config"):
        raise NotCovered("the model is quantised already. Pull the unquantised one: it is quantised here")
    if importlib.util.find_spec("torch") is None:
        raise NotCovered(
            f"models of the family {family_of(config)!r} cannot be converted here. Covered: {COVERED}. "
            "CTranslate2's own converter knows more (Mistral, Gemma, Gemma 3, …) and is used where torch is "
            "installed beside Perpetua"
        )


def convert_officially(source: Path, target: Path, compute_type: str) -> None:
    """Convert with torch, all weights in memory. Raises `NotCovered` or `SourceError`."""
    from ctranslate2.converters import TransformersConverter
    from transformers.utils.logging import disable_progress_bar

    quieten: Any = disable_progress_bar
    quieten()  # a pull has bars of its own
    try:
        TransformersConverter(str(source), low_cpu_mem_usage=True).convert(
            str(target), quantization=compute_type
        )
    except (ValueError, AttributeError, KeyError, TypeError, RuntimeError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__).partition(" (")[0]
        raise NotCovered(
            f"CTranslate2's converter cannot convert this model: {first}. Covered: {COVERED}"
        ) from error
    _complete(target / "config.json", copy_tokenizer(source, target))


def _complete(config: Path, tokenizer: Any) -> None:
    """Name the tokens that the converter leaves null: such a model cannot be loaded (Mistral, Gemma)."""
    written = json.loads(config.read_bytes())
    stands_in = {"unk_token": "", "bos_token": tokenizer.eos_token}
    missing = {name: token for name, token in stands_in.items() if written.get(name) is None}
    config.write_text(json.dumps(written | missing, indent=2, sort_keys=True) + "\n")


def torch_logits(source: Path, ids: Sequence[int], compute_type: str) -> NDArray[np.float32]:
    """Return the source's logits by torch, its matrices rounded as stored: `(tokens, vocabulary)`."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(source), dtype=torch.float32, local_files_only=True)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.from_numpy(np.array(as_stored(weight.numpy(), compute_type))))
        logits: NDArray[np.float32] = model(torch.tensor([list(ids)])).logits[0].numpy()
    return logits
