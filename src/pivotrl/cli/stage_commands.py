"""The subcommands that do a stage, or all of them.

Flags are the fields of the options that the Python functions take, so nothing is declared twice. With
:mod:`pivotrl.cli.view_commands` the only place where names become plugins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from pivotrl import plugins
from pivotrl.cli import import_table, tables
from pivotrl.cli.choices import HeldOut, PolicyChoice
from pivotrl.cli.live_progress import live_progress
from pivotrl.evaluation import EvaluationOptions
from pivotrl.judging.guarded import VerificationOptions
from pivotrl.judging.lint import CheckOptions
from pivotrl.pipeline import run as run_pipeline
from pivotrl.plugins.shapes import require_policy
from pivotrl.profiling import ProfileOptions
from pivotrl.reading.importing import ReadOptions
from pivotrl.runs.directory import starting_in, working_in
from pivotrl.runs.layout import evaluation_stage, selection_stage, training_stage
from pivotrl.selection import SelectionOptions
from pivotrl.stages.evaluating import evaluate_stage
from pivotrl.stages.profiling import profile_stage
from pivotrl.stages.reading import read_stage
from pivotrl.stages.selecting import select_stage
from pivotrl.stages.training import train_stage
from pivotrl.training import TrainingOptions
from pivotrl.turns import TurnOptions

Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


def run(
    source: tyro.conf.Positional[str],
    out: Output,
    policy: PolicyChoice,
    reading: ReadOptions,
    turns: TurnOptions,
    checking: CheckOptions,
    verification: VerificationOptions,
    profiling: ProfileOptions,
    selection: SelectionOptions,
    training: TrainingOptions,
    evaluation: EvaluationOptions,
    held_out: HeldOut,
    reader: str = "auto",
    verifier: str = "tool_call",
    heldout: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """From logs to a better policy and a report: read, profile, select, train, evaluate, report.

    Args:
        source: A log file, a directory of logs, or a name that the reader knows (such as a Plancraft split).
        out: The run directory.
        reader: Reader plugin; auto tells the format by the content. `pivotrl list readers` names them.
        verifier: Verifier plugin with options, such as tool_call or command; see `pivotrl list verifiers`.
        heldout: A second source, held out for evaluation.
        resume: Go on with an interrupted run.
        overwrite: Start again in a directory that holds a run, which is moved to replaced/ in it.
        json: Print the summary as JSON.
    """
    with live_progress() as progress:
        summary = run_pipeline(
            source,
            out,
            reader=plugins.load("readers", reader),
            verifier=plugins.load("verifiers", verifier),
            policy=policy.load_late(require_policy),
            heldout=heldout,
            environments=held_out.make_environments(),
            retention=held_out.texts(),
            reading=reading,
            turns=turns,
            checking=checking,
            verification=verification,
            profiling=profiling,
            selection=selection,
            training=training,
            evaluation=evaluation,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )
    tables.print_summary(summary, json)


def read(
    source: tyro.conf.Positional[str],
    out: Output,
    reading: ReadOptions,
    reader: str = "auto",
    heldout: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Import logs as trajectories, split by task, and say what was lost.

    Args:
        source: A log file, a directory of logs, or a name that the reader knows.
        out: The run directory.
        reader: Reader plugin; auto tells the format by the content. `pivotrl list readers` names them.
        heldout: A second source, held out for evaluation.
        resume: Go on with an interrupted import.
        overwrite: Start again in a directory that holds a run, which is moved to replaced/ in it.
        json: Print the counts as JSON.
    """
    read_log = plugins.load("readers", reader)
    with starting_in(out, resume, overwrite), live_progress() as progress:
        read_stage(source, out, read_log, reading, heldout, progress, overwrite)
    if import_table.print_import(out, json):
        raise SystemExit(5)


def profile(
    directory: tyro.conf.Positional[Path],
    policy: PolicyChoice,
    turns: TurnOptions,
    checking: CheckOptions,
    verification: VerificationOptions,
    profiling: ProfileOptions,
    verifier: str = "tool_call",
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Sample the reference policy at every candidate turn and verify. Goes on where it stopped.

    Args:
        directory: A run directory with trajectories.
        verifier: Verifier plugin.
        overwrite: Move an earlier profile, and what was made from it, to replaced/.
        json: Print the counts as JSON.
    """
    with working_in(directory), live_progress() as progress:
        loaded = plugins.load("verifiers", verifier)
        profile_stage(
            directory, policy.load_late(), loaded, turns, profiling, progress, checking, verification, overwrite
        )
    tables.print_stage(directory, "profile", json)


def select(
    directory: tyro.conf.Positional[Path],
    selection: SelectionOptions,
    name: str | None = None,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Choose pivots from the profile. Never samples, so thresholds are free to change.

    Args:
        directory: A run directory with a profile.
        name: Keep this selection beside that of the run, as selections/<name>.jsonl; `train --selection` takes it.
        overwrite: Move an earlier selection that something was trained from, and those trainings, to replaced/.
        json: Print the counts as JSON.
    """
    with working_in(directory):
        select_stage(directory, selection, name, overwrite)
    tables.print_stage(directory, selection_stage(name), json)


def train(
    directory: tyro.conf.Positional[Path],
    policy: PolicyChoice,
    training: TrainingOptions,
    checking: CheckOptions,
    verification: VerificationOptions,
    verifier: str = "tool_call",
    selection: str | None = None,
    name: str | None = None,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Train at the pivots. Goes on where it stopped.

    Args:
        directory: A run directory with a selection.
        verifier: Verifier plugin.
        selection: Name of the selection to train on; without one, that of the run.
        name: Keep this training beside that of the run, in trainings/<name>/; `evaluate --training` takes it.
        overwrite: Move an earlier training, and its evaluations, to replaced/.
        json: Print the counts as JSON.
    """
    with working_in(directory), live_progress() as progress:
        train_stage(
            directory,
            policy.load_late(require_policy),
            plugins.load("verifiers", verifier),
            training,
            progress,
            checking,
            verification,
            overwrite,
            name,
            selection,
        )
    tables.print_stage(directory, training_stage(name), json)


def evaluate(
    directory: tyro.conf.Positional[Path],
    policy: PolicyChoice,
    turns: TurnOptions,
    evaluation: EvaluationOptions,
    held_out: HeldOut,
    verification: VerificationOptions,
    name: str = "after",
    training: str | None = None,
    verifier: str = "tool_call",
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Measure a policy on held-out turns, episodes and reference texts.

    Args:
        directory: A run directory.
        name: 'before' measures the policy as given; any other name loads the trained weights of the run first.
        training: Name of the training whose weights are measured; without one, that of the run.
        verifier: Verifier plugin.
        overwrite: Move an earlier evaluation of that name to replaced/.
        json: Print the counts as JSON.
    """
    with working_in(directory), live_progress() as progress:
        evaluate_stage(
            directory,
            name,
            policy.load_late(),
            plugins.load("verifiers", verifier),
            turns,
            evaluation,
            held_out.make_environments(),
            held_out.texts(),
            progress,
            verification,
            overwrite,
            training,
            load_weights=name != "before",
        )
    tables.print_stage(directory, evaluation_stage(name), json)
