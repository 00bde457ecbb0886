"""The subcommands that show, check and export a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from pivotrl import plugins
from pivotrl.cli import check_table, doctor_table, prompts_table, status_table, tables, waver_table
from pivotrl.cli.choices import PolicyChoice
from pivotrl.cli.live_progress import errors, live_progress
from pivotrl.cli.plugin_list import print_plugins
from pivotrl.cli.prompting import prompting_of
from pivotrl.cli.turn_json import print_candidates_as_json, print_turn_as_json
from pivotrl.cli.view_page import comparison_view, prompting_in, scores_in, views_in
from pivotrl.comparison.checkpoints import find_trials
from pivotrl.judging.guarded import VerificationOptions, needs_policy
from pivotrl.judging.lint import CheckOptions, check_stage
from pivotrl.judging.probes.refusal import fault_of
from pivotrl.options import refuse
from pivotrl.profiling import ProfileOptions
from pivotrl.protocols import InputError
from pivotrl.protocols.observing import at_work
from pivotrl.rendering import Renderer
from pivotrl.report.browser import ViewOptions, write_view
from pivotrl.report.wavering import Order
from pivotrl.rows.exporting import ExportOptions
from pivotrl.rows.exporting import export as export_pivots
from pivotrl.rows.labels import read_labels
from pivotrl.rows.prompts import write_prompts
from pivotrl.runs.directory import require_page_place, require_run, working_in
from pivotrl.runs.files import RunFiles
from pivotrl.runs.manifest import find_manifest
from pivotrl.stages.profiling import load_turns
from pivotrl.turns import TurnOptions

Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]
OutputFile = Annotated[Path | None, tyro.conf.arg(aliases=["-o"])]


def export(
    directory: tyro.conf.Positional[Path],
    exporter: tyro.conf.Positional[str],
    out: Output,
    exporting: ExportOptions,
    selection: str | None = None,
    json: bool = False,
) -> None:
    """Write the pivots as files for another training library, with a README on how to use them.

    Args:
        directory: A run directory with a selection.
        exporter: Exporter plugin, such as trl; `pivotrl list exporters` names them.
        out: A new or empty folder.
        selection: Name of the selection to export; default is the run's selection.
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
    """Test the verifier on demonstrated actions, wrong variants and equivalent spellings.

    The last line says whether the verifier is fit to use. The exit code is 2 if profiling and training would refuse it.

    Args:
        directory: A run directory with trajectories.
        verifier: Verifier plugin.
        json: Print the report as JSON.
    """
    with working_in(directory), live_progress() as observer:
        loaded = plugins.load("verifiers", verifier)
        candidates, _ = load_turns(directory, turns)
        sampler = policy.load_late(observer=observer) if needs_policy(loaded) else None
        report = check_stage(directory, candidates, loaded, checking, observer, sampler, verification)
    check_table.print_check(report, checking, json)
    if fault_of(report, checking.max_false_pass):
        raise SystemExit(2)


def doctor(sandbox: str = "bwrap", require_cgroup: bool = False, json: bool = False) -> None:
    """Attack the sandbox that runs model-written code and report whether it holds. Takes about two minutes.

    Args:
        sandbox: Backend: bwrap, gvisor or docker.
        require_cgroup: Refuse a sandbox that has no cgroup of its own and relies on resource limits alone.
        json: Print the findings as JSON.
    """
    with live_progress() as observer:
        found = doctor_table.examine(sandbox, require_cgroup, observer)
    if not doctor_table.print_sandbox(found, json):
        raise SystemExit(6)


def prompts(
    directory: tyro.conf.Positional[Path],
    out: Output,
    policy: PolicyChoice,
    turns: TurnOptions,
    profiling: ProfileOptions,
    json: bool = False,
) -> None:
    """Write the candidate turns as prompts for a model that samples elsewhere. Samples nothing and loads no weights.

    Bring the samples back with `pivotrl profile RUN --samples FILE`.

    Args:
        directory: A run directory with trajectories.
        out: The file to write: JSON lines, first a header, then one line for each turn.
        json: Print the counts as JSON.
    """
    require_run(directory)
    candidates, _ = load_turns(directory, turns)
    with live_progress() as observer:
        with at_work(observer, "loading the tokenizer"):
            prompting = prompting_of(policy)
        with at_work(observer, "writing the prompts"):
            written, skipped = write_prompts(out, candidates, profiling, prompting)
    prompts_table.print_prompts(out, written, skipped, prompting is not None, json)


def status(directory: tyro.conf.Positional[Path], json: bool = False) -> None:
    """Print the stages of a run, their counts and cost so far, and the command to run next.

    Args:
        directory: A run directory.
        json: Print everything as JSON.
    """
    require_run(directory)
    status_table.print_status(directory, json)


def waver(directory: tyro.conf.Positional[Path], json: bool = False) -> None:
    """Print where the profiled agent wavers: by tool, depth, reason of failure, and equal wrong actions.

    Args:
        directory: A run directory with a profile, finished or not.
        json: Print the report as JSON.
    """
    require_run(directory)
    waver_table.print_wavering(directory, json)


def show(
    directory: tyro.conf.Positional[Path],
    turn_id: tyro.conf.Positional[str | None] = None,
    num_messages: int = 4,
    selection: str | None = None,
    model: str | None = None,
    tokens: bool = False,
    sort: Order | None = None,
    all: bool = False,
    json: bool = False,
) -> None:
    """Print a turn: the end of its context, the expected action, samples and verdicts. Without a turn, list the pivots.

    Args:
        directory: A run directory.
        turn_id: trajectory_id#message_index; omit it to list the pivots.
        num_messages: Number of context messages to show.
        selection: Name of the selection to list; default is the run's selection.
        model: Print the prompt as this model sees it: a Hugging Face id, a folder, or smollm2-135m-instruct.
        tokens: With --model, mark token boundaries.
        sort: List the turns by variance, pass-rate or depth.
        all: List all profiled turns, not only the pivots.
        json: Print the turn as JSON, or the list, with the reasons and the wrong actions of each turn.
    """
    require_run(directory)
    if json and turn_id is not None and sort is None and not all and model is None:
        print_turn_as_json(directory, turn_id)
        return
    if json and sort is None and not all and selection is None and find_manifest(directory, "profile") is None:
        print_candidates_as_json(directory)
        return
    if sort is not None or all or json:
        if turn_id is not None:
            raise InputError("--sort and --all are for the list of turns, --model is for text; leave one out")
        waver_table.print_turns(directory, sort, all, selection, json)
        return
    if model is None or turn_id is None:
        tables.print_turn(directory, turn_id, num_messages, selection)
        return
    from pivotrl.engine.tokenizers import load_tokenizer

    tables.print_prompt(directory, turn_id, Renderer(load_tokenizer(model)), tokens)


def view(
    directory: tyro.conf.Positional[Path],
    showing: ViewOptions,
    out: OutputFile = None,
    prompts: bool = True,
    environments: tuple[str, ...] | None = None,
    labels: Path | None = None,
    score_pivots: int | None = None,
) -> None:
    """Write the pivot browser: one page with every turn, its samples, and what a model saw there.

    The page needs no server and no network; open it in a browser.

    Args:
        directory: A run directory, or one of `pivotrl compare`; complete or not.
        out: The file to write; default is view.html in the directory.
        prompts: Include each prompt as the model saw it, if its tokenizer can be loaded.
        environments: Environment plugins whose render_view draws pictures; default is those of the run.
        labels: Labels that an earlier page exported; the page begins with them.
        score_pivots: Score the samples of this many pivots with the policy before and after training, and show the
            change of each token. Loads the model.
    """
    if directory.is_dir() and find_trials(directory):
        path = comparison_view(directory, out, showing, environments, labels, score_pivots)
        errors.print(f"wrote {tables.plain(str(path))}", soft_wrap=True)
        return
    require_run(directory)
    require_page_place(out)
    if showing.against is not None:
        require_run(showing.against)
    with live_progress() as observer, at_work(observer, "loading the tokenizer" if prompts else ""):
        prompting = prompting_in(directory) if prompts else "--no-prompts was given"
    if isinstance(prompting, str) and score_pivots is not None:
        refuse("score_pivots", score_pivots, f"needs a tokenizer to show the tokens with, but {prompting}")
    if showing.tokens and not prompts:
        raise InputError("--tokens needs the tokenizer, which --no-prompts leaves out; give one of them")
    views = views_in(directory, environments)
    labelled = read_labels(labels, RunFiles(directory)) if labels else ()
    with live_progress() as observer:
        scores = scores_in(directory, score_pivots, showing.selection, observer) if score_pivots is not None else None
        with at_work(observer, "writing the page"):
            path = write_view(
                directory,
                out,
                showing,
                prompting,
                views,
                labelled,
                scores,
                lambda done, total: observer.progress("trajectories", done, total),
            )
    errors.print(f"wrote {tables.plain(str(path))}", soft_wrap=True)


def list_plugins(
    kind: tyro.conf.Positional[str | None] = None, name: tyro.conf.Positional[str | None] = None, json: bool = False
) -> None:
    """List the plugins of every kind, one line each; with a kind and a name, one plugin and its options.

    Args:
        kind: readers, verifiers, samplers, policies, environments, exporters, methods or trackers.
        name: Print this plugin with its options.
        json: Print the list as JSON, with the options.
    """
    print_plugins(kind, name, json)
