"""A run as its files show it at this moment, finished or not. Only new records are read, and nothing is changed."""

from __future__ import annotations

import calendar
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.protocols import InputError
from pivotrl.records import (
    AnswerResult,
    EpisodeResult,
    LostTry,
    Manifest,
    ProgressResult,
    Record,
    RetentionResult,
    SampleGroup,
    StepMetrics,
    TurnResult,
)
from pivotrl.report.growing import Growing, Tally, merged
from pivotrl.report.health import training_alarms
from pivotrl.runs import lock
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import STAGES, known_stages
from pivotrl.runs.manifest import find_manifest
from pivotrl.runs.stage import seconds_spent
from pivotrl.runs.status import State, stages_needed
from pivotrl.turns import TurnOptions, cut

_RECENT_STEPS = 10


@dataclass(frozen=True)
class StageNow:
    """One stage at this moment."""

    stage: str
    state: State
    done: int = 0
    total: int | None = None
    """Pieces of work; None if unknown. Of a profile, at most as many: turns that do not fit the model are left out."""
    unit: str = ""
    rollout_turns: int = 0
    tokens: int = 0
    seconds: float = 0.0
    seconds_left: float | None = None
    fault: str = ""
    """What is damaged; everything else about the stage is then unknown."""


@dataclass(frozen=True)
class RunNow:
    """A run at this moment."""

    directory: str
    stages: Sequence[StageNow]
    metrics: Sequence[StepMetrics]
    """Of the training that is running, else of the last one; with shares."""
    notices: Sequence[str]
    is_held: bool
    """Whether a process works in the directory."""
    is_complete: bool

    def total(self, name: str) -> float:
        """``rollout_turns``, ``tokens`` or ``seconds`` over all stages."""
        return float(sum(getattr(stage, name) for stage in self.stages))

    @property
    def running(self) -> StageNow | None:
        return next((stage for stage in self.stages if stage.state == "running"), None)

    def as_json(self) -> dict[str, Any]:
        latest = self.metrics[-1] if self.metrics else None
        return {
            "directory": self.directory,
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
            "step": latest and {"step": latest.step, **latest.metrics},
            "notices": list(self.notices),
            "rollout_turns": self.total("rollout_turns"),
            "tokens": self.total("tokens"),
            "seconds": self.total("seconds"),
            "is_running": self.running is not None,
            "is_complete": self.is_complete,
        }


class Follower:
    """Follows the run in a directory, which may not have begun.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._directory, self._clock = directory, clock
        self._stages: dict[str, list[Growing]] = {}
        self._totals: dict[tuple[str, str], int | None] = {}

    def look(self) -> RunNow:
        """The run now. A stage with a damaged file says so; the others are followed all the same."""
        is_held = lock.is_held(self._directory)
        stages, metrics, notices = [], list[StepMetrics](), list[str]()
        manifests = {}
        for stage in dict.fromkeys([*STAGES, *known_stages(self._directory)]):
            try:
                manifest = find_manifest(self._directory, stage)
                if manifest is None:
                    stages.append(StageNow(stage, "not begun"))
                    continue
                tally = merged(growing.look() for growing in self._growing(stage))
            except (InputError, ValueError) as error:
                stages.append(StageNow(stage, "damaged", fault=str(error)))
                notices.append(f"{stage}: {error}")
                continue
            manifests[stage] = manifest
            now = self._stage(stage, manifest, tally, is_held)
            stages.append(now)
            if tally.steps and (now.state == "running" or not metrics):
                metrics = [tally.steps[number] for number in sorted(tally.steps)]
            if now.state != "done" and (told := tally.faults.complaint(_limit(stage))):
                notices.append(f"{stage}: {told}")
        needed = stages_needed(manifests)
        is_complete = all(stage in manifests and manifests[stage].status == "complete" for stage in needed)
        return RunNow(
            str(self._directory), stages, metrics, [*notices, *training_alarms(metrics)], is_held, is_complete
        )

    def _growing(self, stage: str) -> list[Growing]:
        if stage not in self._stages:
            groups = "profiles" if stage == "profile" else f"{stage}/groups"
            files: dict[str, type[Record]] = {
                f"{groups}.jsonl": SampleGroup,
                f"{groups}.lost.jsonl": LostTry,
                f"{stage}/metrics.jsonl": StepMetrics,
                f"{stage}/episodes.jsonl": EpisodeResult,
                f"{stage}.turns.jsonl": TurnResult,
                f"{stage}.turns.lost.jsonl": LostTry,
                f"{stage}.progress.jsonl": ProgressResult,
                f"{stage}.episodes.jsonl": EpisodeResult,
                f"{stage}.retention.jsonl": RetentionResult,
                f"{stage}.answers.jsonl": AnswerResult,
            }
            self._stages[stage] = [Growing(self._directory / name, model) for name, model in files.items()]
        return self._stages[stage]

    def _stage(self, stage: str, manifest: Manifest, tally: Tally, is_held: bool) -> StageNow:
        is_done = manifest.status == "complete"
        seconds = manifest.wall_seconds if is_done else self._seconds(stage, manifest, is_held)
        done, total, unit = self._work(stage, manifest, tally)
        return StageNow(
            stage,
            "done" if is_done else "running" if is_held else "stopped",
            done,
            total,
            unit,
            manifest.num_rollout_turns if is_done else tally.rollout_turns,
            tally.tokens,
            seconds,
            self._seconds_left(tally, done, total, seconds) if is_held and not is_done else None,
        )

    def _seconds(self, stage: str, manifest: Manifest, is_held: bool) -> float:
        if not is_held or not manifest.resumed_at:
            return seconds_spent(self._directory, stage, manifest)
        began = calendar.timegm(time.strptime(manifest.resumed_at, "%Y-%m-%dT%H:%M:%SZ"))
        return manifest.wall_seconds + max(0.0, self._clock() - began)

    @staticmethod
    def _seconds_left(tally: Tally, done: int, total: int | None, seconds: float) -> float | None:
        """From the latest steps of a training; of other stages, from their mean pace so far."""
        if total is None or not 0 < done < total:
            return None
        last = [tally.steps[number].metrics for number in sorted(tally.steps)[-_RECENT_STEPS:]]
        took = [row.get("time/sample_seconds", 0.0) + row.get("time/update_seconds", 0.0) for row in last]
        pace = sum(took) / len(took) if took else seconds / done
        return pace * (total - done)

    def _work(self, stage: str, manifest: Manifest, tally: Tally) -> tuple[int, int | None, str]:
        """(done, total or None, unit)."""
        kind = stage.partition("/")[0]
        if kind in ("train", "trainings"):
            return len(tally.steps), manifest.options.get("num_steps"), "steps"
        done = sum(map(len, tally.keys.values()))
        if kind == "evaluations":
            return done, done if manifest.status == "complete" else self._items(stage, manifest, tally), "items"
        if kind == "profile":
            whole = manifest.counts.get("profiled_turns")
            return done, whole if whole is not None else self._candidates(manifest), "turns"
        return done, None, "turns" if done else ""

    def _candidates(self, manifest: Manifest) -> int | None:
        names = {option.name for option in dataclasses.fields(TurnOptions)}
        given = {name: value for name, value in manifest.options.items() if name in names}
        return self._once(
            "profile", manifest, lambda: len(cut(RunFiles(self._directory).trajectories(), TurnOptions(**given))[0])
        )

    def _items(self, stage: str, manifest: Manifest, tally: Tally) -> int | None:
        """As many as the evaluation before training had, if it measured the same; else the held-out turns, if nothing
        else is measured."""
        before = self._manifest("evaluations/before")
        if before is not None and before.status == "complete" and stage != "evaluations/before":
            try:
                first = merged(growing.look() for growing in self._growing("evaluations/before"))
            except ValueError:  # it is damaged, which its own stage says
                return None
            return sum(map(len, first.keys.values()))
        options = manifest.options
        others = (options.get("environments"), options.get("retention"), options.get("answers"))
        if any(others) or options.get("progress_trajectories"):
            return None
        temperatures = options.get("eval_temperatures") or [None]
        profile = self._manifest("profile")
        domain = profile.options.get("domain") if profile else None
        turns = self._once(
            stage,
            manifest,
            lambda: len(
                cut(RunFiles(self._directory).heldout(), TurnOptions(**({"domain": domain} if domain else {})))[0]
            ),
        )
        most = options.get("heldout_turns")
        return None if turns is None else (turns if most is None else min(turns, most)) * len(temperatures)

    def _manifest(self, stage: str) -> Manifest | None:
        """None also if it is damaged, which its own stage says."""
        try:
            return find_manifest(self._directory, stage)
        except InputError:
            return None

    def _once(self, stage: str, manifest: Manifest, count: Callable[[], int]) -> int | None:
        key = stage, manifest.started_at
        if key not in self._totals:
            try:
                self._totals[key] = count()
            except (InputError, ValueError):  # logs of another version, or moved away this moment
                self._totals[key] = None
        return self._totals[key]


def _limit(stage: str) -> str:
    kind = stage.partition("/")[0]
    return {"evaluations": "--eval-max-tokens", "profile": "--max-tokens"}.get(kind, "--train-max-tokens")
