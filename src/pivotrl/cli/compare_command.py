"""The subcommand that compares training methods on logs."""

from __future__ import annotations

from functools import partial

import tyro

from pivotrl import plugins
from pivotrl.cli.choices import HeldOut, PolicyChoice, Price, TrainedIn
from pivotrl.cli.comparison_table import print_comparison
from pivotrl.cli.stage_commands import Output
from pivotrl.cli.watching import Watching
from pivotrl.comparison.logs import GridOptions, compare_logs, table_so_far
from pivotrl.comparison.page import write_comparison
from pivotrl.evaluation import EvaluationOptions
from pivotrl.judging.guarded import VerificationOptions
from pivotrl.judging.lint import CheckOptions
from pivotrl.profiling import ProfileOptions
from pivotrl.reading.importing import ReadOptions
from pivotrl.report.page import require_packages
from pivotrl.runs.lock import RunLock
from pivotrl.selection import SelectionOptions
from pivotrl.training import TrainingOptions
from pivotrl.turns import TurnOptions


def compare(
    source: tyro.conf.Positional[str],
    out: Output,
    policy: PolicyChoice,
    grid: GridOptions,
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
    reader: str = "auto",
    verifier: str = "tool_call",
    exact_verifier: str = "exact",
    heldout: str | None = None,
    json: bool = False,
) -> None:
    """Compare training methods on logs over learning rates and seeds, and recommend one.

    Every checkpoint of every training is measured on held-out turns (and episodes, with --environments), greedily and
    at temperature 1, and outside the task (with --retention or --answers). Half of the held-out tasks choose the
    learning rate and checkpoint of each method, the other half give the numbers. Interrupted, it shows what is done;
    started again, it goes on.

    Args:
        source: A log file, a directory of logs, or a name that the reader knows.
        out: The directory of the comparison.
        reader: Reader plugin; auto detects the format from the content. See `pivotrl list readers`.
        verifier: Verifier plugin with options, such as tool_call or command. See `pivotrl list verifiers`.
        exact_verifier: Verifier of the arms that reward only the demonstrated action.
        heldout: A second source, held out for evaluation.
        json: Print the result as JSON.
    """
    with RunLock(out), watching.observer() as observer:
        require_packages()
        try:
            table = compare_logs(
                source,
                out,
                reader=plugins.load("readers", reader),
                verifier=plugins.load("verifiers", verifier),
                exact_verifier=plugins.load("verifiers", exact_verifier),
                make_policy=partial(policy.make, observer=observer),
                heldout=heldout,
                environments=held_out.make_environments(),
                train_environments=trained_in.make_environments(),
                retention=held_out.texts(),
                answers=held_out.questions(),
                grid=grid,
                reading=reading,
                turns=turns,
                checking=checking,
                verification=verification,
                profiling=profiling,
                selection=selection,
                training=training,
                evaluation=evaluation,
                observer=observer,
            )
        except KeyboardInterrupt:
            if so_far := table_so_far(out):
                made = write_comparison(out, so_far, grid.arms, grid.score, price.price_per_hour, finished=False)
                print_comparison(made, out, json)
            raise
        print_comparison(write_comparison(out, table, grid.arms, grid.score, price.price_per_hour), out, json)
