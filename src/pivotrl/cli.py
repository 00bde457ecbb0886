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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from pivotrl import check_table, doctor_table, import_table, plugins, stages, tables
from pivotrl.checking import CheckOptions, check_stage
from pivotrl.evaluation import EvaluationOptions, load_retention
from pivotrl.exporting import ExportOptions
from pivotrl.exporting import export as export_pivots
from pivotrl.importing import ReadOptions, read_stage
from pivotrl.live_progress import errors, live_progress
from pivotrl.pipeline import run as run_pipeline
from pivotrl.probes.refusal import fault_of
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import Environment, InputError, NoPivots
from pivotrl.rendering import Renderer
from pivotrl.reporting import write_report
from pivotrl.selection import SelectionOptions
from pivotrl.store import RunLock
from pivotrl.summary import summarise
from pivotrl.training import TrainingOptions
from pivotrl.turns import TurnOptions
from pivotrl.verification import VerificationOptions, needs_policy

Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]


@dataclass(frozen=True)
class PolicyChoice:
    """Which policy acts and learns."""

    policy: str = "hf"
    """Policy plugin, with options: hf(lora_rank=16, frozen_layers=10), tabular."""
    model: str | None = None
    """For hf: a Hugging Face id, a model folder, or smollm2-135m-instruct (the default)."""
    adapter: str | None = None
    """For hf: a LoRA adapter folder merged into the weights first."""

    def load(self) -> Any:
        given = {"model": self.model, "adapter": self.adapter}
        return plugins.load("policies", self.policy, **{name: value for name, value in given.items() if value})


@dataclass(frozen=True)
class HeldOut:
    """What is played outside training."""

    environments: str | None = None
    """Environment plugin with options, for held-out episodes: plancraft(split='test')."""
    retention: Path | None = None
    """JSON-lines file of reference texts (id, source, prompt, answer) outside the task."""
    retention_texts: int | None = None
    """Use the first so many reference texts; None uses all."""

    def make_environments(self) -> Callable[[], Sequence[Environment]] | None:
        if self.environments is None:
            return None
        return _Made(self.environments, plugins.load("environments", self.environments))

    def texts(self) -> list[dict[str, str]]:
        return load_retention(self.retention, self.retention_texts) if self.retention else []


class _Made:
    """Calls an environment plugin; its manifest entry is the text it was named by."""

    def __init__(self, spec: str, make: Callable[..., Any]) -> None:
        self.__qualname__, self.__module__, self._make = spec, "environments", make

    def __call__(self) -> Sequence[Environment]:
        return list(self._make())


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
        overwrite: Start again in a directory that holds a run.
        json: Print the summary as JSON.
    """
    with live_progress() as progress:
        summary = run_pipeline(
            source,
            out,
            reader=plugins.load("readers", reader),
            verifier=plugins.load("verifiers", verifier),
            policy=policy.load(),
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
        overwrite: Start again in a directory that holds a run.
        json: Print the counts as JSON.
    """
    stages.prepare_directory(out, resume, overwrite)
    with RunLock(out), live_progress() as progress:
        read_stage(source, out, plugins.load("readers", reader), reading, heldout, progress)
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
        overwrite: Forget an earlier profile with other settings, and what was made from it.
        json: Print the counts as JSON.
    """
    with _stage(directory, "profile", False), live_progress() as progress:
        loaded = plugins.load("verifiers", verifier)
        stages.profile_stage(
            directory, policy.load(), loaded, turns, profiling, progress, checking, verification, overwrite
        )
    tables.print_stage(directory, "profile", json)


def select(
    directory: tyro.conf.Positional[Path], selection: SelectionOptions, overwrite: bool = False, json: bool = False
) -> None:
    """Choose pivots from the profile. Never samples, so thresholds are free to change.

    Args:
        directory: A run directory with a profile.
        overwrite: Forget an earlier selection with other settings, and what was made from it.
        json: Print the counts as JSON.
    """
    with _stage(directory, "select", overwrite):
        stages.select_stage(directory, selection)
    tables.print_stage(directory, "select", json)


def train(
    directory: tyro.conf.Positional[Path],
    policy: PolicyChoice,
    training: TrainingOptions,
    checking: CheckOptions,
    verification: VerificationOptions,
    verifier: str = "tool_call",
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Train at the pivots. Goes on where it stopped.

    Args:
        directory: A run directory with a selection.
        verifier: Verifier plugin.
        overwrite: Forget an earlier training with other settings.
        json: Print the counts as JSON.
    """
    with _stage(directory, "train", False), live_progress() as progress:
        loaded = plugins.load("verifiers", verifier)
        stages.train_stage(directory, policy.load(), loaded, training, progress, checking, verification, overwrite)
    tables.print_stage(directory, "train", json)


def evaluate(
    directory: tyro.conf.Positional[Path],
    policy: PolicyChoice,
    turns: TurnOptions,
    evaluation: EvaluationOptions,
    held_out: HeldOut,
    verification: VerificationOptions,
    name: str = "after",
    verifier: str = "tool_call",
    overwrite: bool = False,
    json: bool = False,
) -> None:
    """Measure a policy on held-out turns, episodes and reference texts.

    Args:
        directory: A run directory.
        name: 'before' measures the policy as given; any other name loads the trained weights of the run first.
        verifier: Verifier plugin.
        overwrite: Forget an earlier evaluation of that name.
        json: Print the counts as JSON.
    """
    with _stage(directory, f"evaluations/{name}", overwrite), live_progress() as progress:
        loaded = policy.load()
        if name != "before":
            stages.load_trained(directory, loaded)
        stages.evaluate_stage(
            directory,
            name,
            loaded,
            plugins.load("verifiers", verifier),
            turns,
            evaluation,
            held_out.make_environments(),
            held_out.texts(),
            progress,
            verification,
        )
    tables.print_stage(directory, f"evaluations/{name}", json)


def report(directory: tyro.conf.Positional[Path], json: bool = False) -> None:
    """Write report.html and report.json from the files of a run.

    Args:
        directory: A run directory.
        json: Print the summary as JSON.
    """
    tables.require_run(directory)
    path = write_report(directory)
    errors.print(f"wrote {path}")
    tables.print_summary(summarise(directory), json)


def export(
    directory: tyro.conf.Positional[Path],
    exporter: tyro.conf.Positional[str],
    out: Output,
    exporting: ExportOptions,
    json: bool = False,
) -> None:
    """Write the pivots as files for another training stack, with a README that says how to start it on them.

    Args:
        directory: A run directory with a selection.
        exporter: Exporter plugin: ms_swift, nemo_gym, skyrl, trl, verifiers, verl.
        out: A new or empty folder.
        json: Print the counts as JSON.
    """
    tables.require_run(directory)
    export_pivots(directory, plugins.load("exporters", exporter), out, exporting)
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

    The last line says whether it may be used. The exit code is 2 where profiling and training would refuse it.

    Args:
        directory: A run directory with trajectories.
        verifier: Verifier plugin.
        json: Print the report as JSON.
    """
    tables.require_run(directory)
    candidates, _ = stages.load_turns(directory, turns)
    with RunLock(directory), live_progress() as progress:
        loaded = plugins.load("verifiers", verifier)
        sampler = policy.load() if needs_policy(loaded) else None
        report = check_stage(directory, candidates, loaded, checking, progress, sampler, verification)
    check_table.print_check(report, checking, json)
    if fault_of(report, checking.max_false_pass):
        sys.exit(2)


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
    model: str | None = None,
    tokens: bool = False,
) -> None:
    """Print one turn: the end of its context, the expected action, samples and verdicts.

    Args:
        directory: A run directory.
        turn_id: trajectory_id#message_index; without one the pivots are listed.
        num_messages: Messages of the context to show.
        model: Print the prompt as this model sees it instead: a Hugging Face id, a folder, or smollm2-135m-instruct.
        tokens: With --model, mark where each token ends.
    """
    tables.require_run(directory)
    if model is None or turn_id is None:
        tables.print_turn(directory, turn_id, num_messages)
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


@contextmanager
def _stage(directory: Path, stage: str, overwrite: bool) -> Iterator[None]:
    tables.require_run(directory)
    with RunLock(directory):
        if overwrite:
            stages.reset_stage(directory, stage)
        yield


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
