"""verl: Parquet files of prompts with tools in the text, and the reward function."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet

from pivotrl.records import SkippedTurn
from pivotrl.rows.readme import readme
from pivotrl.rows.rows import (
    Pivots,
    ProfiledTurn,
    Row,
    convert,
    expected_action,
    facts,
    json_text,
    require_action,
    text_prompt,
    tools_text,
)
from pivotrl.rows.settings import Settings, differences, yaml_text
from pivotrl.storage.record_files import write_file

_MESSAGES = arrow.list_(arrow.struct([("role", arrow.string()), ("content", arrow.string())]))
_NUMBERS = {
    "pivotrl_reward_mean": arrow.float64(),
    "pivotrl_reward_variance": arrow.float64(),
    "pivotrl_num_scored": arrow.int64(),
    "pivotrl_num_samples": arrow.int64(),
    "index": arrow.int64(),
}


def export(pivots: Pivots, folder: Path, *, data_source: str = "pivotrl", ability: str = "agent") -> list[SkippedTurn]:
    """Write ``train.parquet``, ``validation.parquet``, ``reward.py``, ``pivots.yaml`` and ``README.md``.

    Args:
        data_source: the name by which verl groups its metrics.
        ability: a column of verl's rows that does not affect training.

    Returns:
        the turns left out: arguments_not_an_object, no_expected_action, no_context.
    """

    def row(profiled: ProfiledTurn) -> Row:
        turn = profiled.turn
        require_action(turn)
        return {
            "data_source": data_source,
            "prompt": text_prompt(turn),
            "ability": ability,
            "reward_model": {"style": "rule", "ground_truth": json_text(expected_action(turn))},
            "extra_info": {**facts(profiled), "pivotrl_tools": tools_text(turn)},
            "agent_name": "single_turn_agent",
        }

    rows, skipped = convert(pivots, row)
    for split, made in rows.items():
        for index, one in enumerate(made):
            one["extra_info"] |= {"split": split, "index": index}
        _write(folder / f"{split}.parquet", made)
    write_file(folder / "reward.py", _REWARD.format(verifier=pivots.verifier))
    write_file(
        folder / "pivots.yaml", _configuration(pivots.settings, {split: len(made) for split, made in rows.items()})
    )
    write_file(folder / "README.md", readme("verl", pivots, rows, skipped, _START + _differences(pivots.settings)))
    return skipped


def _write(path: Path, rows: list[Row]) -> None:
    """With types that are the same in every file, so that files can be read together."""
    names = sorted({name for row in rows for name in row["extra_info"]})
    extra = arrow.struct([(name, _NUMBERS.get(name, arrow.string())) for name in names])
    reward = arrow.struct([("style", arrow.string()), ("ground_truth", arrow.string())])
    schema = arrow.schema(
        [
            ("data_source", arrow.string()),
            ("prompt", _MESSAGES),
            ("ability", arrow.string()),
            ("reward_model", reward),
            ("extra_info", extra),
            ("agent_name", arrow.string()),
        ]
    )
    buffer = arrow.BufferOutputStream()
    parquet.write_table(arrow.Table.from_pylist(rows, schema=schema), buffer)
    write_file(path, buffer.getvalue().to_pybytes())


_REWARD = '''\
"""verl calls compute_score: the verifier that profiled the turns judges what the policy wrote."""

from pivotrl.rows.rewards import verl_reward

compute_score = verl_reward({verifier!r})
'''


def _configuration(settings: Settings, num_rows: Mapping[str, int]) -> str:
    """verl's YAML, on top of its own defaults."""
    training = settings.training
    batch = min(training.turns_per_step, num_rows["train"])
    epochs = math.ceil(training.num_steps / max(1, num_rows["train"] // batch))
    prompt, response = settings.max_prompt_tokens or _PROMPT, training.train_max_tokens
    values = {
        "hydra": {"searchpath": ["pkg://verl.trainer.config"]},
        "defaults": ["ppo_trainer", "_self_"],
        "algorithm": {"adv_estimator": "grpo", "norm_adv_by_std_in_grpo": True, "use_kl_in_reward": False},
        "data": {
            "train_files": "train.parquet",
            "val_files": "validation.parquet" if "validation" in num_rows else "train.parquet",
            "train_batch_size": batch,
            "max_prompt_length": prompt,
            "max_response_length": response,
            "filter_overlong_prompts": True,
            "seed": training.train_seed,
        },
        "actor_rollout_ref": {
            "model": {
                "path": settings.model or _MODEL,
                "lora_rank": settings.lora_rank,
                "lora_alpha": settings.lora_alpha,
            },
            "actor": {
                "optim": {
                    "lr": settings.learning_rate,
                    "lr_warmup_steps": training.warmup_steps,
                    "weight_decay": training.weight_decay,
                },
                "ppo_mini_batch_size": batch,
                "ppo_epochs": training.num_epochs,
                "use_dynamic_bsz": True,
                "ppo_max_token_len_per_gpu": max(_TOKENS_AT_ONCE, prompt + response),
                "clip_ratio": training.clip_low,
                "clip_ratio_low": training.clip_low,
                "clip_ratio_high": training.clip_high,
                "loss_agg_mode": {"token": "token-mean", "sequence": "seq-mean-token-mean"}[training.loss_level],
                "use_kl_loss": training.kl_coefficient > 0,
                "kl_loss_coef": training.kl_coefficient,
                "kl_loss_type": "low_var_kl",
                "grad_clip": training.max_gradient_norm,
            },
            "rollout": {
                "name": "vllm",
                "n": training.group_size,
                "temperature": training.train_temperature,
                "tensor_model_parallel_size": 1,
                **({"load_format": "safetensors"} if settings.lora_rank else {}),  # verl sends an adapter alone
            },
        },
        "reward": {"custom_reward_function": {"path": "reward.py", "name": "compute_score"}},
        "trainer": {
            "total_training_steps": training.num_steps,
            "total_epochs": epochs,
            "save_freq": training.checkpoint_every,
            "test_freq": training.checkpoint_every,
            "logger": ["console"],
            "project_name": "pivotrl",
            "experiment_name": "pivots",
            "n_gpus_per_node": 1,
        },
    }
    return _HEAD + yaml_text(values)


def _differences(settings: Settings) -> str:
    training, found = settings.training, []
    if training.advantage == "leave_one_out":
        found.append("advantages: GRPO's mean and deviation of the whole group; pivotrl left the sample itself out")
    if training.decay != "constant":
        found.append(f"the learning rate stays constant; pivotrl's schedule was {training.decay}")
    found += [f"there is nothing like `{flag}`" for flag in settings.changed]
    found.append("turns are drawn at random, without pivotrl's order of tasks, and nothing ends a collapsed training")
    if settings.model is None:
        found.append(f"the model: put yours in place of `{_MODEL}`")
    return differences(found)


_MODEL = "your/model"
_PROMPT, _TOKENS_AT_ONCE = 8192, 16384
_HEAD = "# Written by pivotrl. python3 -m verl.trainer.main_ppo --config-path $PWD --config-name pivots\n"

_START = """\
verl's workers need pivotrl installed for the reward. In this folder:

    python3 -m verl.trainer.main_ppo --config-path $PWD --config-name pivots

`pivots.yaml` has the options of the run's training, or pivotrl's defaults, in verl's words. Any of them may be given on
the command line, such as `trainer.n_gpus_per_node=8`. (Older versions have `custom_reward_function` outside `reward`.)
verl drops prompts longer than `data.max_prompt_length` and prints how many are left: compare with the table above.
Tools stand in the system message, because verl's tools are those of the whole run: leave its tool configuration empty.
Thoughts of earlier turns are left out of the prompts. Where the verifier gives no verdict, `compute_score` stops the
run; `verl_reward(..., no_verdict=0.0)` in reward.py counts it as a failure instead.
"""
