"""Several runs on one page: what differs between them, what each measured, and their curves in one picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import commonpath, relpath
from pathlib import Path

from pivotrl.intervals import PairedDifference
from pivotrl.protocols import InputError
from pivotrl.records import Manifest, StepMetrics
from pivotrl.report.evaluations import Score, difference_between
from pivotrl.report.health import training_alarms
from pivotrl.report.sentences import duration, missing_stages, model_words, plain, training_method
from pivotrl.report.steps import with_shares
from pivotrl.report.summary import Summary, read_manifests, summarise
from pivotrl.report.templating import render, require_packages
from pivotrl.runs.files import RunFiles
from pivotrl.storage.record_files import write_file

_NUM_COLOURS = 8
"""``run0`` to ``run7`` of `pivotrl.report.drawing`."""
_STAGES = ("read", "profile", "select", "train", "evaluations/after")


@dataclass(frozen=True)
class Run:
    """One run of the page."""

    name: str
    colour: str
    files: RunFiles
    summary: Summary
    manifests: Mapping[str, Manifest]
    metrics: Sequence[StepMetrics]
    """With shares."""

    @property
    def after(self) -> dict[str, Score]:
        return {
            score.told: score
            for one in self.summary.evaluations
            if one.stage == "evaluations/after"
            for score in one.scores
        }


@dataclass(frozen=True)
class ScoreRow:
    """One run at one measurement."""

    run: Run
    score: Score
    since_first: PairedDifference | None
    """This run's policy after training minus the first run's, on the items that both scored; None for the first."""


def require_distinct(directories: Sequence[Path]) -> None:
    """Raises:
    InputError: a run is given twice.
    """
    if len({directory.resolve() for directory in directories}) < len(directories):
        raise InputError("a run is given twice; name each once")


def write_side_by_side(directories: Sequence[Path], page: Path, price_per_hour: float | None = None) -> Path:
    """Write one page about several runs, complete or not.

    Raises:
        InputError: a directory holds no run or is given twice, or the ``report`` extra is not installed.
    """
    require_packages()
    require_distinct(directories)
    runs = [_read(directory, place, name) for place, (directory, name) in enumerate(_named(directories).items())]
    text = _render(runs, page, price_per_hour)
    write_file(page, text.encode("utf-8", "xmlcharrefreplace"))
    return page


def _named(directories: Sequence[Path]) -> dict[Path, str]:
    """The last part of each path, or as much of it as tells them apart."""
    names = [directory.resolve().name for directory in directories]
    if len(set(names)) == len(names):
        return dict(zip(directories, names, strict=True))
    parent = commonpath([directory.resolve() for directory in directories])
    return {directory: relpath(directory.resolve(), parent) for directory in directories}


def _read(directory: Path, place: int, name: str) -> Run:
    files = RunFiles(directory)
    summary = summarise(directory, files)
    metrics = [with_shares(row) for row in files.metrics()]
    return Run(plain(name), f"run{place % _NUM_COLOURS}", files, summary, read_manifests(directory), metrics)


def _render(runs: Sequence[Run], page: Path, price_per_hour: float | None) -> str:
    from pivotrl.report.curves import overlaid  # matplotlib takes half a second
    from pivotrl.report.figures import scores_of_runs

    measures = list(dict.fromkeys(told for run in runs for told, score in run.after.items() if _is_shown(score)))
    tables = [(told, _score_rows(runs, told)) for told in measures]
    return render(
        "side_by_side.html.jinja",
        runs=runs,
        links={run.name: relpath(run.files.directory / "report.html", page.resolve().parent) for run in runs},
        facts=_facts(runs, price_per_hour),
        options=options_that_differ(runs),
        notes=notes(runs),
        tables=[
            (told, rows, scores_of_runs(told, [(r.run.name, r.run.colour, r.score, r.since_first) for r in rows]))
            for told, rows in tables
        ],
        panels=overlaid([(run.name, run.colour, run.metrics) for run in runs], shows_loss=any(map(_imitates, runs))),
    )


def _imitates(run: Run) -> bool:
    train = run.manifests.get("train")
    return train is not None and not training_method(train).verifies


def _is_shown(score: Score) -> bool:
    return not score.kind.startswith("answers, ")


def _score_rows(runs: Sequence[Run], told: str) -> list[ScoreRow]:
    measured = [run for run in runs if told in run.after]
    first = measured[0]
    return [
        ScoreRow(
            run,
            run.after[told],
            None if run is first else difference_between(first.files, run.files, run.after[told]),
        )
        for run in measured
    ]


def _facts(runs: Sequence[Run], price_per_hour: float | None) -> list[tuple[str, list[str]]]:
    """(what, its text for each run); rows without any text are left out."""

    def of(run: Run) -> dict[str, str]:
        train, seconds = run.manifests.get("train"), sum(cost.seconds for cost in run.summary.costs)
        pivots = sum(row.selected for row in run.files.selected())
        options = train.options if train else {}
        rate = options.get("learning_rate")
        return {
            "state": "complete" if run.summary.complete else "not complete",
            "model": model_words(run.manifests),
            "method": training_method(train).title if train else "",
            "learning rate": f"{rate:g}" if isinstance(rate, float) else "",
            "seed": str(options.get("train_seed", "")),
            "steps": f"{len(run.metrics):,}" if run.metrics else "",
            "pivots": f"{pivots:,}" if pivots else "",
            "rollout turns": f"{run.summary.total_rollout_turns:,}",
            "time, all stages": duration(seconds),
            "money": "" if price_per_hour is None else f"{seconds / 3600 * price_per_hour:,.2f}",
        }

    found = [of(run) for run in runs]
    return [(name, [each[name] for each in found]) for name in found[0] if any(each[name] for each in found)]


def options_that_differ(runs: Sequence[Run]) -> list[tuple[str, str, list[str]]]:
    """(stage, option, its value in each run) where the runs differ; a stage that a run lacks is a dash."""
    found = []
    for stage in _STAGES:
        options = [run.manifests[stage].options if stage in run.manifests else None for run in runs]
        names = sorted({name for each in options if each is not None for name in each})
        for name in names:
            values = [None if each is None else json.dumps(each.get(name), sort_keys=True) for each in options]
            if len({value for value in values if value is not None}) > 1:
                told = ["\N{EN DASH}" if value is None else _value(value) for value in values]
                found.append((stage, name, told))
    return found


def _value(text: str) -> str:
    value = json.loads(text)
    return "not set" if value is None else str(value)


def notes(runs: Sequence[Run]) -> list[str]:
    """Reasons for caution in a comparison of these runs."""
    told = [
        f"{run.name} is not complete: {', '.join(missing_stages(run.manifests))}."
        for run in runs
        if not run.summary.complete
    ]
    for what, values in (
        ("held-out trajectories", [_input(run, "evaluations/after", "heldout.jsonl") for run in runs]),
        ("logs to train on", [_input(run, "profile", "trajectories.jsonl") for run in runs]),
    ):
        if len({value for value in values if value}) > 1:
            told.append(f"The runs have different {what}: compare only what is paired on the same items.")
    verifiers = {
        run.manifests["evaluations/after"].options.get("verifier")
        for run in runs
        if "evaluations/after" in run.manifests
    }
    if len(verifiers) > 1:
        named = ", ".join(sorted(map(plain, verifiers)))
        told.append(f"Held-out turns were judged by different verifiers ({named}), so their scores are not comparable.")
    told += [f"{run.name}: {alarm}" for run in runs for alarm in training_alarms(run.metrics)]
    told.append(
        "Each run is one training. The intervals cover the choice of held-out tasks, not the luck of training: a "
        "difference between two runs may be that luck. To measure it, train with --seeds, or use pivotrl compare."
    )
    return told


def _input(run: Run, stage: str, name: str) -> str:
    return run.manifests[stage].inputs.get(name, "") if stage in run.manifests else ""
