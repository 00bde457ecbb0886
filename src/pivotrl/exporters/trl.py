"""Hugging Face TRL: prompt and completion, for GRPOTrainer (which reads the prompt alone) and SFTTrainer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pivotrl.protocols import InputError
from pivotrl.records import Message, SkippedTurn
from pivotrl.rows.readme import readme
from pivotrl.rows.rows import (
    Pivots,
    ProfiledTurn,
    Row,
    Unfit,
    arguments_object,
    convert,
    facts,
    require_action,
    text_completion,
    text_prompt,
    tools_text,
    write_json_lines,
)
from pivotrl.storage.record_files import write_file


def export(pivots: Pivots, folder: Path, *, calls: Literal["text", "native"] = "text") -> list[SkippedTurn]:
    """Write ``train.jsonl``, ``validation.jsonl`` and ``README.md``.

    Args:
        calls: text: tools, calls and results are in the text of the messages. native: calls are ``tool_calls`` and
            tools a column ``tools``, which SFTTrainer renders by the model's chat template; GRPOTrainer knows no tools
            of single rows.

    Returns:
        the turns left out: no_expected_action, no_context, arguments_not_an_object (native: also in the context),
        action_not_writable (its text would read as another action).

    Raises:
        InputError: there is no such form of calls.
    """
    if calls not in ("text", "native"):
        raise InputError(f"no form of calls named {calls!r}; there are 'text' and 'native'")
    rows, skipped = convert(pivots, _text_row if calls == "text" else _native_row)
    for split, made in rows.items():
        write_json_lines(folder / f"{split}.jsonl", made)
    start = _TEXT.format(verifier=pivots.verifier) if calls == "text" else _NATIVE
    write_file(folder / "README.md", readme("TRL", pivots, rows, skipped, start))
    return skipped


def _text_row(profiled: ProfiledTurn) -> Row:
    turn = profiled.turn
    return {
        "prompt": text_prompt(turn),
        "completion": text_completion(turn),
        "pivotrl_tools": tools_text(turn),
        **facts(profiled),
    }


def _native_row(profiled: ProfiledTurn) -> Row:
    turn = profiled.turn
    require_action(turn)
    if not turn.context:
        raise Unfit("no_context")
    return {
        "prompt": [_native(message) for message in turn.context],
        "completion": [_native(turn.trajectory.messages[turn.index])],
        "tools": tools_text(turn),
        **facts(profiled),
    }


def _native(message: Message) -> Row:
    made: Row = {"role": message.role, "content": message.content or ""}
    if message.role == "assistant" and message.reasoning:
        made["reasoning_content"] = message.reasoning
    if message.tool_calls:
        made["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": arguments_object(call.arguments)}}
            for call in message.tool_calls
        ]
    return made


_TEXT = """\
GRPO on the prompts, rewarded by the verifier that profiled them:

    from datasets import load_dataset
    from pivotrl.rows.rewards import trl_reward
    from trl import GRPOConfig, GRPOTrainer

    data = load_dataset("json", data_files={{"train": "train.jsonl"}})["train"]
    trainer = GRPOTrainer(
        model="your/model",
        reward_funcs=trl_reward({verifier!r}),
        args=GRPOConfig(output_dir="out", num_generations=8, max_completion_length=256),
        train_dataset=data,
    )
    trainer.train()

SFT on the demonstrated actions, with the loss on the completion alone (TRL's default for such rows):

    from trl import SFTConfig, SFTTrainer

    settings = SFTConfig(output_dir="out", max_length=None)
    SFTTrainer(model="your/model", args=settings, train_dataset=data).train()

`max_length=None`, because SFTTrainer else cuts every row at 1024 tokens, and the action stands at the end.

Tools stand in the system message, because GRPOTrainer knows no tools of single rows: give it none. A tokenizer that
counts `<tool_call>` among its special tokens hides it from the reward; Qwen's does not. The tool schemas are there
once more in `pivotrl_tools`, as JSON text. Thoughts of earlier turns are left out of the prompts.
"""

_NATIVE = """\
SFT on the demonstrated actions. The model's chat template writes tools and calls:

    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    data = load_dataset("json", data_files={"train": "train.jsonl"})["train"]
    settings = SFTConfig(output_dir="out", max_length=None)
    SFTTrainer(model="your/model", args=settings, train_dataset=data).train()

`max_length=None`, because SFTTrainer else cuts every row at 1024 tokens, and the action stands at the end. Needs
`datasets` 4.7 or later: earlier ones give every call the arguments of all others, as nulls. `tools` is JSON
text, which SFTTrainer reads. For GRPO export with `calls='text'`: GRPOTrainer does not support tools per row.
"""
