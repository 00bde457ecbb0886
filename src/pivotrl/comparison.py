"""Several methods, one protocol, equal budgets, several seeds.

The arms of a seed share what was read, profiled and measured before training; each then selects, trains and is
measured on the same held-out items. The budget is computation in forward token-equivalents (a backward counts as two
forwards): what PivotRL spends on profiling and sampling, imitation may spend on more demonstrations.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl import stages
from pivotrl.evaluation import EvaluationOptions, compare, episode_success, turn_accuracy
from pivotrl.intervals import PairedDifference
from pivotrl.profiling import ProfileOptions, Progress, silent
from pivotrl.protocols import Environment, Policy, Reader, Turn, Verifier
from pivotrl.records import EpisodeResult, Record, SampleGroup, Trajectory, TurnResult
from pivotrl.rollouts import judge
from pivotrl.selection import Rule, SelectionOptions
from pivotrl.store import RecordFile, read_manifest, read_records
from pivotrl.training import TrainingOptions
from pivotrl.turns import TurnOptions


@dataclass(frozen=True)
class Arm:
    """One method: which turns, learned how, rewarded by what."""

    rule: Rule
    imitates: bool = False
    exact: bool = False
    """Reward only the demonstrated action itself (the paper's r_strict), while profiling and training."""


ARMS = {
    "sft_all": Arm("all", imitates=True),
    "sft_pivots": Arm("mixed", imitates=True),
    "random_turns": Arm("random"),
    "exact_reward": Arm("mixed", exact=True),
    "pivotrl": Arm("mixed"),
}


@dataclass(frozen=True)
class Protocol:
    """What every arm shares."""

    source: str
    heldout: str
    reader: Reader
    verifier: Verifier
    exact_verifier: Verifier
    make_policy: Callable[[int], Policy]
    """seed -> a fresh policy, the same for every arm of the seed."""
    environments: Callable[[], Sequence[Environment]] | None
    turns: TurnOptions
    profiling: ProfileOptions
    selection: SelectionOptions
    training: TrainingOptions
    imitation_rate: float
    """Learning rate of the imitation arms."""
    evaluation: EvaluationOptions


def run_seed(
    root: Path, seed: int, protocol: Protocol, arms: Iterable[str] = ARMS, progress: Progress = silent
) -> None:
    """Every arm of one seed, under ``root/seed<N>/<arm>``; goes on where it stopped."""
    shared = root / f"seed{seed}" / "shared"
    turn_options = dataclasses.replace(protocol.turns, draw_seed=seed)
    profiling = dataclasses.replace(protocol.profiling, profile_seed=seed)
    policy = protocol.make_policy(seed)
    stages.read_stage(protocol.source, shared, protocol.reader, heldout=protocol.heldout, progress=progress)
    stages.profile_stage(shared, policy, protocol.verifier, turn_options, profiling, progress)
    _evaluate(shared, "before", policy, protocol, progress)
    for name in arms:
        directory = root / f"seed{seed}" / name
        if not directory.exists():
            shutil.copytree(shared, directory)
        _run_arm(directory, ARMS[name], seed, protocol, turn_options, profiling, progress)


def _run_arm(
    directory: Path,
    arm: Arm,
    seed: int,
    protocol: Protocol,
    turn_options: TurnOptions,
    profiling: ProfileOptions,
    progress: Progress,
) -> None:
    policy = protocol.make_policy(seed)
    verifier = protocol.exact_verifier if arm.exact else protocol.verifier
    if arm.exact and not (directory / "select.manifest.json").exists():
        _judge_again(directory, verifier)
    stages.select_stage(directory, dataclasses.replace(protocol.selection, rule=arm.rule, selection_seed=seed))
    options = dataclasses.replace(protocol.training, train_seed=seed)
    if arm.imitates:
        groups = read_records(directory / "profiles.jsonl", SampleGroup)
        options = dataclasses.replace(
            options,
            method="sft",
            turns_per_step=imitation_turns_per_step(groups, protocol.training),
            learning_rate=protocol.imitation_rate,
            decay="linear",
        )
    stages.train_stage(directory, policy, verifier, options, progress)
    _evaluate(directory, "after", policy, protocol, progress)


def _evaluate(directory: Path, name: str, policy: Policy, protocol: Protocol, progress: Progress) -> None:
    stages.evaluate_stage(
        directory,
        name,
        policy,
        protocol.verifier,
        protocol.turns,
        protocol.evaluation,
        protocol.environments,
        progress=progress,
    )


def _judge_again(directory: Path, verifier: Verifier) -> None:
    """Give the samples that were bought already the verdicts of another verifier."""
    trajectories = {t.id: t for t in read_records(directory / "trajectories.jsonl", Trajectory)}
    judged = []
    for group in read_records(directory / "profiles.jsonl", SampleGroup):
        trajectory_id, _, index = group.turn_id.rpartition("#")
        turn = Turn(trajectories[trajectory_id], int(index))
        verdicts = tuple(judge(turn, completion, verifier) for completion in group.completions_G)
        judged.append(group.model_copy(update={"verdicts_G": verdicts}))
    (directory / "profiles.jsonl").unlink()
    RecordFile(directory / "profiles.jsonl", SampleGroup, key=lambda group: group.turn_id).append(judged)


def imitation_turns_per_step(groups: Sequence[SampleGroup], training: TrainingOptions) -> int:
    """Demonstrations per step that cost as much as PivotRL's profile and steps together, in as many steps.

    Every group is counted as trained on, with signal or without, so imitation is never given less.
    """
    prompt = sum(group.num_prompt_tokens for group in groups) / len(groups)
    lengths = [len(c.token_ids_T) for group in groups for c in group.completions_G]
    action = sum(lengths) / len(lengths)
    profile = sum(group.num_prompt_tokens for group in groups) + sum(lengths)
    group_cost = 4 * (prompt + training.group_size * action)  # one forward to sample, three to train
    total = profile + training.num_steps * training.turns_per_step * group_cost
    return round(total / (training.num_steps * 3 * (prompt + action)))


# --- results --------------------------------------------------------------------------------------------------------


def collect(root: Path) -> dict[str, Any]:
    """Every finished arm, pooled over seeds; differences are paired by (item, seed) and clustered by task."""
    turns: dict[str, list[tuple[int, Any]]] = {}
    episodes: dict[str, list[tuple[int, Any]]] = {}
    seeds: dict[str, list[int]] = {}
    kinds: tuple[tuple[str, type[Record], dict[str, list[tuple[int, Any]]]], ...] = (
        ("turns", TurnResult, turns),
        ("episodes", EpisodeResult, episodes),
    )
    for folder in sorted(root.glob("seed*")):
        seed = int(folder.name.removeprefix("seed"))
        for name in ("base", *ARMS):
            place, stage = (folder / "shared", "before") if name == "base" else (folder / name, "after")
            manifest = place / "evaluations" / f"{stage}.manifest.json"
            if not manifest.is_file() or read_manifest(manifest).status != "complete":
                continue
            seeds.setdefault(name, []).append(seed)
            for kind, model, store in kinds:
                path = place / "evaluations" / f"{stage}.{kind}.jsonl"
                if path.is_file():
                    store.setdefault(name, []).extend((seed, row) for row in read_records(path, model))
    return {
        name: {
            "seeds": numbers,
            "turns": _estimate(turn_accuracy, turns.get(name, [])),
            "episodes": _estimate(episode_success, episodes.get(name, [])),
            "turns_against": _against(name, turns, lambda item: f"{item[0]}/{item[1].turn_id}"),
            "episodes_against": _against(name, episodes, lambda item: f"{item[0]}/{item[1].task_id}"),
        }
        for name, numbers in seeds.items()
    }


def _estimate(function: Callable[[Any], Any], rows: Sequence[tuple[int, Any]]) -> dict[str, Any] | None:
    estimate = function([row for _, row in rows])
    return dataclasses.asdict(estimate) if estimate is not None else None


def _against(name: str, rows: dict[str, list[tuple[int, Any]]], key: Callable[[Any], str]) -> dict[str, Any]:
    """Paired difference to the untrained policy and to imitation of all turns."""
    found: dict[str, Any] = {}
    for other in ("base", "sft_all"):
        if other != name and other in rows and name in rows:
            difference: PairedDifference | None = compare(
                rows[other], rows[name], key, lambda item: item[1].reward, lambda item: item[1].task_id
            )
            if difference is not None:
                found[other] = dataclasses.asdict(difference)
    return found
