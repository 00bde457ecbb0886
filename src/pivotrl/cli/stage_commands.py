"""The subcommands that run one stage or all of them.

The flags are the fields of the Python functions' options, so nothing is declared twice. Names become plugins only in
:mod:`pivotrl.cli`; the training method alone is named by its text in Python too.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from pivotrl import plugins
from pivotrl.cli import import_table, tables
from pivotrl.cli.arguments import options_of
from pivotrl.cli.choices import HeldOut, PolicyChoice, Price, SamplerChoice, TrainedIn
from pivotrl.cli.configuration import ConfigWriter
from pivotrl.cli.processes import PlacedOn
from pivotrl.cli.prompting import prompting_of
from pivotrl.cli.selection_table import print_selection
from pivotrl.cli.watching import Watching
from pivotrl.evaluation import EvaluationOptions
from pivotrl.judging.guarded import VerificationOptions
from pivotrl.judging.lint import CheckOptions
from pivotrl.options import refuse
from pivotrl.pipeline import run as run_pipeline
from pivotrl.plugins.shapes import require_policy
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import NoPivots
from pivotrl.reading.importing import ReadOptions
from pivotrl.runs.directory import starting_in, working_in
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import of_seed, selection_stage, training_stage
from pivotrl.selection import SelectionOptions
from pivotrl.stages.evaluating import evaluate_stage
from pivotrl.stages.judging import profile_samples_stage
from pivotrl.stages.judging_again import judge_again_stage
from pivotrl.stages.profile_identity import Kind
from pivotrl.stages.profiling import profile_stage
from pivotrl.stages.reading import read_stage
from pivotrl.stages.selecting import profile_distances, select_stage
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
    trained_in: TrainedIn,
    watching: Watching,
    price: Price,
    placement: PlacedOn,
    reader: str = "auto",
    verifier: str = "tool_call",
    heldout: str | None = None,
    profile_may_differ_in: tuple[Kind, ...] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Run every stage from logs to report: read, profile, select, train, evaluate, report.

    Args:
        source: A log file, a directory of logs, or a name that the reader knows (such as a Plancraft split).
        out: The run directory.
        reader: Reader plugin; auto detects the format from the content. See `pivotrl list readers`.
        verifier: Verifier plugin with options, such as tool_call or command. See `pivotrl list verifiers`.
        heldout: A second source, held out for evaluation.
        profile_may_differ_in: What the run's profile may differ in from this training; anything else is refused.
        resume: Continue an interrupted run.
        overwrite: Move an existing run in the directory to its replaced/ folder and start again.
        json: Print the summary as JSON.
    """
    remembered = ConfigWriter(out, options_of(locals()))
    with watching.observer(remembered, directory=out, price_per_hour=price.price_per_hour) as observer:
        summary = run_pipeline(
            source,
            out,
            reader=plugins.load("readers", reader),
            verifier=plugins.load("verifiers", verifier),
            policy=policy.load_late(require_policy, observer=observer),
            heldout=heldout,
            environments=held_out.make_environments(),
            train_environments=trained_in.make_environments(),
            retention=held_out.texts(),
            answers=held_out.questions(),
            reading=reading,
            turns=turns,
            checking=checking,
            verification=verification,
            profiling=profiling,
            selection=selection,
            training=training,
            evaluation=evaluation,
            profile_may_differ_in=profile_may_differ_in or (),
            resume=resume,
            overwrite=overwrite,
            observer=observer,
        )
    tables.print_summary(dataclasses.replace(summary, price_per_hour=price.price_per_hour), json)


def read(
    source: tyro.conf.Positional[str],
    out: Output,
    reading: ReadOptions,
    watching: Watching,
    reader: str = "auto",
    heldout: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Import logs as trajectories, split them by task, and report what was lost.

    Args:
        source: A log file, a directory of logs, or a name that the reader knows.
        out: The run directory.
        reader: Reader plugin; auto detects the format from the content. See `pivotrl list readers`.
        heldout: A second source, held out for evaluation.
        resume: Continue an interrupted import.
        overwrite: Move an existing run in the directory to its replaced/ folder and start again.
        json: Print the counts as JSON.
    """
    read_log = plugins.load("readers", reader)
    with starting_in(out, resume, overwrite), watching.observer() as observer:
        read_stage(
            source, out, reader=read_log, reading=reading, heldout=heldout, overwrite=overwrite, observer=observer
        )
    if import_table.print_import(out, json):
        raise SystemExit(5)


def profile(
    directory: tyro.conf.Positional[Path],
    policy: SamplerChoice,
    turns: TurnOptions,
    checking: CheckOptions,
    verification: VerificationOptions,
    profiling: ProfileOptions,
    watching: Watching,
    price: Price,
    placement: PlacedOn,
    verifier: str = "tool_call",
    samples: tuple[Path, ...] | None = None,
    judge_again: bool = False,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Sample the reference policy at every candidate turn and verify the samples. Resumes where it stopped.

    Args:
        directory: A run directory with trajectories.
        verifier: Verifier plugin.
        samples: Files of samples made elsewhere from `pivotrl prompts`; they are verified, and nothing is sampled.
        judge_again: Judge the samples of the run's profile by this verifier. The old profile moves to replaced/.
        overwrite: Move an earlier profile, and everything made from it, to replaced/.
        json: Print the counts as JSON.
    """
    if samples is not None and policy.sampler is not None:
        refuse("samples", samples[0], "were made elsewhere, so no --sampler acts; leave one out")
    if judge_again and (samples is not None or policy.sampler is not None):
        refuse("judge_again", "", "takes the samples of the run's profile; leave out --samples and --sampler")
    judge = plugins.load("verifiers", verifier)
    with working_in(directory), watching.observer(directory=directory, price_per_hour=price.price_per_hour) as observer:
        if samples is not None:
            profile_samples_stage(
                directory,
                samples,
                verifier=judge,
                prompting=prompting_of(policy),
                turns=turns,
                profiling=profiling,
                checking=checking,
                verification=verification,
                overwrite=overwrite,
                observer=observer,
            )
        elif judge_again:
            judge_again_stage(
                directory,
                verifier=judge,
                policy=policy.load_late(observer=observer),
                checking=checking,
                verification=verification,
                overwrite=overwrite,
                observer=observer,
            )
        else:
            profile_stage(
                directory,
                verifier=judge,
                sampler=policy.load_late(observer=observer),
                turns=turns,
                profiling=profiling,
                checking=checking,
                verification=verification,
                overwrite=overwrite,
                observer=observer,
            )
    tables.print_stage(directory, "profile", json)


def select(
    directory: tyro.conf.Positional[Path],
    selection: SelectionOptions,
    labels: Path | None = None,
    name: str | None = None,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Choose pivots from the profile, and print what its samples say of them. Never samples: it costs nothing.

    Args:
        directory: A run directory with a profile.
        labels: Labels exported from the page of `pivotrl view`: turns to drop, further right actions, notes.
        name: Save as selections/<name>.jsonl instead of as the run's selection; use it with `train --selection`.
        overwrite: Move an earlier selection, and the trainings made from it, to replaced/.
        json: Print the counts and all numbers as JSON.
    """
    files, nothing = RunFiles(directory), None
    with working_in(directory):
        try:
            select_stage(directory, selection=selection, labels=labels, name=name, overwrite=overwrite, files=files)
        except NoPivots as error:
            nothing = error
    print_selection(directory, selection_stage(name), profile_distances(directory, files, name), json)
    if nothing is not None:
        raise nothing


def train(
    directory: tyro.conf.Positional[Path],
    policy: PolicyChoice,
    training: TrainingOptions,
    trained_in: TrainedIn,
    checking: CheckOptions,
    verification: VerificationOptions,
    watching: Watching,
    price: Price,
    placement: PlacedOn,
    verifier: str = "tool_call",
    selection: str | None = None,
    name: str | None = None,
    seeds: tuple[int, ...] | None = None,
    profile_may_differ_in: tuple[Kind, ...] | None = None,
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Train at the pivots. Resumes where it stopped.

    Args:
        directory: A run directory with a selection.
        verifier: Verifier plugin.
        selection: Name of the selection to train on; default is the run's selection.
        name: Save in trainings/<name>/ instead of as the run's training; use it with `evaluate --training`.
        seeds: Train once for each of these seeds, in trainings/seed0/ or <name>-seed0/ and so on.
        profile_may_differ_in: What the run's profile may differ in from this training; anything else is refused.
        overwrite: Move an earlier training, and its evaluations, to replaced/.
        json: Print the counts as JSON.
    """
    if seeds is not None and len(set(seeds)) != max(1, len(seeds)):
        refuse("seeds", " ".join(map(str, seeds)), "must name one or more seeds, each once")
    names: list[str | None] = [name] if seeds is None else [of_seed(name, seed) for seed in seeds]
    with working_in(directory), watching.observer(directory=directory, price_per_hour=price.price_per_hour) as observer:
        for one, seed in zip(names, seeds or [None], strict=True):
            train_stage(
                directory,
                policy=policy.load_late(require_policy, seed, observer),
                verifier=plugins.load("verifiers", verifier),
                training=training if seed is None else dataclasses.replace(training, train_seed=seed),
                checking=checking,
                verification=verification,
                overwrite=overwrite,
                name=one,
                selection=selection,
                environments=trained_in.make_environments(),
                profile_may_differ_in=profile_may_differ_in or (),
                observer=observer,
            )
    tables.print_stages(directory, [training_stage(one) for one in names], json)


def evaluate(
    directory: tyro.conf.Positional[Path],
    policy: SamplerChoice,
    turns: TurnOptions,
    evaluation: EvaluationOptions,
    held_out: HeldOut,
    verification: VerificationOptions,
    watching: Watching,
    price: Price,
    placement: PlacedOn,
    name: str = "after",
    training: str | None = None,
    checkpoint: str | None = None,
    as_given: bool = False,
    verifier: str = "tool_call",
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Measure a policy on held-out turns, episodes and reference texts.

    Args:
        directory: A run directory.
        name: 'before' measures the policy as given; any other name loads the trained weights first.
        training: Name of the training to measure; default is the run's training.
        checkpoint: Measure this checkpoint of the training, such as 40 (steps), or the checkpoint at this path.
        as_given: Measure the policy as given (its --model and --adapter) under this name, without trained weights.
        verifier: Verifier plugin.
        overwrite: Move an earlier evaluation of this name to replaced/.
        json: Print the counts as JSON.
    """
    with working_in(directory), watching.observer(directory=directory, price_per_hour=price.price_per_hour) as observer:
        evaluate_stage(
            directory,
            name=name,
            policy=policy.load_late(observer=observer),
            verifier=plugins.load("verifiers", verifier),
            turns=turns,
            evaluation=evaluation,
            environments=held_out.make_environments(),
            retention=held_out.texts(),
            answers=held_out.questions(),
            verification=verification,
            overwrite=overwrite,
            training=training,
            load_weights=name != "before" and policy.sampler is None and not as_given,
            checkpoint=checkpoint,
            as_given=as_given,
            observer=observer,
        )
    tables.print_scores(directory, name, json)
