"""run(): from logs to a better policy and a report, every stage in order. Read this first.

    logs --read--> trajectories --cut--> candidate turns --profile--> samples and verdicts --select--> pivots
         --train--> policy --evaluate--> before and after on held-out tasks --report--> report.html

Each call in :func:`run` is one stage (:mod:`pivotrl.stages`). A stage writes files with a manifest into the run
directory. With ``resume=True`` finished stages are skipped and an interrupted one continues where it stopped.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pivotrl.evaluation import EvaluationOptions
from pivotrl.evaluation.questions import Question
from pivotrl.judging.guarded import VerificationOptions
from pivotrl.judging.lint import CheckOptions
from pivotrl.plugins.environments import require_environments
from pivotrl.plugins.shapes import require_policy, require_reader, require_verifier
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import InputError, MakeEnvironments, Notice, Policy, Reader, Verifier
from pivotrl.protocols.observing import SILENT, Observer, at_work, told_notices
from pivotrl.reading.importing import ReadOptions
from pivotrl.report.page import require_packages, write_report
from pivotrl.report.summary import Summary, summarise
from pivotrl.runs.directory import starting_in
from pivotrl.runs.manifest import manifest_path, read_manifest
from pivotrl.selection import SelectionOptions
from pivotrl.stages.evaluating import evaluate_stage
from pivotrl.stages.profile_identity import Kind, require_same_sampling
from pivotrl.stages.profiling import profile_stage
from pivotrl.stages.reading import nothing_held_out, read_stage
from pivotrl.stages.selecting import select_stage
from pivotrl.stages.training import train_stage
from pivotrl.training import TrainingOptions, needs_pivots
from pivotrl.turns import TurnOptions


def run(
    source: str,
    directory: Path | str,
    *,
    reader: Reader,
    verifier: Verifier,
    policy: Policy,
    heldout: str | None = None,
    environments: MakeEnvironments | Mapping[str, MakeEnvironments] | None = None,
    train_environments: MakeEnvironments | Mapping[str, MakeEnvironments] | None = None,
    retention: Sequence[dict[str, str]] = (),
    answers: Sequence[Question] = (),
    reading: ReadOptions = ReadOptions(),
    turns: TurnOptions = TurnOptions(),
    checking: CheckOptions = CheckOptions(),
    verification: VerificationOptions = VerificationOptions(),
    profiling: ProfileOptions = ProfileOptions(),
    selection: SelectionOptions = SelectionOptions(),
    training: TrainingOptions = TrainingOptions(),
    evaluation: EvaluationOptions = EvaluationOptions(),
    profile_may_differ_in: Collection[Kind] = (),
    resume: bool = False,
    overwrite: bool = False,
    observer: Observer = SILENT,
) -> Summary:
    """Run every stage and return the summary that the report shows.

    Args:
        source: a log file, a directory of logs, or a name that the reader knows.
        directory: holds every file of the run. It must be empty unless ``resume`` or ``overwrite`` is given;
            ``overwrite`` moves the existing run to ``replaced/``.
        reader: turns the source into trajectories.
        verifier: judges an action at a turn.
        policy: is profiled first (it *is* the reference policy until the first update), then trained.
        heldout: a second source for evaluation; without one a share of the tasks is held out.
        environments: a maker of environments for held-out episodes, or several by name; without it only held-out
            turns are evaluated.
        train_environments: where a method plays that trains on whole episodes (``episodes``).
        retention: reference texts outside the task, see :func:`pivotrl.evaluation.load_retention`.
        answers: questions outside the task, see :func:`pivotrl.evaluation.load_questions`.
        profile_may_differ_in: see :func:`pivotrl.stages.training.train_stage`.
        observer: receives progress, metrics, finished stages and notices, see :mod:`pivotrl.protocols.observing`.

    Raises:
        InputError: a fault that a user can fix; finished work is kept, and ``resume`` uses it.
    """
    directory = Path(directory)
    require_reader(reader)
    require_verifier(verifier)
    require_policy(policy)
    if environments:
        require_environments(environments, evaluation.episodes_per_task)
    if train_environments:
        require_environments(train_environments, training.group_size)
    require_same_sampling(profiling, training, profile_may_differ_in)
    require_packages()  # the report needs them: better to fail now than after hours of training
    with starting_in(directory, resume, overwrite), told_notices(observer):
        # 1. Read logs of any format as trajectories and split them by task. -> trajectories.jsonl, heldout.jsonl
        read_stage(
            source, directory, reader=reader, reading=reading, heldout=heldout, overwrite=overwrite, observer=observer
        )
        measures_turns = _measures_turns(directory, reading, bool(environments or retention or answers))

        def measure(name: str) -> None:
            evaluate_stage(
                directory,
                name=name,
                policy=policy,
                verifier=verifier,
                turns=turns,
                evaluation=evaluation,
                environments=environments,
                retention=retention,
                answers=answers,
                verification=verification,
                may_be_empty=not measures_turns,
                observer=observer,
            )

        # 2. Check the verifier and refuse one that accepts wrong actions. Then cut trajectories into turns, let the
        #    reference policy act K times at each, and verify every action. Expensive, so the raw samples are stored.
        #    -> check.json, profiles.jsonl
        if profiling.adaptive is not None and profiling.adaptive_max_mean is None:
            profiling = dataclasses.replace(profiling, adaptive_max_mean=selection.max_mean)
        if needs_pivots(training.load_method()):
            profile_stage(
                directory,
                sampler=policy,
                verifier=verifier,
                turns=turns,
                profiling=profiling,
                checking=checking,
                verification=verification,
                observer=observer,
            )
            # 3. Select turns with mixed outcomes that are still hard as pivots. Free; never samples. -> selection.jsonl
            select_stage(directory, selection=selection, repairs=False, observer=observer)
        elif selection != SelectionOptions() or profiling.adaptive is not None:
            told = f"{training.method} takes no pivots: options of the selection have no effect"
            warnings.warn(told, Notice, stacklevel=2)
        # 4. Measure the policy on held-out tasks before training. -> evaluations/before.*
        measure("before")
        # 5. Let the current policy act at pivots, verify its actions, and learn from the differences within each group.
        #    From here on ``policy`` is the trained one. -> train/
        train_stage(
            directory,
            policy=policy,
            verifier=verifier,
            training=training,
            checking=checking,
            verification=verification,
            environments=train_environments,
            turns=turns,
            profile_may_differ_in=profile_may_differ_in,
            observer=observer,
        )
        # 6. Repeat the measurements on the same items. -> evaluations/after.*
        measure("after")
        # 7. Write the report from the files alone. -> report.html
        with at_work(observer, "writing the report"):
            write_report(directory)
        return summarise(directory)


def _measures_turns(directory: Path, reading: ReadOptions, measures_more: bool) -> bool:
    """Whether there are held-out tasks. Training with nothing to measure requires the user's consent."""
    reason = nothing_held_out(read_manifest(manifest_path(directory, "read")))
    if not reason or measures_more:
        return not reason
    if reading.heldout_fraction:
        raise InputError(
            f"nothing could be measured after training: {reason}. To train anyway, start again with "
            "--heldout-fraction 0 and --overwrite"
        )
    warnings.warn(f"nothing will be measured: {reason}", Notice, stacklevel=3)
    return False
