"""SkyRL: JSON lines of prompts with tools in the text, and a one-step environment for the reward."""

from __future__ import annotations

from pathlib import Path

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
    write_json_lines,
)
from pivotrl.storage.record_files import write_file

_ENV_CLASS = "pivotrl"


def export(pivots: Pivots, folder: Path, *, data_source: str = "pivotrl") -> list[SkippedTurn]:
    """Write ``train.jsonl``, ``validation.jsonl``, ``main_pivotrl.py`` and ``README.md``.

    Args:
        data_source: the name by which SkyRL groups its evaluation.

    Returns:
        the turns left out: arguments_not_an_object, no_expected_action, no_context.
    """

    def row(profiled: ProfiledTurn) -> Row:
        turn = profiled.turn
        require_action(turn)
        return {
            "data_source": data_source,
            "prompt": text_prompt(turn),
            "env_class": _ENV_CLASS,
            "reward_spec": {"method": "rule", "ground_truth": json_text(expected_action(turn))},
            "extra_info": {**facts(profiled), "pivotrl_tools": tools_text(turn)},
        }

    rows, skipped = convert(pivots, row)
    for split, made in rows.items():
        write_json_lines(folder / f"{split}.jsonl", made)
    write_file(folder / "main_pivotrl.py", _MAIN.format(verifier=pivots.verifier))
    write_file(folder / "README.md", readme("SkyRL", pivots, rows, skipped, _start(sorted(rows))))
    return skipped


_MAIN = '''\
"""SkyRL's training with the environment of these rows: one action, judged by the verifier that profiled the turn."""

import sys

import skyrl_gym
from pivotrl.rows.rewards import RowReward
from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

REWARD = RowReward({verifier!r})


class PivotEnv(BaseTextEnv):
    def __init__(self, env_config=None, extras=None):
        super().__init__()
        self.turn = extras["extra_info"]["pivotrl_turn"]

    def step(self, action):
        reward = REWARD.number(action, self.turn)
        return BaseTextEnvStepOutput(observations=[], reward=reward, done=True, metadata={{}})


def main():
    import ray
    from skyrl.train.config import SkyRLTrainConfig
    from skyrl.train.entrypoints.main_base import BasePPOExp
    from skyrl.train.utils import validate_cfg
    from skyrl.train.utils.utils import initialize_ray

    @ray.remote(num_cpus=1)
    def train(config):
        skyrl_gym.register(id="pivotrl", entry_point=PivotEnv)
        BasePPOExp(config).run()

    config = SkyRLTrainConfig.from_cli_overrides(sys.argv[1:])
    validate_cfg(config)
    initialize_ray(config)
    ray.get(train.remote(config))


if __name__ == "__main__":
    main()
'''


def _start(splits: list[str]) -> str:
    validation = "validation" if "validation" in splits else "train"
    return f"""\
SkyRL's workers need pivotrl installed for the reward. `main_pivotrl.py` registers the environment `pivotrl` of these
rows and takes SkyRL's own settings:

    python main_pivotrl.py data.train_data="['train.jsonl']" data.val_data="['{validation}.jsonl']" \\
        trainer.algorithm.advantage_estimator=grpo generator.n_samples_per_prompt=8 \\
        trainer.max_prompt_length=8192 trainer.policy.model.path=your/model

SkyRL drops prompts longer than `trainer.max_prompt_length` and logs how many are left: compare with the table above.
Tools stand in the system message; thoughts of earlier turns are left out of the prompts. Where the verifier gives no
verdict the run stops; `RowReward(..., no_verdict=0.0)` counts it as a failure instead.
"""
