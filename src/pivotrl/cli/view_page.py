"""The command ``view``: finds what writes a run's prompts and what draws its environments, then writes the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pivotrl.cli.choices import PolicyChoice
from pivotrl.cli.live_progress import live_progress
from pivotrl.cli.prompting import prompting_of
from pivotrl.comparison.browsing import write_comparison_view
from pivotrl.options import refuse
from pivotrl.plugins import names, parse_spec
from pivotrl.plugins.shapes import require_policy
from pivotrl.protocols import InputError
from pivotrl.protocols.observing import Observer
from pivotrl.report.browser import ViewOptions
from pivotrl.report.browser.scoring import Scores, score_pivots
from pivotrl.report.browser.views import Views
from pivotrl.rows.prompts import Prompting
from pivotrl.runs.directory import require_page_place
from pivotrl.runs.manifest import find_manifest
from pivotrl.runs.memory import remembered


def prompting_in(directory: Path) -> Prompting | str:
    """What writes the prompts of the run's model, without its weights; or why nothing can."""
    known = remembered(directory, "run")
    spec = known.get("policy")
    if spec is None:
        return "the run has not sampled anything with a policy"
    if parse_spec(spec)[0] != "hf":
        return f"the policy {spec} has no tokenizer that loads without its weights"
    try:
        found = prompting_of(PolicyChoice(policy=spec, model=known.get("model"), adapter=known.get("adapter")))
    except (InputError, ImportError) as error:
        return f"the tokenizer of {known.get('model') or spec} could not be loaded ({error})"
    return found or "the run does not say which model it used"


def views_in(directory: Path, environments: tuple[str, ...] | None) -> Views:
    """Pictures of the environments given, or of those that the run played or read its logs from.

    Raises:
        InputError: an environment that was given does not exist.
    """
    if environments is not None:
        return Views.of(environments, must_exist=True)
    known = remembered(directory, "run")
    specs: list[Any] = [*known.get("environments", ()), *known.get("train_environments", ())]
    read = find_manifest(directory, "read")
    reader = (read.plugins.get("reader") or "") if read else ""
    named = dict.fromkeys(parse_spec(spec)[0] for spec in [*specs, *([reader] if reader else [])])
    built_in = names("environments")
    return Views.of([name for name in named if ":" in name or name in built_in], must_exist=False)


def comparison_view(
    directory: Path,
    out: Path | None,
    showing: ViewOptions,
    environments: tuple[str, ...] | None,
    labels: Path | None,
    score_pivots: int | None,
) -> Path:
    """Write the page of a comparison; its path.

    Raises:
        InputError: an option was given that means nothing here, or there is nothing to show.
    """
    runs_only = {
        "against": showing.against,
        "selection": showing.selection,
        "tokens": showing.tokens or None,
        "labels": labels,
        "score_pivots": score_pivots,
    }
    for name, value in runs_only.items():
        if value is not None:
            refuse(name, value, "is for a run; this is a comparison, whose page shows any two of its policies")
    require_page_place(out)
    views = views_in(directory, environments)
    with live_progress() as observer:
        return write_comparison_view(
            directory,
            out,
            showing.evaluation,
            views,
            lambda done, total: observer.progress("trajectories", done, total),
        )


def scores_in(directory: Path, number: int, selection: str | None, observer: Observer) -> Scores:
    """Scores of the first pivots by the run's policy before and after training.

    Raises:
        InputError: the run names no policy that can be loaded and score actions, or it has no pivots or no training.
    """
    if number < 1:
        raise InputError(f"--score-pivots must be at least 1, not {number}; leave it out to score nothing")
    known = remembered(directory, "train")
    choice = PolicyChoice(known.get("policy", "hf"), known.get("model"), known.get("adapter"))
    policy = choice.load_late(require_policy, observer=observer).loaded
    return score_pivots(
        directory, policy, number, selection, lambda done, total: observer.progress("turns scored", done, total)
    )
