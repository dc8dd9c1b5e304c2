"""Prompt markers of the chat formats in use, broken in what people wrote: it is data.

For a model in the process its own tokenizer's special tokens are broken. Of a model behind an endpoint the
tokenizer is not known, and some servers read special tokens in a message's content, too.
"""

from __future__ import annotations

import re

BREAK = "\u200b"
"""A zero-width space."""

_MARKER = re.compile(
    r"<(?=[|\uff5c][^<>\n]{1,60}[|\uff5c]>)"  # ChatML, Llama 3, Phi, DeepSeek
    r"|<(?=/?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn|think|tool_call|tool_response)>)"  # Gemma, Qwen
    r"|<(?=</?SYS>>)"  # Llama 2
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])",  # Mistral
    re.IGNORECASE,
)


def neutral(text: str) -> str:
    """Return text that reads the same and in which no marker stands."""
    if "<" not in text and "[" not in text:
        return text
    return _MARKER.sub(lambda found: found[0] + BREAK, text)
