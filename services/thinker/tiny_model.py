"""A tiny CTranslate2 model with random weights: the real path with gibberish for text.

`python -m services.thinker.tiny_model FOLDER` makes one of Qwen2's shape in two seconds and 200 KiB, with a
tokenizer and a chat template, without torch.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_CORPUS = (
    "a persona observes its charter and the recent context",
    "one hypothesis, its rationale and a note on its risk",
    "a check with an expected result and the quality of evidence",
    "a short summary of the state, with facts to retain",
)
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@dataclass(frozen=True)
class Shape:
    """Sizes of a Qwen2-like decoder."""

    layers: int = 2
    hidden: int = 64
    feed_forward: int = 128
    heads: int = 4
    kv_heads: int = 2
    vocabulary: int = 512


def build(folder: Path, shape: Shape = Shape(), *, quantization: str | None = "int8", seed: int = 0) -> None:
    """Write model, tokenizer and chat template into `folder`. Weights are normal with deviation 0.1."""
    tokenizer = _tokenizer(shape.vocabulary)
    spec = _spec(shape, len(tokenizer), seed)
    spec.register_vocabulary(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))))
    spec.validate()
    spec.optimize(quantization=quantization)
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    tokenizer.save_pretrained(str(folder))


def _tokenizer(vocabulary: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces.train_from_iterator(list(_CORPUS) * 8, trainer)
    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(tokenizer_object=pieces, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def _spec(shape: Shape, vocabulary: int, seed: int) -> Any:
    import numpy as np
    from ctranslate2.specs import common_spec, transformer_spec

    random = np.random.default_rng(seed)

    def weights(*size: int) -> Any:
        return random.normal(0, 0.1, size).astype(np.float32)

    ones = np.ones(shape.hidden, np.float32)
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        shape.layers,
        shape.heads,
        activation=common_spec.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=False,
        rotary_base=1e6,
        num_heads_kv=shape.kv_heads,
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = weights(vocabulary, shape.hidden)
    decoder.projection.weight = decoder.embeddings.weight
    decoder.layer_norm.gamma = ones
    attention_rows = (shape.heads + 2 * shape.kv_heads) * (shape.hidden // shape.heads)
    for layer in decoder.layer:
        attention, feed_forward = layer.self_attention, layer.ffn
        attention.layer_norm.gamma = feed_forward.layer_norm.gamma = ones
        attention.linear[0].weight = weights(attention_rows, shape.hidden)
        attention.linear[0].bias = weights(attention_rows)
        attention.linear[1].weight = weights(shape.hidden, shape.hidden)
        feed_forward.linear_0.weight = weights(shape.feed_forward, shape.hidden)
        feed_forward.linear_0_noact.weight = weights(shape.feed_forward, shape.hidden)
        feed_forward.linear_1.weight = weights(shape.hidden, shape.feed_forward)
    config = spec.config
    config.bos_token, config.eos_token, config.unk_token = "<|endoftext|>", "<|im_end|>", "<|endoftext|>"
    config.layer_norm_epsilon = 1e-6
    return spec


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m services.thinker.tiny_model FOLDER")
    build(Path(sys.argv[1]))
