"""Can the micro model learn? Imitation and PivotRL on the turns of 128 near trajectories, over learning rates.

python recipes/evidence/micro/learning.py [--methods sft pivotrl] [--rates 1e-5 1e-4 1e-3] [--steps 40]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import battery
from measure import MAX_TOKENS, MODEL, heldout_turns

from pivotrl import TrainingOptions, cut, train
from pivotrl.environments.errands import make_environments
from pivotrl.evaluation import EvaluationOptions, episode_success, evaluate_episodes, evaluate_turns, turn_accuracy
from pivotrl.plugins.environments import make_checked
from pivotrl.policies.hf import Policy
from pivotrl.readers.errands import read
from pivotrl.records import Trajectory
from pivotrl.verifiers.errands import verify


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--methods", nargs="+", default=["sft", "pivotrl"])
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3])
    parser.add_argument("--demonstrator", default="near")
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    turns, _ = cut(t for t in read(Path("train"), demonstrator=arguments.demonstrator) if isinstance(t, Trajectory))
    print(f"{len(turns)} turns")
    for method in arguments.methods:
        for rate in arguments.rates:
            with tempfile.TemporaryDirectory() as name:
                one(Path(name), arguments, method, rate, turns)


def one(folder: Path, arguments: argparse.Namespace, method: str, rate: float, turns: list) -> None:  # type: ignore[type-arg]
    policy = Policy(model=str(arguments.model), lora_rank=0)
    options = TrainingOptions(
        method=method,
        num_steps=arguments.steps,
        turns_per_step=16,
        group_size=8,
        learning_rate=rate,
        train_max_tokens=MAX_TOKENS,
        checkpoint_every=arguments.steps,
        average_over="all",
    )
    began, busy = time.monotonic(), time.process_time()
    train(policy, turns, verify, folder / "run", options)
    seconds, busy = time.monotonic() - began, time.process_time() - busy
    shares = []
    for temperature, samples in ((0.0, 1), (1.0, 4)):
        how = EvaluationOptions(
            eval_temperature=temperature, turn_samples=samples, eval_max_tokens=MAX_TOKENS, eval_batch=128
        )
        found = turn_accuracy(evaluate_turns(policy, heldout_turns(), verify, folder / f"{temperature}.jsonl", how))
        assert found is not None
        shares.append(found.mean)
    played = evaluate_episodes(
        policy, make_checked({"e": make_environments}), folder / "e", EvaluationOptions(eval_max_tokens=MAX_TOKENS)
    )
    success = episode_success(played)
    assert success is not None
    known = battery.accuracy(policy)["all"]
    print(
        f"{method:8} {rate:7.0e}: turns {shares[0]:.2f} greedy, {shares[1]:.2f} at T=1; episodes {success.mean:.2f}; "
        f"unrelated {known:.2f}; {seconds / arguments.steps:.2f} s a step ({busy / arguments.steps:.2f} s busy)",
        flush=True,
    )


if __name__ == "__main__":
    main()
