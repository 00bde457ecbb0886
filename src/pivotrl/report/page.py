"""The report of a run, made from its files alone: ``report.html`` for people, ``report.json`` for programs.

Everything that comes from a log or a model is untrusted: the templates escape it, control bytes are spelled out, and
the page itself forbids scripts and network. The same files give the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pivotrl.judging.lint import CheckOptions, known_report
from pivotrl.judging.probes.refusal import verdict_of
from pivotrl.judging.probes.report import CheckReport
from pivotrl.reading.audit import DROPS, EXCLUSIONS, LOSSES
from pivotrl.records import Manifest
from pivotrl.report import examples, sentences, tallies
from pivotrl.report.facts import methods_compared, run_facts
from pivotrl.report.health import profile_alarms, training_alarms
from pivotrl.report.run_command import resume_command
from pivotrl.report.steps import with_shares
from pivotrl.report.summary import Summary, read_manifests, summarise
from pivotrl.report.templating import render, require_packages
from pivotrl.runs.costs import money_of
from pivotrl.runs.files import RunFiles
from pivotrl.storage.record_files import write_file

__all__ = ["require_packages", "write_report"]


def write_report(directory: Path, price_per_hour: float | None = None) -> Path:
    """Write ``report.html`` and ``report.json`` into a run directory, complete or not; the path of the former.

    Args:
        price_per_hour: of the machine; the cost is told in money too.

    Raises:
        InputError: the directory holds no run, or the ``report`` extra is not installed (``report.json`` is written
            all the same).
    """
    directory = Path(directory)
    files = RunFiles(directory)
    summary = dataclasses.replace(summarise(directory, files), price_per_hour=price_per_hour)
    write_file(directory / "report.json", json.dumps(summary.as_json(), indent=2, default=str) + "\n")
    require_packages()
    page = _render(files, summary)
    write_file(directory / "report.html", page.encode("utf-8", "xmlcharrefreplace"))
    return directory / "report.html"


def _render(files: RunFiles, summary: Summary) -> str:
    from pivotrl.report import figures  # matplotlib takes half a second
    from pivotrl.report.curves import panels

    directory = files.directory
    manifests = read_manifests(directory)
    metrics = [with_shares(row) for row in files.metrics()]
    turns = {side: list(files.turn_results(side)) for side in ("before", "after")}
    episodes = {side: list(files.episode_results(side)) for side in ("before", "after")}
    selections = list(files.selected())
    pivots = [row for row in selections if row.selected]
    rows = [row.metrics for row in metrics]
    breakdowns = tallies.breakdowns(summary)
    method = sentences.training_method(manifests["train"]) if "train" in manifests else None
    check = _check(directory, manifests)
    return render(
        "page.html.jinja",
        name=directory.resolve().name,
        has_view=(directory / "view.html").is_file(),
        summary=summary,
        manifests=manifests,
        stage_words={stage: sentences.stage_words(stage) for stage in manifests},
        facts=run_facts(manifests),
        methods=methods_compared(directory),
        missing=sentences.missing_stages(manifests),
        losses=LOSSES,
        exclusions=EXCLUSIONS,
        drops=DROPS,
        verdicts=sentences.verdicts(summary),
        directions={c.name: sentences.direction(c, summary) for c in summary.comparisons},
        not_measured=sentences.not_measured(summary, manifests),
        alarms=[*training_alarms(metrics), *profile_alarms(manifests, metrics, selections)],
        caveats=sentences.caveats(summary, manifests, rows, turns),
        breakdowns=breakdowns,
        reasons={"turn": tallies.reasons(turns), "episode": tallies.reasons(episodes)},
        figures=figures.figures(summary, breakdowns, selections, manifests),
        checkpoints=figures.checkpoint_panels(summary),
        panels=panels(metrics, shows_loss=method is not None and not method.verifies),
        method=method,
        num_steps=len(metrics),
        totals=sentences.metric_totals(rows),
        pivots=len(pivots),
        selected=Counter(row.reason for row in selections),
        skipped=Counter(row.reason for row in files.skipped()),
        tokens=tallies.tokens(directory, manifests, rows),
        money={stage: paid for stage in manifests if (paid := money_of(files.directory, stage)) is not None},
        sharing=tallies.sharing(summary, sentences.metric_totals(rows)),
        examples=examples.pivot_examples(files, pivots),
        flips=examples.flips(files, turns),
        command=resume_command(directory, manifests),
        check=check,
        check_verdict=check and verdict_of(check, CheckOptions().max_false_pass),
    )


def _check(directory: Path, manifests: Mapping[str, Manifest]) -> CheckReport | None:
    """The check of the verifier used in profiling; another one may have been checked since."""
    found, profile = known_report(directory), manifests.get("profile")
    if found is None or profile is None:
        return None
    about = (profile.options.get("verifier"), profile.inputs.get("trajectories.jsonl"))
    return found if (found.verifier, found.trajectories_sha256) == about else None
