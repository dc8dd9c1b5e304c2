"""Conversion without torch: the same files as the official converter's, and the same model as its source."""

from __future__ import annotations

import filecmp
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ctranslate2.converters.transformers as official
import numpy as np
import pytest

from libs.models import check
from libs.models.architecture import Architecture, Rope, read_architecture, read_config
from libs.models.convert import COMPUTE_TYPES, convert, load_tokenizer, name_tokens
from libs.models.errors import ConversionFault, NotCovered, SourceError
from libs.models.logits import converted_logits
from libs.models.source import Safetensors
from libs.models.spec import build_spec
from libs.models.variables import from_float32, to_float32
from tests.support.repositories import config, save_tensors, write

FAMILIES = ["qwen2", "qwen3", "llama"]


def converted(source: Path, target: Path, compute_type: str = "float32") -> tuple[Path, Architecture]:
    architecture = read_architecture(read_config(source))
    convert(source, architecture, target, compute_type, lambda _: None)
    return target, architecture


def checked(source: Path, folder: Path, compute_type: str, *, strict: bool = True) -> Any:
    architecture = read_architecture(read_config(source))
    ids = check.sample(architecture.vocabulary, architecture.window)
    expected = check.source_logits(source, architecture, compute_type)
    return check.check(folder, expected, ids, compute_type, strict=strict)


class Module(SimpleNamespace):
    """What the official loader takes for a torch module."""


def modules(source: Path) -> Module:
    """A model's weights in float32 as the official loader walks them."""
    root = Module()
    weights = Safetensors(source)
    for name in weights.names():
        at = root
        *path, last = name.split(".")
        for part in path:
            at.__dict__.setdefault(part, Module())
            at = at.__dict__[part]
        setattr(at, last, np.array(weights[name].float32()))  # the official one rounds in place
    layers = root.model.layers.__dict__
    root.model.layers = [layers[str(index)] for index in range(len(layers))]
    if not hasattr(root, "lm_head"):
        root.lm_head = root.model.embed_tokens
    root.config = SimpleNamespace(**read_config(source))
    return root


def officially(loader: str, source: Path, target: Path, compute_type: str, monkeypatch: Any) -> Path:
    """Convert by the official loader of the family, fed with numpy instead of torch."""
    monkeypatch.setattr(
        official, "transformers", SimpleNamespace(Conv1D=type("Conv1D", (), {})), raising=False
    )
    spec = official._MODEL_LOADERS[loader](modules(source), load_tokenizer(source))
    spec.config.bos_token = spec.config.bos_token or spec.config.eos_token  # Llama's own tokenizers have one
    spec.validate()
    spec.optimize(quantization=compute_type)
    target.mkdir()
    spec.save(str(target))
    return target


@pytest.mark.parametrize("compute_type", ["float32", "float16", "int8", "int8_float16"])
@pytest.mark.parametrize(("family", "loader"), [
    ("qwen2", "Qwen2Config"), ("qwen3", "Qwen3Config"), ("llama", "LlamaConfig"),
])  # fmt: skip
def test_files_are_the_official_converters_byte_for_byte(
    family: str, loader: str, compute_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rotary positions of the default kind; for llama3 the official ones are wrong, see below."""
    source = write(tmp_path / "source", family, rope_scaling=None)
    ours, _ = converted(source, tmp_path / "ours", compute_type)
    theirs = officially(loader, source, tmp_path / "theirs", compute_type, monkeypatch)
    for name in ("model.bin", "vocabulary.json"):
        assert filecmp.cmp(ours / name, theirs / name, shallow=False), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("compute_type", COMPUTE_TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_conversion_is_its_source_at_480_tokens(
    family: str, compute_type: str, dtype: str, tmp_path: Path
) -> None:
    """The strict bound is 0.01 of the logits' deviation; what is found is the order of float32 additions."""
    source = write(tmp_path / "source", family, dtype=dtype)
    folder, _ = converted(source, tmp_path / "made", compute_type)
    result = checked(source, folder, compute_type)
    assert result.tokens == 480
    assert result.largest < 1e-4
    assert result.same_first_choice == 1.0


def test_where_memory_is_short_int8_is_checked_in_int8_with_a_looser_bound(tmp_path: Path) -> None:
    source = write(tmp_path / "source", "qwen3")
    folder, _ = converted(source, tmp_path / "made", "int8")
    result = checked(source, folder, "int8", strict=False)
    assert result.computed_in == "int8"
    assert 1e-3 < result.root_mean_square < 0.1


def test_a_model_that_cannot_be_computed_in_int8_is_a_fault_that_says_why(tmp_path: Path) -> None:
    source = write(tmp_path / "source", "qwen3")
    folder, architecture = converted(source, tmp_path / "made", "int8")
    ids = check.sample(architecture.vocabulary, architecture.window)
    (folder / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:1000])
    with pytest.raises(ConversionFault, match=r"^the converted model cannot be loaded: "):
        converted_logits(folder, ids, [1], "int8")


@pytest.mark.parametrize("strict", [True, False])
def test_the_official_converters_llama3_fault_does_not_pass(
    strict: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It drops the factor and the original window of `rope_type: llama3`: silently wrong at 400 tokens."""
    source = write(tmp_path / "source", "llama")
    faulty = officially("LlamaConfig", source, tmp_path / "faulty", "int8", monkeypatch)
    with pytest.raises(ConversionFault, match="is not its source"):
        checked(source, faulty, "int8", strict=strict)
    ours, _ = converted(source, tmp_path / "ours", "int8")
    assert checked(source, ours, "int8").largest < 1e-4


@pytest.mark.parametrize("drop", ["rotary_scaling_factor", "original_max_position_embeddings"])
def test_both_values_of_llama3_are_needed(drop: str, tmp_path: Path) -> None:
    source = write(tmp_path / "source", "llama")
    architecture = read_architecture(read_config(source))
    spec = build_spec(architecture, Safetensors(source))
    name_tokens(spec, load_tokenizer(source), architecture.vocabulary)
    for layer in spec.decoder.layer:
        del layer.self_attention.__dict__[drop]
    spec.validate()
    spec.optimize(quantization="float32")
    (tmp_path / "faulty").mkdir()
    spec.save(str(tmp_path / "faulty"))
    with pytest.raises(ConversionFault):
        checked(source, tmp_path / "faulty", "float32")


@pytest.mark.parametrize("fault", ["swapped", "shifted", "theta"])
def test_other_faults_do_not_pass_either(fault: str, tmp_path: Path) -> None:
    source = write(tmp_path / "source", "qwen2")
    changed: dict[str, Any] = {"theta": {"rope_theta": 20_000.0}}.get(fault, {})
    wrong = write(tmp_path / "wrong", "qwen2", **changed)
    if fault != "theta":
        weights = {n: Safetensors(wrong)[n].float32() for n in Safetensors(wrong).names()}
        layer = "model.layers.1."
        if fault == "swapped":
            gate, up = f"{layer}mlp.gate_proj.weight", f"{layer}mlp.up_proj.weight"
            weights[gate], weights[up] = weights[up], weights[gate]
        else:
            name = f"{layer}self_attn.k_proj.weight"
            weights[name] = np.roll(weights[name], 1, axis=0)
        save_tensors(wrong / "model.safetensors", weights, "float32")
    folder, _ = converted(wrong, tmp_path / "made")
    with pytest.raises(ConversionFault):
        checked(source, folder, "float32")


def test_linear_scaling_and_untied_projections_and_biases_everywhere_are_covered(tmp_path: Path) -> None:
    scaling = {"rope_type": "linear", "factor": 4.0}
    source = write(tmp_path / "source", "qwen2", rope_scaling=scaling, tie_word_embeddings=False)
    folder, architecture = converted(source, tmp_path / "made")
    assert architecture.rope == Rope(theta=10_000.0, kind="linear", factor=4.0)
    assert checked(source, folder, "float32").largest < 1e-4


def test_rope_is_read_as_transformers_5_writes_it_too() -> None:
    new = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    assert read_architecture(config("qwen2", rope_theta=None) | new).rope == Rope(theta=5e5)


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("phi3", {}, "'phi3' cannot be converted"),
        ("smollm3", {}, "'smollm3' cannot be converted"),
        ("qwen2_moe", {}, "'qwen2_moe' cannot be converted"),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "'yarn'"),
        ("qwen2", {"use_sliding_window": True}, "sliding window"),
        ("qwen2", {"quantization_config": {"quant_method": "awq"}}, "quantised already (awq)"),
        ("llama", {"hidden_act": "gelu"}, "'gelu'"),
    ],
)
def test_what_is_not_covered_is_said(family: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(NotCovered) as caught:
        read_architecture(config(family, **changes))
    assert words in str(caught.value)


@pytest.mark.parametrize("missing", ["vocab_size", "num_attention_heads", "rms_norm_eps"])
def test_a_config_that_lacks_something_names_it(missing: str) -> None:
    whole = config("qwen2")
    del whole[missing]
    with pytest.raises(SourceError, match=missing):
        read_architecture(whole)


def test_bfloat16_is_rounded_to_the_nearest_even() -> None:
    """1 + 2^-8 lies between two bfloat16 and goes to the even one; 1 + 3 * 2^-8 likewise, upwards."""
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -3.140625, 0.0], np.float32)
    back = to_float32(from_float32(values, "bfloat16"), "bfloat16")
    assert back.tolist() == [1.0, 1.0, 1 + 2**-6, -3.140625, 0.0]


@pytest.mark.parametrize("damage", ["cut", "header", "offsets", "gone", "pickle"])
def test_damaged_files_are_refused(damage: str, tmp_path: Path) -> None:
    source = write(tmp_path / "source", "qwen2")
    weights = source / "model.safetensors"
    data = weights.read_bytes()
    if damage == "cut":
        weights.write_bytes(data[:-100])
    elif damage == "header":
        weights.write_bytes(b"\xff" * 8 + data[8:])
    elif damage == "offsets":
        weights.write_bytes(data.replace(b'"data_offsets": [0,', b'"data_offsets": [4,', 1))
    else:
        weights.unlink()
    with pytest.raises(SourceError) as caught:
        Safetensors(source)
    assert ("pickle" if damage in ("gone", "pickle") else "model.safetensors") in str(caught.value)
