"""Tokenizers for tests of rendering: a byte-level BPE trained in milliseconds, with a template's control tokens."""

# ruff: noqa: RUF001 - DeepSeek's own characters

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEMPLATES = Path(__file__).parent / "data" / "templates"
NAMES = sorted(path.stem for path in TEMPLATES.glob("*.jinja"))

_CONTROL = re.compile(r"<[|｜][^<>\n{}' ]{1,40}[|｜]>|<\|?/?[a-z_]{3,20}\|?>|\[/?[A-Z_]{4,20}\]|</?s>|\[gMASK\]")
_CORPUS = (
    "The quick brown fox jumps over the lazy dog. You are a helpful assistant. What is the weather in Paris today? "
    '{"name": "lookup", "arguments": {"q": "x", "limit": 5}, "parameters": {"type": "object"}} \n\n user system tool\n'
)

MISTRAL = (
    "{{ bos_token }}{% set users = messages|selectattr('role', 'equalto', 'user')|list %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% if tools and m == users[-1] %}[AVAILABLE_TOOLS] {{ tools|tojson }}[/AVAILABLE_TOOLS]"
    "{% endif %}[INST] {{ m.content }}[/INST]{% elif m.role == 'tool' %}[TOOL_RESULTS] "
    '{"content": {{ m.content|tojson }}, "call_id": "{{ m.tool_call_id }}"}[/TOOL_RESULTS]'
    "{% elif m.tool_calls %}[TOOL_CALLS] [{% for c in m.tool_calls %}"
    "{% if c.id is not defined or c.id|length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}"
    """{{ '{"name": "' + c.function.name + '", "arguments": ' + (c.function.arguments|tojson) + """
    """', "id": "' + c.id + '"}' }}{{ ', ' if not loop.last }}{% endfor %}]{{ eos_token }}"""
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
"""Our own, in the shape of Mistral's: no generation prompt, ids of nine characters, tools before the last question."""


def source(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


def control_strings(template: str) -> list[str]:
    """What looks like a control token in a template."""
    return sorted({found for found in _CONTROL.findall(template) if not found.startswith("<tools")})


@functools.cache
def small_tokenizer(template: str | None, control: tuple[str, ...], eos: str, plain: tuple[str, ...] = ()) -> Any:
    """A byte-level BPE with some merges.

    Args:
        control: special tokens.
        plain: added tokens that are not special, as ``<tool_call>`` is in Qwen's tokenizers.
    """
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=450, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator([_CORPUS] * 5, trainer)
    special = [text for text in dict.fromkeys([eos, *control]) if text not in plain]
    core.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    core.add_tokens([AddedToken(text, normalized=False, special=False) for text in plain])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token=eos, bos_token=eos, pad_token=eos)
    tokenizer.chat_template = template
    return tokenizer


_ENDS = (
    "<|END_OF_TURN_TOKEN|>",
    "<｜end▁of▁sentence｜>",
    "<|return|>",
    "<turn|>",
    "<end_of_turn>",
    "<|eot_id|>",
    "<|im_end|>",
    "</s>",
)


def tokenizer_for(name: str) -> Any:
    """A small tokenizer with the control tokens of a template: those of tool calls and thoughts are not special."""
    template = source(name)
    control = control_strings(template)
    plain = tuple(text for text in control if re.fullmatch(r"</?(tool_call|tool_response|think)>", text))
    eos = next((end for end in _ENDS if end in control), "<|endoftext|>")
    return small_tokenizer(template, tuple(text for text in control if text not in plain), eos, plain)
