"""The same weights in Hugging Face's own model, for where torch is installed."""

from __future__ import annotations

from typing import Any

from bench.thinker_setup import SHAPES, Setup
from libs.models.convert import load_tokenizer
from libs.models.tiny import RandomWeights, architecture_of, mute_tokens
from services.thinker.backends.chat import ChatTokenizer
from services.thinker.prompt import Prompt

_TYPES = {"float32": "float32", "float16": "float16", "bfloat16": "bfloat16"}


class Torch:
    """A Qwen2 model that generates exactly so many tokens for padded batches."""

    def __init__(self, model: Any, chat: ChatTokenizer, setup: Setup, pad: int) -> None:
        self._model = model
        self._chat = chat
        self._setup = setup
        self._pad = pad

    def generate(self, asked: list[Prompt]) -> Any:
        """Generate for prompts padded to one length on the left. Returns ids, prompts included."""
        import torch

        rows = [self._chat.ids(prompt) for prompt in asked]
        longest = max(map(len, rows))
        ids = [[self._pad] * (longest - len(row)) + row for row in rows]
        mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
        with torch.inference_mode():
            return self._model.generate(
                input_ids=torch.tensor(ids, device=self._setup.device),
                attention_mask=torch.tensor(mask, device=self._setup.device),
                min_new_tokens=self._setup.tokens,
                max_new_tokens=self._setup.tokens,
                do_sample=False,
                pad_token_id=self._pad,
            )


def load_torch(setup: Setup) -> Torch:
    """Make the model of a setup. On a CPU in float32: torch has no int8 for it."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape, chat = SHAPES[setup.shape], ChatTokenizer.load(setup.folder)
    rows = shape.vocabulary or 0
    config: Any = Qwen2Config
    made = config(
        vocab_size=rows,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        rope_theta=1e6,
        tie_word_embeddings=True,
    )
    model: Any = Qwen2ForCausalLM(made)
    mute = mute_tokens(load_tokenizer(setup.folder), rows)
    weights = RandomWeights(architecture_of(shape, rows), 0, biases=True, mute=mute)
    state = {name: torch.from_numpy(weights[name].numpy()) for name in weights.names()}
    model.load_state_dict(state, strict=False)
    dtype = getattr(torch, _TYPES.get(setup.compute_type, "float32"))
    return Torch(model.to(device=setup.device, dtype=dtype).eval(), chat, setup, 0)
