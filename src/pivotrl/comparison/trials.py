"""One trial: an arm at one learning rate and one seed, trained and measured at every checkpoint."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.comparison.arms import ARMS, Arm
from pivotrl.comparison.holding import held
from pivotrl.comparison.measuring import measure
from pivotrl.comparison.points import BASE, Costs, Point
from pivotrl.comparison.settings import Setting
from pivotrl.options import InputError
from pivotrl.profiling import ProfileOptions, profile
from pivotrl.protocols import Policy, Turn, Verifier
from pivotrl.records import Record, SampleGroup, StepMetrics
from pivotrl.rollouts import continuation_turns, judge, prompt_tokens
from pivotrl.runs.checkpoints import remove_later
from pivotrl.selection import Facts, require_pivots, select
from pivotrl.selection.actions import tools_called
from pivotrl.storage.folders import remove_folder
from pivotrl.storage.record_files import RecordFile
from pivotrl.training import train


@dataclass(frozen=True)
class Trial:
    """An arm at one learning rate and seed, measured after each of ``checkpoints`` updates."""

    name: str
    rate: float
    seed: int
    checkpoints: tuple[int, ...]
    cell: str = ""
    arm: Arm | None = None
    """None: the arm of this name in :data:`ARMS`."""

    @property
    def folder(self) -> Path:
        return Path(self.cell, self.name, f"{self.rate:g}", f"seed{self.seed}")

    @property
    def steps(self) -> tuple[int, ...]:
        """Where it is measured: at its start too, if a profile or another training has been paid for by then."""
        return (0, *self.checkpoints) if self.what.rule or self.what.first else self.checkpoints

    @property
    def what(self) -> Arm:
        return self.arm or ARMS[self.name]

    def point(self, step: int, costs: Costs, values: dict[str, dict[str, float]]) -> Point:
        return Point(
            cell=self.cell, arm=self.name, rate=self.rate, seed=self.seed, step=step, costs=costs, values=values
        )


def run_base(setting: Setting, root: Path, seed: int, cell: str = "") -> Point:
    """Measure the policy before training, once for each cell and seed."""
    trial = Trial(BASE, 0.0, seed, (0,), cell)
    with held(root / trial.folder) as folder:
        file = RecordFile(folder / "points.jsonl", Point)
        if not len(file):
            drawn = root / cell / "before" / f"seed{seed}"
            values = measure(setting.make_policy(seed), setting.held_out, folder / "step_0", setting.measuring, drawn)
            file.append([trial.point(0, Costs(), values)])
        return next(iter(file))


def run_trial(setting: Setting, root: Path, trial: Trial, keep_weights: bool = False) -> list[Point]:
    """Train and measure; continue where it stopped. A finished checkpoint is neither trained nor measured again.

    Args:
        keep_weights: keep the last checkpoint when all is measured.

    Raises:
        InputError: no turn is a pivot, or an option contradicts the method.
    """
    with held(root / trial.folder) as folder:
        file = RecordFile(folder / "points.jsonl", Point)
        still_open = [step for step in trial.steps if trial.point(step, Costs(), {}).key not in file]
        if still_open:
            policy = setting.make_policy(trial.seed)
            before = Costs()
            if first := trial.what.first:
                phase = _Phase(setting, root, trial, first.arm, first.rate, folder / "first")
                before = phase.train(policy, first.num_steps)
            phase = _Phase(setting, root, trial, trial.what, trial.rate, folder / "train")
            for step in still_open:
                costs = _sum(before, phase.train(policy, step))
                if step == 0 and not trial.what.first:
                    values = run_base(setting, root, trial.seed, trial.cell).values
                else:
                    drawn = root / trial.cell / "before" / f"seed{trial.seed}"
                    values = measure(policy, setting.held_out, folder / f"step_{step}", setting.measuring, drawn)
                file.append([trial.point(step, costs, values)])
        if not keep_weights:
            for weights in (folder / "first" / "checkpoints", folder / "train" / "checkpoints"):
                if weights.is_dir():
                    remove_folder(weights)
        return list(file)


class _Phase:
    """A training of a trial, carried on from checkpoint to checkpoint."""

    def __init__(self, setting: Setting, root: Path, trial: Trial, arm: Arm, rate: float, folder: Path) -> None:
        self.setting, self.root, self.trial, self.arm, self.rate, self.folder = setting, root, trial, arm, rate, folder
        self.verifier = setting.verifier
        if arm.exact:
            if setting.exact_verifier is None:
                raise InputError(f"{arm.title} needs a verifier that accepts the demonstrated action alone")
            self.verifier = setting.exact_verifier
        self.environments = setting.train_environments(trial.seed) if setting.train_environments else {}
        self.turns: list[Turn] | None = None
        self.profiled = Costs()

    def train(self, policy: Policy, num_steps: int) -> Costs:
        """Train up to ``num_steps`` updates in all; afterwards the policy holds the weights of that moment."""
        remove_later(self.folder / "checkpoints", num_steps)  # of a trial with other checkpoints that was interrupted
        if self.turns is None:
            self.turns, self.profiled = self._chosen(policy)
        if num_steps == 0:
            return self.profiled
        settled: dict[str, Any] = {"method": self.arm.method, "learning_rate": self.rate, "train_seed": self.trial.seed}
        settled |= {"num_steps": num_steps, "checkpoint_every": num_steps}
        settled |= {"guard_steps": 0}  # a collapse is a result, too
        options = dataclasses.replace(self.setting.training, **settled)
        steps = train(policy, self.turns, self.verifier, self.folder, options, environments=self.environments)
        return _sum(self.profiled, _costs(steps[:num_steps]))

    def _chosen(self, policy: Policy) -> tuple[list[Turn], Costs]:
        turns = list(self.setting.turns(self.trial.seed))
        if self.arm.rule is None:
            return turns, Costs()
        options, name = self._profiling()
        folder = self.root / self.trial.cell / name / f"seed{self.trial.seed}"
        groups, costs = _profiled(self.setting, policy, turns, folder, options)
        if self.arm.exact:
            groups = _judged_again(turns, groups, self.verifier)
        selection = dataclasses.replace(self.setting.selection, rule=self.arm.rule, selection_seed=self.trial.seed)
        facts = Facts({turn.id: tools_called(turn.expected_action) for turn in turns})
        rows = select(groups, selection, facts)
        require_pivots(rows)
        kept = {row.turn_id for row in rows if row.selected}
        return [turn for turn in turns if turn.id in kept], costs

    def _profiling(self) -> tuple[ProfileOptions, str]:
        """How the arm profiles, and a name for the folder that arms with such a profile share."""
        arm, setting = self.arm, self.setting
        options = dataclasses.replace(setting.profiling, profile_seed=self.trial.seed)
        if arm.samples is None and arm.adaptive is None:
            return options, "profiles"
        options = dataclasses.replace(
            options,
            num_samples=arm.samples or options.num_samples,
            adaptive=arm.adaptive,
            adaptive_max_mean=None if arm.adaptive is None else setting.selection.max_mean,
        )
        return options, f"profiles-{options.num_samples}" + (f"-{arm.adaptive:g}" if arm.adaptive else "")


class _Seconds(Record):
    """How long a profile took, or the part of it up to the turn at which it was interrupted."""

    num_turns: int = 0
    seconds: float

    @property
    def key(self) -> str:
        return str(self.num_turns)


def _profiled(
    setting: Setting, policy: Policy, turns: Sequence[Turn], folder: Path, options: ProfileOptions
) -> tuple[list[SampleGroup], Costs]:
    """The profile of a seed, which all its arms share and each pays for."""
    with held(folder):
        timing = RecordFile(folder / "seconds.jsonl", _Seconds)
        began, path = time.monotonic(), folder / "profiles.jsonl"
        known = len(RecordFile(path, SampleGroup))
        try:
            groups, _ = profile(turns, policy.reference, setting.verifier, path, options)
        finally:
            if (now := len(RecordFile(path, SampleGroup))) > known:
                timing.append([_Seconds(num_turns=now, seconds=time.monotonic() - began)])
        seconds = sum(part.seconds for part in timing)
    completions = [completion for group in groups for completion in group.completions_G]
    bought = len(completions) + continuation_turns(groups)
    return groups, Costs(
        rollout_turns=bought,
        profile_turns=bought,
        prefilled_tokens=prompt_tokens(groups)[1],
        decoded_tokens=sum(len(completion.token_ids_T) for completion in completions),
        seconds=seconds,
    )


def _judged_again(turns: Sequence[Turn], groups: Sequence[SampleGroup], verifier: Verifier) -> list[SampleGroup]:
    by_id = {turn.id: turn for turn in turns}
    return [
        group.model_copy(
            update={"verdicts_G": tuple(judge(by_id[group.turn_id], one, verifier) for one in group.completions_G)}
        )
        for group in groups
    ]


def _costs(steps: Sequence[StepMetrics]) -> Costs:
    def total(*names: str) -> float:
        return sum(step.metrics.get(name, 0.0) for step in steps for name in names)

    sampling = [step.metrics for step in steps if step.metrics.get("samples/total")]
    counted = all("prompts/computed" in metrics for metrics in sampling)
    decoded = sum(metrics["samples/total"] * metrics.get("samples/mean_tokens", 0.0) for metrics in sampling)
    return Costs(
        rollout_turns=int(total("samples/total", "samples/continuation_turns")),
        prefilled_tokens=int(total("prompts/computed")) if counted else None,
        decoded_tokens=round(decoded),
        trained_tokens=int(total("tokens/computed")),
        seconds=total("time/sample_seconds", "time/update_seconds"),
    )


def _sum(first: Costs, second: Costs) -> Costs:
    unknown = None in (first.prefilled_tokens, second.prefilled_tokens)
    return Costs(
        rollout_turns=first.rollout_turns + second.rollout_turns,
        profile_turns=first.profile_turns + second.profile_turns,
        prefilled_tokens=None if unknown else (first.prefilled_tokens or 0) + (second.prefilled_tokens or 0),
        decoded_tokens=first.decoded_tokens + second.decoded_tokens,
        trained_tokens=first.trained_tokens + second.trained_tokens,
        seconds=first.seconds + second.seconds,
    )
