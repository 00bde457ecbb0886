"""Compares arms on a user's own logs: reads them once, then runs every trial on the same turns."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pivotrl.comparison.arms import arms_named
from pivotrl.comparison.grids import crossed, read_points, run_grid
from pivotrl.comparison.measuring import HeldOutItems, Measuring
from pivotrl.comparison.points import BASE
from pivotrl.comparison.settings import Setting
from pivotrl.comparison.table import Table, split_of
from pivotrl.comparison.trials import Trial
from pivotrl.evaluation import EvaluationOptions, answer_verifier
from pivotrl.evaluation.questions import Question
from pivotrl.judging.guarded import Verification, VerificationOptions
from pivotrl.judging.lint import CheckOptions, require_checked
from pivotrl.options import AtLeast1, Positive, check, flag, options_dict, refuse
from pivotrl.plugins.describing import describe
from pivotrl.plugins.environments import describe_environments, make_checked
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import BoundToPolicy, InputError, MakeEnvironments, Policy, Reader, Verifier
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.reading.importing import ReadOptions
from pivotrl.runs.files import RunFiles
from pivotrl.selection import SelectionOptions
from pivotrl.stages.reading import read_stage
from pivotrl.storage.record_files import sha256_of_json, write_file
from pivotrl.training import TrainingOptions
from pivotrl.training_options import guard_rails, usual_rate
from pivotrl.turns import TurnOptions, cut, draw_by_task


@dataclass(frozen=True)
class GridOptions:
    """What is compared."""

    arms: tuple[str, ...] = ("imitation", "pivots")
    """Arms by name: imitation, weighted_imitation, self_imitation, pivots, random, own_states, end_to_end and others.
    The recommendation is between the first two."""
    rates: tuple[Positive, ...] | None = None
    """Learning rates of every arm. None: a third of its default rate, the default, and three times the default."""
    seeds: AtLeast1 = 3
    """Seeds, from 0: order of turns, samples and new weights."""
    checkpoints: tuple[AtLeast1, ...] = (10, 20, 40)
    """Updates after which every training is measured; the last one ends it."""
    score: Annotated[str, Field(pattern=r"^(turns|episodes)/(greedy|sampled)$")] | None = None
    """What counts as the score. None: episodes/greedy if environments are given, else turns/greedy."""

    def __post_init__(self) -> None:
        check(self)
        arms_named(self.arms)
        if not self.arms or len(set(self.arms)) != len(self.arms):
            refuse("arms", " ".join(self.arms), "must name one or more arms, each once")
        if list(self.checkpoints) != sorted(set(self.checkpoints)) or not self.checkpoints:
            refuse("checkpoints", " ".join(map(str, self.checkpoints)), "must rise")


def compare_logs(
    source: str,
    directory: Path,
    *,
    reader: Reader,
    verifier: Verifier,
    make_policy: Callable[[int], Policy],
    exact_verifier: Verifier | None = None,
    heldout: str | None = None,
    environments: Mapping[str, MakeEnvironments] | None = None,
    train_environments: Mapping[str, MakeEnvironments] | None = None,
    retention: Sequence[dict[str, str]] = (),
    answers: Sequence[Question] = (),
    grid: GridOptions = GridOptions(),
    reading: ReadOptions = ReadOptions(),
    turns: TurnOptions = TurnOptions(),
    checking: CheckOptions = CheckOptions(),
    verification: VerificationOptions = VerificationOptions(),
    profiling: ProfileOptions = ProfileOptions(),
    selection: SelectionOptions = SelectionOptions(),
    training: TrainingOptions = TrainingOptions(),
    evaluation: EvaluationOptions = EvaluationOptions(),
    observer: Observer = SILENT,
) -> Table:
    """Read the logs, run every trial of the grid, and return the points. Started again with the same arguments, it goes
    on where it stopped.

    Args:
        make_policy: seed -> a fresh policy.
        answers: questions outside the task, see :func:`pivotrl.evaluation.load_questions`.
        evaluation: turns and episodes are measured greedily and at temperature 1; ``heldout_turns``, ``turn_samples``,
            ``episodes_per_task``, ``eval_max_tokens``, ``eval_batch`` and ``eval_seed`` apply, and
            ``progress_trajectories`` if it is not 0.

    Raises:
        InputError: an option is given that the grid settles, the verifier passes wrong actions, there are too few
            held-out tasks to choose and to tell, or a trial cannot run.
    """
    fixed = [turns, checking, profiling, selection, training, evaluation]
    _require_effect(fixed)
    if training.warmup_steps > grid.checkpoints[0]:
        refuse("warmup_steps", training.warmup_steps, f"is more than the first checkpoint, {grid.checkpoints[0]}")
    if isinstance(verifier, BoundToPolicy):
        raise InputError(f"{describe(verifier)} plays on with the policy, which differs from trial to trial here")
    read_stage(source, directory, reader=reader, reading=reading, heldout=heldout, observer=observer)
    files = RunFiles(directory)
    candidates = cut(files.trajectories(), turns)[0]
    known = cut(files.heldout(), TurnOptions(domain=turns.domain))[0]
    held_out = draw_by_task(known, None, evaluation.heldout_turns, evaluation.eval_seed)
    num_tasks = len({turn.trajectory.task_id for turn in held_out})
    if num_tasks < _LEAST_TASKS:
        raise InputError(
            f"{num_tasks} held-out tasks are too few: half of them choose the learning rate and half give the numbers, "
            f"which needs at least {_LEAST_TASKS}; hold out more with --heldout-fraction or --heldout"
        )
    made = make_checked(environments, evaluation.episodes_per_task) if environments else {}
    _require_halves(
        {
            "tasks with held-out turns": [turn.trajectory.task_id for turn in held_out],
            "tasks of the environments": [task for one in made.values() for task in one.tasks()],
            "reference texts": [text["id"] for text in retention],
            "questions": [text["id"] for text in answers],
        }
    )
    policy = make_policy(0)
    settings = {name: value for options in fixed for name, value in options_dict(options).items()}
    settings = {name: value for name, value in settings.items() if name not in guard_rails.OPTIONS}
    settings |= {"verifier": describe(verifier), "exact_verifier": exact_verifier and describe(exact_verifier)}
    settings |= {"environments": describe_environments(environments), "policy": policy.identity}
    settings |= {"train_environments": describe_environments(train_environments)}
    settings |= {"texts": sha256_of_json(list(retention)), "answers": sha256_of_json(list(answers))}
    _require_same(directory / "comparison.settings.json", settings)
    walked = {turn.trajectory.id for turn in held_out} if evaluation.progress_trajectories != 0 else set()
    require_checked(directory, candidates, verifier, checking, observer, None, verification)
    with Verification(verifier, verification, candidates) as guarded:
        setting = Setting(
            make_policy=make_policy,
            turns=lambda seed: candidates,
            verifier=guarded,
            exact_verifier=exact_verifier,
            held_out=HeldOutItems(
                turns=held_out,
                verifier=guarded,
                walked=[turn for turn in known if turn.trajectory.id in walked],
                environments=made,
                texts=retention,
                questions=answers,
                answer_verifier=answer_verifier(answers),
            ),
            training=training,
            profiling=profiling,
            selection=selection,
            measuring=Measuring(
                samples_per_turn=evaluation.turn_samples,
                episodes_per_task=evaluation.episodes_per_task,
                max_tokens=evaluation.eval_max_tokens,
                batch=evaluation.eval_batch,
                seed=evaluation.eval_seed,
            ),
            train_environments=(lambda seed: make_checked(train_environments)) if train_environments else None,
        )
        run_grid(lambda cell: setting, directory / "trials", _trials(grid, training, policy), 1, observer)
    return Table(read_points(directory / "trials"))


def table_so_far(directory: Path) -> Table | None:
    """The points of an interrupted comparison; None if not even the policy before training was measured."""
    points = read_points(directory / "trials")
    return Table(points) if any(point.arm == BASE for point in points) else None


_LEAST_TASKS = 8
_FROM_THE_GRID = {
    "method": "--arms",
    "rule": "--arms",
    "learning_rate": "--rates",
    "num_steps": "--checkpoints",
    "train_seed": "--seeds",
    "profile_seed": "--seeds",
    "selection_seed": "--seeds",
}
"""Options of one training -> what gives them here."""


def _require_effect(groups: Sequence[Any]) -> None:
    """
    Raises:
        InputError: an option that the grid settles was given.
    """
    for options in groups:
        for field in dataclasses.fields(options):
            value = getattr(options, field.name)
            if value != field.default and (instead := _FROM_THE_GRID.get(field.name)):
                refuse(field.name, value, f"is for one training; {instead} says it in a comparison")
            if value != field.default and field.name in ("eval_temperature", "turn_temperature"):
                refuse(field.name, value, "does nothing here: turns and episodes are measured at 0 and at 1")
            if field.name == "eval_temperatures" and value not in (None, (0.0, 1.0)):
                refuse(field.name, " ".join(map(str, value)), "must be 0 1: both are measured")
            if field.name in guard_rails.OPTIONS and value != field.default:
                refuse(field.name, value, "has no effect in a comparison, which measures every training to its end")
            if field.name == "decay" and value != field.default:
                refuse(field.name, value, "has no meaning in a comparison, whose checkpoints share one training")


def _require_halves(clusters: Mapping[str, Sequence[str]]) -> None:
    """
    Raises:
        InputError: the items of some kind do not give validation and test at least two each.
    """
    for kind, names in clusters.items():
        halves = Counter(split_of(name) for name in set(names))
        if names and min(halves["validation"], halves["test"]) < 2:
            raise InputError(
                f"{len(set(names))} {kind} are too few: validation and test need at least 2 each, and their names give "
                f"them {halves['validation']} and {halves['test']}; add more"
            )


def _require_same(path: Path, settings: dict[str, Any]) -> None:
    """Write down what every trial shares; the grid itself may grow.

    Raises:
        InputError: a comparison with other settings began in this directory.
    """
    settings = json.loads(json.dumps(settings, default=str))
    if path.is_file():
        before = json.loads(path.read_text("utf-8"))
        if changed := sorted(
            name for name in before.keys() | settings.keys() if before.get(name) != settings.get(name)
        ):
            name = changed[0]
            raise InputError(
                f"the comparison in {path.parent} began with another {name} ({before.get(name)!r:.80}, now "
                f"{settings.get(name)!r:.80}); choose another directory. Only the grid may grow"
            )
    else:
        write_file(path, json.dumps(settings, indent=2) + "\n")


def _trials(grid: GridOptions, training: TrainingOptions, policy: Policy) -> list[Trial]:
    rates: dict[str, tuple[float, ...]] = {}
    for name, arm in arms_named(grid.arms).items():
        if grid.rates is not None:
            rates[name] = grid.rates
            continue
        usual = usual_rate(dataclasses.replace(training, method=arm.method), policy)
        if usual is None:
            raise InputError(f"{type(policy).__name__} has no default learning rate; give {flag('rates')}")
        rates[name] = (usual / 3, usual, usual * 3)
    return crossed(rates, range(grid.seeds), grid.checkpoints)
