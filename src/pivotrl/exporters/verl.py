"""verl: Parquet files of prompts with tools in the text, and the reward function."""

from __future__ import annotations

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
    """Write ``train.parquet``, ``validation.parquet``, ``reward.py`` and ``README.md``.

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
    write_file(folder / "README.md", readme("verl", pivots, rows, skipped, _start(sorted(rows))))
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


def _start(splits: list[str]) -> str:
    validation = "validation" if "validation" in splits else "train"
    return f"""\
verl's workers need pivotrl installed for the reward:

    python3 -m verl.trainer.main_ppo algorithm.adv_estimator=grpo \\
        data.train_files=train.parquet data.val_files={validation}.parquet \\
        data.max_prompt_length=8192 data.max_response_length=512 \\
        actor_rollout_ref.model.path=your/model actor_rollout_ref.rollout.n=8 \\
        reward.custom_reward_function.path=reward.py reward.custom_reward_function.name=compute_score

(older versions without `reward.` in the last two names). verl drops prompts longer than `data.max_prompt_length` and
prints how many are left: compare with the table above. Tools stand in the system message, because verl's tools are
those of the whole run: leave its tool configuration empty. Thoughts of earlier turns are left out of the prompts.
Where the verifier gives no verdict, `compute_score` stops the run; `verl_reward(..., no_verdict=0.0)` in reward.py
counts it as a failure instead.
"""
