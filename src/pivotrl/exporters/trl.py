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
from pivotrl.rows.settings import Settings, differences, yaml_text
from pivotrl.storage.record_files import write_file


def export(pivots: Pivots, folder: Path, *, calls: Literal["text", "native"] = "text") -> list[SkippedTurn]:
    """Write ``train.jsonl``, ``validation.jsonl`` and ``README.md``; for GRPO also ``train.py`` and ``grpo.yaml``.

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
    start = _NATIVE
    if calls == "text":
        write_file(folder / "train.py", _TRAIN.format(verifier=pivots.verifier))
        write_file(folder / "grpo.yaml", _configuration(pivots.settings))
        start = _TEXT + _differences(pivots.settings)
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


def _configuration(settings: Settings) -> str:
    """For GRPOConfig and ModelConfig, on one device."""
    training = settings.training
    rate = {"constant": "constant_with_warmup", "linear": "linear"}[training.decay]
    values = {
        "model_name_or_path": settings.model or _MODEL,
        "use_peft": settings.lora_rank > 0,
        **({"lora_r": settings.lora_rank, "lora_alpha": settings.lora_alpha} if settings.lora_rank else {}),
        **({"lora_dropout": 0.0, "lora_target_modules": "all-linear"} if settings.lora_rank else {}),
        "output_dir": "out",
        "max_steps": training.num_steps * training.num_epochs,
        "per_device_train_batch_size": training.group_size,
        "gradient_accumulation_steps": training.turns_per_step,
        "num_generations": training.group_size,
        "num_iterations": training.num_epochs,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": rate,
        "warmup_steps": training.warmup_steps,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_gradient_norm,
        "epsilon": training.clip_low,
        "epsilon_high": training.clip_high,
        "beta": training.kl_coefficient,
        "loss_type": {"token": "dapo", "sequence": "grpo"}[training.loss_level],
        "scale_rewards": "group",
        "temperature": training.train_temperature,
        "max_completion_length": training.train_max_tokens,
        "seed": training.train_seed,
        "save_steps": training.checkpoint_every,
        "logging_steps": 1,
    }
    return "# Written by pivotrl. python train.py --config grpo.yaml\n" + yaml_text(values)


def _differences(settings: Settings) -> str:
    training, found = settings.training, []
    if training.advantage == "leave_one_out":
        found.append("advantages: GRPO's mean and deviation of the whole group; pivotrl left the sample itself out")
    if training.decay == "linear":
        found.append("the learning rate falls to 0; pivotrl's falls to a tenth")
    found += [f"there is nothing like `{flag}`" for flag in settings.changed]
    found.append("turns are drawn at random, without pivotrl's order of tasks, and nothing ends a collapsed training")
    if settings.model is None:
        found.append(f"the model: put yours in place of `{_MODEL}`")
    return differences(found)


_MODEL = "your/model"

_TRAIN = '''\
"""GRPO at the pivots, rewarded by the verifier that profiled them: python train.py --config grpo.yaml"""

from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer, ModelConfig, TrlParser, get_peft_config

from pivotrl.rows.rewards import trl_reward


def main() -> None:
    settings, model = TrlParser((GRPOConfig, ModelConfig)).parse_args_and_config()
    trainer = GRPOTrainer(
        model=model.model_name_or_path,
        reward_funcs=trl_reward({verifier!r}),
        args=settings,
        train_dataset=load_dataset("json", data_files="train.jsonl", split="train"),
        peft_config=get_peft_config(model),
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
'''

_TEXT = """\
GRPO on the prompts, rewarded by the verifier that profiled them. In this folder:

    python train.py --config grpo.yaml

`grpo.yaml` has the options of the run's training, or pivotrl's defaults, in TRL's words, for one device: with
`accelerate launch` on N devices divide `gradient_accumulation_steps` by N. Any option may be given on the command line
too.

SFT on the demonstrated actions, with the loss on the completion alone (TRL's default for such rows):

    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    data = load_dataset("json", data_files={"train": "train.jsonl"})["train"]
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
