"""What sharing a prompt among its G samples saves, against plain rows, in one process.

    python benchmarks/bench_sharing.py

Prints time ratios (rows / shared) for sampling and for one update on Plancraft turns with SmolLM2-135M: interleaved,
with the median and the range over repetitions, and the ratio of tokens computed as the bound to compare with.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))
import crafting as setting
from pivotrl import TurnOptions, cut
from pivotrl.policies.hf import Policy
from pivotrl.protocols import TrainingGroup, UpdateOptions
from pivotrl.records import Sampling


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    turns, _ = cut(setting.reader(Path("train")), TurnOptions(max_turns=arguments.turns))
    policy = Policy(model=setting.MODEL, adapter=str(setting.WARM_START), frozen_layers=10)
    sampling = Sampling(max_tokens=setting.MAX_TOKENS)
    groups = list(policy.sample(turns, arguments.group_size, sampling))
    training = [
        TrainingGroup(turn, group.completions_G, [(-1.0) ** i for i in range(arguments.group_size)])
        for turn, group in zip(turns, groups, strict=True)
    ]

    def sample() -> None:
        list(policy.sample(turns, arguments.group_size, sampling))

    def update() -> None:
        policy.update(training, 0.0, UpdateOptions())

    prompt = sum(group.num_prompt_tokens for group in groups)
    action = sum(len(c.token_ids_T) for group in groups for c in group.completions_G)
    bound = (prompt * arguments.group_size + action) / (prompt + action)
    print(f"{arguments.turns} turns x {arguments.group_size} samples; {prompt} prompt and {action} action tokens")
    print(f"{'':<10}{'rows/shared, median':>22}{'range':>18}   tokens, rows/shared {bound:.2f}")
    for name, work in (("sampling", sample), ("update", update)):
        ratios = []
        for repetition in range(arguments.repetitions + 1):
            times = {}
            order = ("rows", "packed") if repetition % 2 else ("packed", "rows")
            for executor in order:
                policy.executor = executor
                times[executor] = seconds(work)
            if repetition:  # the first pair warms up
                ratios.append(times["rows"] / times["packed"])
        print(f"{name:<10}{statistics.median(ratios):>22.2f}{f'{min(ratios):.2f} to {max(ratios):.2f}':>18}")


if __name__ == "__main__":
    main()
