"""How a micro policy does: turns and episodes of Errands, unrelated questions, and what each takes on one thread.

python recipes/evidence/micro/measure.py [folder of a model] [--out base.json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
import battery

from pivotrl import Turn, TurnOptions, cut
from pivotrl.environments.errands import make_environments
from pivotrl.evaluation import EvaluationOptions, episode_success, evaluate_episodes, evaluate_turns, turn_accuracy
from pivotrl.plugins.environments import make_checked
from pivotrl.policies.hf import Policy
from pivotrl.readers.errands import read
from pivotrl.records import Sampling, Trajectory
from pivotrl.rollouts import sample_groups
from pivotrl.verifiers.errands import verify

MODEL = Path(__file__).parent / "model"
MAX_TOKENS = 72
"""The longest demonstration, a thought and JSON, has 65 tokens."""


def heldout_turns(num_turns: int | None = 128, demonstrator: Any = "near") -> list[Turn]:
    """Turns of test tasks, at most 3 of each."""
    trajectories = [one for one in read(Path("test"), demonstrator=demonstrator) if isinstance(one, Trajectory)]
    return cut(trajectories, TurnOptions(max_per_task=3, max_turns=num_turns))[0]


def measured(policy: Policy, num_turns: int = 128, num_episodes: int = 64) -> dict[str, float]:
    turns, numbers = heldout_turns(num_turns), dict[str, float]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def timed(key: str, value: Any) -> Any:
            numbers[f"seconds/{key}"] = round(time.monotonic() - began, 2)
            return value

        for key, temperature, samples in (("greedy", 0.0, 1), ("sampled", 1.0, 4)):
            options = EvaluationOptions(
                eval_temperature=temperature, turn_samples=samples, eval_max_tokens=MAX_TOKENS, eval_batch=128
            )
            began = time.monotonic()
            found = evaluate_turns(policy, turns, verify, folder / f"{key}.jsonl", options)
            timed(f"turns_{key}", None)
            estimate = turn_accuracy(found)
            assert estimate is not None
            numbers[f"turns/{key}"] = estimate.mean
            for limit in ("loose", "tight"):
                factory = {limit: lambda limit=limit: make_environments(tasks=num_episodes, limit=limit)}
                one = EvaluationOptions(eval_temperature=temperature, eval_max_tokens=MAX_TOKENS)
                began = time.monotonic()
                played = evaluate_episodes(policy, make_checked(factory), folder / f"{key}{limit}.jsonl", one)
                timed(f"episodes_{key}_{limit}", None)
                success = episode_success(played)
                assert success is not None
                numbers[f"episodes/{key}_{limit}"] = success.mean
    began = time.monotonic()
    groups = list(sample_groups(turns, policy, verify, 8, Sampling(max_tokens=MAX_TOKENS)))
    timed("profile_of_8", None)
    numbers["turns/mixed"] = sum(0 < (group.mean or 0) < 1 for group in groups) / len(groups)
    numbers["turns/prompt_tokens"] = sum(group.num_prompt_tokens for group in groups) / len(groups)
    drawn = [len(completion.token_ids_T) for group in groups for completion in group.completions_G]
    numbers["turns/action_tokens"] = sum(drawn) / len(drawn)
    began = time.monotonic()
    numbers |= {f"unrelated/{kind}": share for kind, share in battery.accuracy(policy).items()}
    timed("unrelated", None)
    return numbers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, nargs="?", default=MODEL)
    parser.add_argument("--out", type=Path, help="write the numbers as JSON, without the times")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numbers = measured(Policy(model=str(arguments.model), lora_rank=0))
    for key, value in numbers.items():
        print(f"{key:30} {value:.3f}")
    if arguments.out:
        kept = {key: round(value, 4) for key, value in numbers.items() if not key.startswith("seconds/")}
        arguments.out.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
