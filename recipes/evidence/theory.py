"""Theorems 3.2 and 3.3 on the micro model: the signal at a turn, and how training moves probabilities.

    python recipes/evidence/theory.py              # a few minutes on one idle core; writes results/theory.json
    python recipes/evidence/theory.py --small      # less; prints only

An accepted action is a best move in any of 11 wordings, so its exact probability is known and the pass rate is the
sum. What else is accepted (a thought before the command) is drawn so rarely that samples tell the same rate.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import theory_estimates as estimates
from micro_grid import MODEL, trajectories
from theory_estimates import DRIFTS, Array

from pivotrl import TrainingOptions, Turn, TurnOptions, cut, train
from pivotrl.engine.executors import Scored
from pivotrl.engine.items import Item
from pivotrl.environments.errands.planner import best_moves
from pivotrl.environments.errands.words import WORDINGS, Move
from pivotrl.environments.errands.world import parse_view
from pivotrl.policies.hf import Policy
from pivotrl.protocols import Notice
from pivotrl.records import Action, Sampling
from pivotrl.rollouts import sample_groups
from pivotrl.storage.record_files import package_versions, timestamp, write_file
from pivotrl.verifiers.errands import verify

RESULT = Path(__file__).parent / "results" / "theory.json"
GROUP = 8
DRAWN = 32
"""Samples of the base model at a turn: what is rejected there, and a check of the pass rate."""
LEVEL = 0.5
"""Mean pass rate at which methods are compared; the base model has 0.26 to 0.3."""
STEPS = (4, 10, 20)
RATES = (1.5e-4, 4e-4)
SEEDS = (0, 1, 2)
ARMS: dict[str, dict[str, Any]] = {
    "PivotRL": {"method": "pivotrl"},
    "PivotRL, KL 1": {"method": "pivotrl", "kl_coefficient": 1.0},
    "imitation": {"method": "sft"},
}
TRAINED = ("PivotRL", 4e-4, 0)
"""The trained policy at which Theorem 3.2 is measured too: most of its turns pass nearly always."""


def wordings(move: Move) -> list[str]:
    """The wordings of `population.py`, which the model has seen."""
    polite = "the " + move.what if move.what else ""
    texts = [wording.format(move.what) for wording in WORDINGS[move.verb]]
    return [*texts, *(f"please {wording.format(polite)}" for wording in WORDINGS[move.verb]), f"do: {move.text}"]


@dataclass(frozen=True)
class Menu:
    """A turn with every accepted action, and rejected ones as the base model draws them (with repetitions)."""

    turn: Turn
    prompt: tuple[int, ...]
    accepted: list[tuple[int, ...]]
    rejected: list[tuple[int, ...]]
    sampled_rate: float
    missed: int
    """Samples that pass and are no enumerated wording."""


def menus(policy: Policy, turns: Sequence[Turn]) -> list[Menu]:
    found = []
    for turn, group in zip(turns, sample_groups(turns, policy, verify, DRAWN, Sampling(max_tokens=16)), strict=True):
        view = parse_view(turn.context[-1].content or "")
        texts = [text for move in best_moves(view) for text in wordings(move)]
        accepted = [tuple(policy.renderer.encode_action(Action(content=text), turn)) for text in texts]
        drawn = list(zip(group.completions_G, group.verdicts_G, strict=True))
        rejected = [tuple(c.token_ids_T) for c, verdict in drawn if verdict.reward == 0.0]
        missed = sum(verdict.reward == 1.0 and tuple(c.token_ids_T) not in accepted for c, verdict in drawn)
        found.append(Menu(turn, policy.renderer.prompt(turn), accepted, rejected, group.mean or 0.0, missed))
    return found


def logprobs(policy: Policy, prompt: tuple[int, ...], actions: Sequence[tuple[int, ...]]) -> Array:
    """Log-probability of each action; equal ones are scored once."""
    different = list(dict.fromkeys(actions))
    (rows,) = policy.learner.token_logprobs([prompt], [different]) if different else ([],)
    known = {action: sum(row) for action, row in zip(different, rows, strict=True)}
    return np.array([known[action] for action in actions])


def gradient(policy: Policy, prompt: tuple[int, ...], actions: Sequence[tuple[int, ...]], weight_N: Array) -> Array:
    """Gradient over all parameters [P] of the weighted sum of the actions' log-probabilities."""
    parameters = list(policy.weights.trained().values())
    for parameter in parameters:
        parameter.grad = None
    weight_S = torch.tensor(np.repeat(weight_N, [len(action) for action in actions]), dtype=torch.float32)

    def loss(scored: Scored) -> torch.Tensor:
        return (weight_S[scored.index_S] * scored.logprobs_S).sum()

    policy.learner.executor.score([Item(prompt, list(actions))], loss=loss)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    return torch.cat([grad.flatten() for grad in grads]).double().numpy()


def signal(policy: Policy, found: Sequence[Menu], num_natural: int) -> dict[str, Any]:
    """Theorem 3.2 at one policy: norms of the gradient at each turn against the deviation of its reward."""
    ratios, fisher_P = [], np.zeros(1)
    for menu in found[:: max(1, len(found) // num_natural)][:num_natural]:
        actions = list(dict.fromkeys([*menu.accepted, *menu.rejected]))
        reward_N = np.array([float(action in menu.accepted) for action in actions])
        share_N = np.exp(logprobs(policy, menu.prompt, actions))
        share_N /= share_N.sum()
        score_NP = np.stack([gradient(policy, menu.prompt, [action], np.ones(1)) for action in actions])
        rate = float(share_N @ reward_N)
        if 1e-4 < rate < 1 - 1e-4:
            ratios.append(estimates.natural_norm(score_NP, share_N, reward_N) / np.sqrt(rate * (1 - rate)))
        fisher_P = fisher_P + share_N @ score_NP**2
    scale_P = 1.0 / np.sqrt(fisher_P / fisher_P.mean() + 1.0)  # damped by its mean
    rows = []
    for menu in found:
        share_N = np.exp(logprobs(policy, menu.prompt, menu.accepted))
        slope_P = gradient(policy, menu.prompt, menu.accepted, share_N)  # of the pass rate: sum of pi times score
        rate, norm = float(share_N.sum()), float(np.linalg.norm(slope_P))
        weighted = norm * estimates.signal_weight(rate, GROUP)
        rows.append((rate, norm, float(np.linalg.norm(scale_P * slope_P)), weighted))
    rate_I, *norms = np.array(rows).T
    deviation_I = np.sqrt(rate_I * (1 - rate_I))
    tasks = [menu.turn.trajectory.task_id for menu in found]
    kinds = ("plain", "diagonal", "equation_7")
    return {
        "mean_pass": float(rate_I.mean()),
        "natural_over_deviation": {"turns": len(ratios), "lowest": min(ratios), "highest": max(ratios)},
        **{kind: estimates.relation(deviation_I, norm, tasks) for kind, norm in zip(kinds, norms, strict=True)},
        "by_turn": {
            name: [float(f"{x:.4g}") for x in row] for name, row in zip(("pass", *kinds), np.array(rows).T, strict=True)
        },
    }


def measured(policy: Policy, found: Sequence[Menu], before: Sequence[tuple[Array, Array]]) -> Array:
    """[turns, DRIFTS]"""
    rows = []
    for menu, (accepted, rejected) in zip(found, before, strict=True):
        after = logprobs(policy, menu.prompt, [*menu.accepted, *menu.rejected])
        rows.append(estimates.drift(accepted, after[: len(accepted)], rejected, after[len(accepted) :]))
    return np.array(rows)


def trained(
    arm: str, rate: float, seed: int, found: Sequence[Menu], before: Sequence[tuple[Array, Array]], steps: Sequence[int]
) -> tuple[list[Array], Policy]:
    """Drifts at step 0 and at each checkpoint, and the policy at the last."""
    policy = Policy(model=str(MODEL), lora_rank=0)
    turns, _ = cut(trajectories("train", "near", 1000 * seed, 32), TurnOptions())
    values = [np.array([estimates.drift(accepted, accepted, rejected, rejected) for accepted, rejected in before])]
    with tempfile.TemporaryDirectory() as name:
        for step in steps:  # more steps than the folder has go on from there
            options = TrainingOptions(
                **ARMS[arm],
                num_steps=step,
                turns_per_step=16,
                turns_per_trajectory=1,
                group_size=GROUP,
                learning_rate=rate,
                train_max_tokens=16,
                train_seed=seed,
                checkpoint_every=step,
            )
            train(policy, turns, verify, Path(name), options)
            values.append(measured(policy, found, before))
    return values, policy


def summary(value_STD: Array) -> dict[str, Any]:
    """Of drifts [seeds, turns, DRIFTS]."""
    of = {name: value_STD[:, :, place] for place, name in enumerate(DRIFTS)}
    whole = of["kl_moved"] + of["kl_accepted"] + of["kl_rejected"]
    means = {name: estimates.mean_interval(of[name]) for name in DRIFTS}
    return {**means, "kl": estimates.mean_interval(whole), "share": estimates.share_interval(of["kl_moved"], whole)}


def compared(runs: dict[str, list[list[Array]]]) -> dict[str, Any]:
    """Each arm at the last checkpoint and at the level, and against imitation at the level. Arm -> seed -> drifts."""
    matched = {arm: [estimates.at_level(values, LEVEL) for values in seeds] for arm, seeds in runs.items()}
    found: dict[str, Any] = {}
    for arm, seeds in runs.items():
        found[arm] = {"last": summary(np.array([values[-1] for values in seeds])), "level": None, "against": None}
        if any(one is None for one in matched[arm]):
            continue
        level = np.array(matched[arm])
        found[arm]["level"] = summary(level)
        if arm != "imitation" and not any(one is None for one in matched["imitation"]):
            gap = level - np.array(matched["imitation"])
            found[arm]["against"] = {n: estimates.mean_interval(gap[:, :, i]) for i, n in enumerate(DRIFTS)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="few turns and one rate; writes nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", Notice)  # the rates are far above those for large models
    small, busy = arguments.small, time.process_time()
    steps, rates, seeds = (STEPS, RATES[1:], SEEDS[:2]) if small else (STEPS, RATES, SEEDS)
    near, _ = cut(trajectories("train", "near", 0, 128), TurnOptions(max_per_task=3, max_turns=24 if small else 240))
    held_out, _ = cut(trajectories("test", "near", 0, 8 if small else 36), TurnOptions(max_per_task=1))
    base = Policy(model=str(MODEL), lora_rank=0)
    seen, found = menus(base, near), menus(base, held_out)
    found = [menu for menu in found if len(menu.rejected) > 1]
    before = [(logprobs(base, m.prompt, m.accepted), logprobs(base, m.prompt, m.rejected)) for m in found]
    exact = [float(np.exp(logprobs(base, m.prompt, m.accepted)).sum()) for m in seen]
    sampled = [menu.sampled_rate for menu in seen]
    result: dict[str, Any] = {
        "pass_rate": {
            "enumerated": float(np.mean(exact)),
            "sampled": float(np.mean(sampled)),
            "passed_but_not_enumerated": sum(menu.missed for menu in seen) / (DRAWN * len(seen)),
        },
        "signal": {"before training": signal(base, seen, 4 if small else 12)},
        "shape": {},
    }
    print(json.dumps({**result["pass_rate"], "seconds": time.process_time() - busy}), flush=True)
    runs: dict[float, dict[str, list[list[Array]]]] = {rate: {arm: [] for arm in ARMS} for rate in rates}
    for number, seed in enumerate(seeds, 1):  # seed by seed, so that an early stop leaves whole seeds
        for rate in rates:
            for arm in ARMS:
                values, policy = trained(arm, rate, seed, found, before, steps)
                runs[rate][arm].append(values)
                print(arm, rate, seed, [round(float(v[:, 0].mean()), 3) for v in values], flush=True)
                if (arm, rate, seed) == TRAINED and not small:
                    result["signal"]["after PivotRL"] = signal(policy, seen, 12)
        result["shape"] = {f"{rate:g}": compared(of_arm) for rate, of_arm in runs.items()}
        result["about"] = about(seeds[:number], steps, len(found), busy)
        if small:
            print(json.dumps(result["shape"], indent=1))
        else:
            RESULT.parent.mkdir(parents=True, exist_ok=True)
            write_file(RESULT, (json.dumps(_rounded(result), indent=1) + "\n").encode())


def about(seeds: Sequence[int], steps: Sequence[int], num_held_out: int, busy: float) -> dict[str, Any]:
    return {
        "command": "python recipes/evidence/theory.py",
        "date": timestamp(),
        "machine": f"one of {os.cpu_count()} CPU cores, {platform.machine()}, no GPU",
        "seconds_of_cpu": round(time.process_time() - busy),
        "versions": package_versions(),
        "seeds": list(seeds),
        "steps": list(steps),
        "level": LEVEL,
        "held_out_turns": num_held_out,
        "group_size": GROUP,
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
