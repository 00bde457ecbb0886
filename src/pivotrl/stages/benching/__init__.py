"""The bench stage: a published benchmark, played by one player, kept as one record a trial."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.options import AtLeast0, AtLeast1, NotNegative, Positive, check, options_dict
from pivotrl.plugins.describing import describe, spec_of
from pivotrl.protocols import InputError
from pivotrl.protocols.harness import PLAN, Batch, Harness, Home, Player, Setup
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import TrialResult
from pivotrl.runs.layout import bench_stage as stage_of
from pivotrl.runs.manifest import SUFFIX, find_manifest
from pivotrl.runs.replacing import move_aside
from pivotrl.runs.stage import CONTINUED, Stage, reopen, require_same
from pivotrl.stages.benching.endpoints import GOLD, Contestant
from pivotrl.stages.benching.homes import home_of
from pivotrl.stages.benching.playing import Players
from pivotrl.stages.benching.told import result_of, told
from pivotrl.storage.record_files import RecordFile, sha256_of_json, write_file

_GROWS = ("tasks", "trials")
"""Options that a finished bench may continue with when they become larger."""
_BENCHMARK = ("harness", "package", "simulator")
_MAY_DIFFER = ("task_seconds", "processes", "harness_python", CONTINUED)


@dataclass(frozen=True)
class BenchOptions:
    """What is played, and how."""

    tasks: AtLeast1 | None = None
    """How many tasks, drawn at random by the seed; more later keep those. None plays all."""
    task_ids: tuple[str, ...] | None = None
    """These tasks, by their ids."""
    trials: AtLeast1 = 1
    """How often each task is played."""
    temperature: NotNegative = 0.0
    """Of the player. At 0, trials of our own endpoint are alike."""
    max_tokens: AtLeast1 | None = None
    """Of one answer of the player; None: as many as its context holds."""
    seed: AtLeast0 = 0
    """Draws the tasks; trial N gets the seed plus N."""
    task_seconds: Positive = 1800.0
    """Longest time for a task; then it has no verdict."""
    processes: AtLeast1 = 4
    """Tasks played side by side."""

    def __post_init__(self) -> None:
        check(self)


def bench_stage(
    directory: Path,
    name: str,
    contestant: Contestant,
    *,
    harness: Harness,
    bench: BenchOptions = BenchOptions(),
    simulator: Player | None = None,
    harness_python: Path | None = None,
    retry: bool = False,
    overwrite: bool = False,
    observer: Observer = SILENT,
) -> None:
    """Play a benchmark -> ``bench/<name>/<player>.trials.jsonl``, and the harness's own files in a folder beside it.

    Args:
        simulator: who plays the user, where the benchmark has one.
        harness_python: interpreter of an environment that has the harness.
        retry: play the trials without a verdict again.
        overwrite: move what this player has played aside first.

    Raises:
        InputError: something is missing, a task does not exist, or the endpoint is gone. What is finished is kept.
    """
    stage_name = stage_of(name, contestant.name)
    shown = Player("", contestant.name, is_gold=contestant.is_gold)
    harness.check(_setup(shown, simulator, bench))
    home = home_of(harness, harness_python, observer)
    if hasattr(harness, "ready"):
        harness.ready(home, _setup(shown, simulator, bench))
    tasks = _drawn(harness, home, bench)
    settings: dict[str, Any] = {
        **options_dict(bench),
        "harness": describe(harness),
        "package": f"{harness.package} {home.version}",
        "training": contestant.training,
        "simulator": simulator.model if simulator else None,
        "harness_python": str(harness_python) if harness_python else None,
    }
    settings["task_ids"] = list(bench.task_ids) if bench.task_ids else None
    made_of = harness.inputs(home) if hasattr(harness, "inputs") else {}
    inputs = {**contestant.inputs, "player": sha256_of_json(contestant.facts), **made_of}
    if not contestant.is_gold:
        _require_same_benchmark(directory, name, stage_name, settings, made_of)
    if overwrite:
        move_aside(directory, stage_name)
    _continue(directory, stage_name, settings, inputs, retry)
    with Stage(
        directory,
        stage_name,
        settings,
        inputs,
        _MAY_DIFFER,
        {"player": contestant.name, "identity": dict(contestant.facts)},
        plugins={"harness": spec_of(harness)},
        observer=observer,
    ) as stage:
        if stage.done:
            return
        folder = (directory / stage_name).absolute()
        file = RecordFile(directory / f"{stage_name}.trials.jsonl", TrialResult)
        known = _Known(file, retry)
        _recover(harness, folder, known)
        wanted = [(task, trial) for trial in range(bench.trials) for task in tasks]
        missing = [(task, trial) for task, trial in wanted if not known.is_done(task, trial)]

        def tell() -> None:
            solved = sum(result.reward == 1 for result in latest(file))
            num_done = sum(known.is_done(*one) for one in wanted)
            observer.progress("trials", num_done, len(wanted), f"{solved} solved")

        tell()
        if missing:
            with contestant.opened(home, observer) as (player, require_endpoint):
                setup = _setup(player, simulator or (player if player.is_gold else None), bench)

                def keep(results: Sequence[TrialResult]) -> None:
                    known.add(results)
                    tell()

                players = Players(
                    harness,
                    home,
                    keep,
                    require_endpoint,
                    bench.task_seconds,
                    bench.processes,
                    known.attempt,
                    has_verdicts=any(result.reward is not None for result in file),
                )
                numbers = _Folders(folder, setup, bench.seed)
                players.play(
                    numbers.batches(missing, harness.max_batch, bench.processes),
                    lambda batch, left: numbers.make(tuple(left), batch.trial),
                )
        last = latest(file)
        stage.finish(
            {
                "tasks": len({result.task_id for result in last}),
                "trials": len(last),
                "solved": sum(result.reward == 1 for result in last),
                "no_verdict": dict(Counter(result.reason for result in last if result.reward is None)),
            },
            num_rollout_turns=sum(result.num_turns or 0 for result in file),
        )


def latest(results: RecordFile[TrialResult]) -> list[TrialResult]:
    """The last attempt of each trial."""
    return list({result.trial_key: result for result in results}.values())


def _setup(player: Player, simulator: Player | None, bench: BenchOptions) -> Setup:
    if player.is_gold and simulator is None:
        simulator = player  # it plays the user, too
    return Setup(player, simulator, bench.temperature, bench.max_tokens)


def _drawn(harness: Harness, home: Home, bench: BenchOptions) -> list[str]:
    """The tasks, in the benchmark's order.

    Raises:
        InputError: one does not exist, or there are none.
    """
    known = list(harness.tasks(home))
    if bench.task_ids is not None:
        unknown = [task for task in bench.task_ids if task not in set(known)]
        if unknown:
            raise InputError(f"{harness.package} has no task {unknown[0]!r} here; its first are {', '.join(known[:5])}")
        known = [task for task in known if task in set(bench.task_ids)]
    if not known:
        raise InputError(f"{describe(harness)} chooses no task; change its options")
    if bench.tasks is None:
        return known
    ranked = sorted(known, key=lambda task: hashlib.sha256(f"{bench.seed}/{task}".encode()).digest())
    chosen = set(ranked[: bench.tasks])
    return [task for task in known if task in chosen]


def _continue(directory: Path, stage: str, settings: dict[str, Any], inputs: dict[str, str], retry: bool) -> None:
    """Let a stage go on with more tasks or trials, or with another try where it had no verdict."""
    old = find_manifest(directory, stage)
    if old is None:
        return
    was = {option: old.options.get(option) for option in _GROWS}
    changed = {option: settings[option] for option in _GROWS if _is_more(settings[option], was[option])}
    if changed or (retry and old.status == "complete"):
        left_out = {*changed, *_MAY_DIFFER}
        require_same(directory, stage, {k: v for k, v in settings.items() if k not in left_out}, inputs)
        reopen(directory, stage, changed)


def _require_same_benchmark(
    directory: Path, name: str, stage: str, settings: dict[str, Any], made_of: Mapping[str, str]
) -> None:
    """Players of one name stand in one table, so they must have played the same.

    Raises:
        InputError: another player played this benchmark in another way.
    """
    for path in sorted((directory / "bench" / name).glob(f"*{SUFFIX}")):
        player = path.name.removesuffix(SUFFIX)
        other = stage_of(name, player)
        old = find_manifest(directory, other)
        if old is None or other == stage or player == GOLD:
            continue
        now, was = {**settings, **made_of}, {**old.options, **old.inputs}
        common = [one for one in (*_BENCHMARK, *sorted(made_of)) if one in was]
        changed = [f"{one}: {was[one]!r}, now {now[one]!r}" for one in common if was[one] != now[one]]
        if changed:
            raise InputError(
                f"{player} has played {name} otherwise ({'; '.join(changed)}), so the two cannot stand side by side; "
                "repeat its options, or keep these results under another name with --name"
            )


def _is_more(now: int | None, was: int | None) -> bool:
    return was is not None and (now is None or now > was)


class _Known:
    """What has been played."""

    def __init__(self, file: RecordFile[TrialResult], retry: bool) -> None:
        self._file = file
        self._last = {result.trial_key: result for result in file}
        self._again = {key for key, result in self._last.items() if retry and result.reward is None}

    def is_done(self, task: str, trial: int) -> bool:
        key = f"{task}~{trial}"
        return key in self._last and key not in self._again

    def attempt(self, task: str, trial: int) -> int:
        last = self._last.get(f"{task}~{trial}")
        return 0 if last is None else last.attempt + 1

    def lacks(self, task: str, trial: int, folder: str) -> bool:
        """Whether a verdict in a folder is not noted: of a new trial, or of a later try of one without a verdict."""
        last = self._last.get(f"{task}~{trial}")
        return last is None or (last.reward is None and folder > last.folder)

    def add(self, results: Sequence[TrialResult]) -> None:
        self._file.append(results)
        for result in results:
            self._last[result.trial_key] = result
            self._again.discard(result.trial_key)


class _Folders:
    """Numbers the folders of the batches."""

    def __init__(self, folder: Path, setup: Setup, seed: int) -> None:
        self._folder, self._setup, self._seed = folder, setup, seed
        taken = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()] if folder.is_dir() else []
        self._next = max(taken, default=0) + 1

    def batches(self, missing: Sequence[tuple[str, int]], most: int, processes: int) -> Iterator[Batch]:
        """Batches of one trial each, so small that all processes have work."""
        for trial in sorted({trial for _, trial in missing}):
            tasks = [task for task, number in missing if number == trial]
            size = max(1, min(most, -(-len(tasks) // processes)))
            for start in range(0, len(tasks), size):
                yield self.make(tuple(tasks[start : start + size]), trial)

    def make(self, tasks: tuple[str, ...], trial: int) -> Batch:
        folder = self._folder / f"{self._next:05d}"
        self._next += 1
        folder.mkdir(parents=True)
        write_file(folder / PLAN, json.dumps({"tasks": tasks, "trial": trial}) + "\n")
        return Batch(tasks, trial, self._seed + trial, folder, self._setup)


def _recover(harness: Harness, folder: Path, known: _Known) -> None:
    """Keep what a process finished before pivotrl was killed and could note it. Only verdicts count: what had none may
    have been the kill's doing."""
    for path in sorted(folder.glob(f"*/{PLAN}")):
        try:
            plan = json.loads(path.read_bytes())
        except ValueError:
            continue  # killed while it was written: nothing was played
        nobody = Setup(Player("", ""))
        batch = Batch(tuple(plan["tasks"]), plan["trial"], 0, path.parent, nobody)
        new = [
            outcome
            for outcome in told(harness, batch)[0].values()
            if outcome.reward is not None and known.lacks(outcome.task, batch.trial, path.parent.name)
        ]
        known.add(
            [
                result_of(batch, outcome, known.attempt(outcome.task, batch.trial), outcome.seconds or 0.0)
                for outcome in new
            ]
        )
