"""One subcommand a stage; the only place where names become plugins.

Flags are the fields of the options that the Python functions take, so nothing is declared twice. Progress goes to
stderr, results to stdout.

Exit codes: 0 done; 2 input or options cannot be used; 3 nothing to train on; 4 the disk refused; 5 imported, but
for records that could not be read; 6 the sandbox does not hold; 130 interrupted (what is finished is kept; go on with
--resume).
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import tyro

from pivotrl import check_table, doctor_table, import_table, plugins, stages, tables
from pivotrl.checking import CheckOptions, check_stage
from pivotrl.evaluation import EvaluationOptions
from pivotrl.exporting import ExportOptions
from pivotrl.exporting import export as export_pivots
from pivotrl.importing import ReadOptions, read_stage
from pivotrl.live_progress import errors, live_progress
from pivotrl.pipeline import run as run_pipeline
from pivotrl.policy_choice import HeldOut, PolicyChoice
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import InputError, NoPivots, Notice
from pivotrl.rendering import Renderer
from pivotrl.reporting import write_report
from pivotrl.run_directory import require_run, starting_in, working_in
from pivotrl.run_layout import evaluation_stage, selection_stage, training_stage
from pivotrl.selection import SelectionOptions
from pivotrl.summary import summarise
from pivotrl.training import TrainingOptions
from pivotrl.turns import TurnOptions
from pivotrl.verification import VerificationOptions, needs_policy

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
            policy=policy.load_late(),
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
        stages.profile_stage(
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
        stages.select_stage(directory, selection, name, overwrite)
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
        stages.train_stage(
            directory,
            policy.load_late(),
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
        stages.evaluate_stage(
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


def report(directory: tyro.conf.Positional[Path], json: bool = False) -> None:
    """Write report.html and report.json from the files of a run.

    Args:
        directory: A run directory.
        json: Print the summary as JSON.
    """
    require_run(directory)
    path = write_report(directory)
    errors.print(f"wrote {path}")
    tables.print_summary(summarise(directory), json)


def export(
    directory: tyro.conf.Positional[Path],
    exporter: tyro.conf.Positional[str],
    out: Output,
    exporting: ExportOptions,
    selection: str | None = None,
    json: bool = False,
) -> None:
    """Write the pivots as files for another training stack, with a README that says how to start it on them.

    Args:
        directory: A run directory with a selection.
        exporter: Exporter plugin: ms_swift, nemo_gym, skyrl, trl, verifiers, verl.
        out: A new or empty folder.
        selection: Name of the selection whose pivots are written; without one, that of the run.
        json: Print the counts as JSON.
    """
    require_run(directory)
    export_pivots(directory, plugins.load("exporters", exporter), out, exporting, selection)
    tables.print_stage(out, "export", json)


def check(
    directory: tyro.conf.Positional[Path],
    policy: PolicyChoice,
    turns: TurnOptions,
    checking: CheckOptions,
    verification: VerificationOptions,
    verifier: str = "tool_call",
    json: bool = False,
) -> None:
    """Put wrong actions and right ones in other spellings before the verifier: what it pays for, and what it refuses.

    Args:
        directory: A run directory with trajectories.
        verifier: Verifier plugin.
        json: Print the report as JSON.
    """
    with working_in(directory), live_progress() as progress:
        loaded = plugins.load("verifiers", verifier)
        candidates, _ = stages.load_turns(directory, turns)
        sampler = policy.load_late() if needs_policy(loaded) else None
        report = check_stage(directory, candidates, loaded, checking, progress, sampler, verification)
    check_table.print_check(report, checking, json)


def doctor(sandbox: str = "bwrap", require_cgroup: bool = False, json: bool = False) -> None:
    """Attack the sandbox that model-written code will run in, and say whether it holds. Some two minutes.

    Args:
        sandbox: Backend: bwrap, gvisor, docker.
        require_cgroup: Refuse a sandbox without a cgroup of its own, which only resource limits then bound.
        json: Print what was found as JSON.
    """
    with live_progress() as progress:
        found = doctor_table.examine(sandbox, require_cgroup, progress)
    if not doctor_table.print_sandbox(found, json):
        raise SystemExit(6)


def show(
    directory: tyro.conf.Positional[Path],
    turn_id: tyro.conf.Positional[str | None] = None,
    num_messages: int = 4,
    selection: str | None = None,
    model: str | None = None,
    tokens: bool = False,
) -> None:
    """Print one turn: the end of its context, the expected action, samples and verdicts.

    Args:
        directory: A run directory.
        turn_id: trajectory_id#message_index; without one the pivots are listed.
        num_messages: Messages of the context to show.
        selection: Name of the selection whose pivots are listed; without one, that of the run.
        model: Print the prompt as this model sees it instead: a Hugging Face id, a folder, or smollm2-135m-instruct.
        tokens: With --model, mark where each token ends.
    """
    require_run(directory)
    if model is None or turn_id is None:
        tables.print_turn(directory, turn_id, num_messages, selection)
        return
    from pivotrl.engine.loading import load_tokenizer  # imports torch, which only this way of showing needs

    tables.print_prompt(directory, turn_id, Renderer(load_tokenizer(model)), tokens)


def list_plugins(kind: tyro.conf.Positional[str | None] = None, json: bool = False) -> None:
    """List readers, verifiers, samplers, policies and environments with their options.

    Args:
        kind: Only this kind.
        json: Print as JSON.
    """
    tables.print_plugins(kind, json)


COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "read": read,
    "profile": profile,
    "select": select,
    "train": train,
    "evaluate": evaluate,
    "report": report,
    "export": export,
    "check": check,
    "doctor": doctor,
    "show": show,
    "list": list_plugins,
}


@contextmanager
def guarded(go_on: str = "the same command and --resume") -> Iterator[None]:
    """Inside, what a user can mend ends the process with one clear line and an exit code, never a traceback.

    Args:
        go_on: what continues an interrupted run.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _shown_notices():
            yield
    except NoPivots as error:
        _fail(str(error), 3)
    except InputError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        # From here on a second Ctrl-C ends the process at once; every finished record is on disk already.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _fail(f"interrupted; everything finished is kept. Go on with {go_on}", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output has gone
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        reason = f"{error.strerror or error}{where}"
        _fail(f"{reason}; what was finished is kept. Free space or mend the path, then go on with {go_on}", 4)
    except ValueError as error:
        _fail(str(error), 2)


@contextmanager
def _shown_notices() -> Iterator[None]:
    """Inside, a notice is one line on stderr; any other warning is Python's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", Notice)
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            if issubclass(category, Notice):
                errors.print(f"[bold yellow]pivotrl:[/] {tables.plain(str(message))}", soft_wrap=True)
            else:
                shown(message, category, *place, **options)

        warnings.showwarning = show
        yield


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the ``pivotrl`` command."""
    if "" not in sys.path:  # plugins of the user's own, after everything that is installed
        sys.path.append(str(Path.cwd()))
    given = sys.argv[1:] if arguments is None else arguments
    with guarded("the same command and --resume" if list(given[:1]) in (["run"], ["read"]) else "the same command"):
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="pivotrl",
            description="Train agents at the turns that matter.",
            args=arguments,
            config=(tyro.conf.OmitArgPrefixes,),
        )


def _fail(message: str, code: int) -> None:
    errors.print(f"[bold red]pivotrl:[/] {tables.plain(message)}", soft_wrap=True)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
