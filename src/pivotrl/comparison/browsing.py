"""The pivot browser of a comparison: its numbers, and any two of its policies at the same held-out turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pivotrl.comparison.checkpoints import (
    Checkpoint,
    find_trials,
    held_out_trajectories,
    read_checkpoints,
    title_of,
)
from pivotrl.comparison.grids import read_points
from pivotrl.comparison.overview import BEFORE, chosen, concluded, json_file, overview
from pivotrl.comparison.table import Config, Table
from pivotrl.plugins import unknown
from pivotrl.protocols import InputError
from pivotrl.reading.alternatives import with_alternatives
from pivotrl.report.browser.comparing import Pair
from pivotrl.report.browser.filling import Filling
from pivotrl.report.browser.index import Index
from pivotrl.report.browser.packing import Chunks, page
from pivotrl.report.browser.sources import Source
from pivotrl.report.browser.views import Views
from pivotrl.report.browser.writing import assembled
from pivotrl.storage.record_files import sha256_of_file, write_file

MAX_SAMPLES = 250_000
"""Samples that the page holds, three times those of a run of 10,000 turns with 8 samples each."""


def write_comparison_view(
    directory: Path,
    out: Path | None = None,
    names: Sequence[str] | None = None,
    views: Views | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    max_samples: int = MAX_SAMPLES,
) -> Path:
    """Write the page, by default ``view.html`` in the directory of the comparison; its path.

    Args:
        directory: of the comparison, or of its trials.
        names: policies to show, such as ``pivots``, ``pivots/0.0001`` or ``pivots/0.0001/40``; None shows all that fit.
            The policy before training is always there.
        views: what draws pictures beside messages.
        progress: told of the trajectories done.
        max_samples: how many samples the page may hold. Policies that validation did not choose are left out first.

    Raises:
        InputError: there is no comparison, no such policy, no turn was measured, or a file is damaged.
    """
    root = find_trials(directory)
    if root is None:
        raise InputError(f"{directory} holds no comparison; make one with `pivotrl compare`")
    home = directory.parent if root == directory and root.name == "trials" else directory
    points, views = read_points(root), views or Views()
    table, made = Table(points), concluded(home)
    shown = overview(table, made)
    best = [config for arm in table.arms if table.seeds(arm) and (config := chosen(table, arm, shown["score"]))]
    known = read_checkpoints(root, points)
    if not known:
        raise InputError(f"{directory} has no results of single turns, so there is nothing to show but its own page")
    asked = _asked(known, names)
    kept, alone, notices = _fitting(asked, [BEFORE, *best], max_samples)
    together = any(len(one.results) > 1 for one in kept)
    temperatures = (0.0, 1.0) if shown["score"].endswith("greedy") else (1.0, 0.0)
    sources = [source for one in kept for source in one.sources(temperatures, together, alone)]
    filling = Filling(sources, Index(len(sources)), Chunks(), {}, {}, len(sources), frozenset(), None, None, views)
    logs, turn_ids = held_out_trajectories(home, root), set[str]().union(*(one.turn_ids for one in kept))
    measured = {turn_id.rpartition("#")[0] for turn_id in turn_ids}
    rows = [trajectory for trajectory in logs if trajectory.id in measured]
    for done, trajectory in enumerate(with_alternatives(rows), start=1):
        filling.add_log(trajectory, "heldout")
        progress(done, len(rows))
    log_file = home / "trajectories.jsonl"
    notices = [*_missing(made, table, len(points)), *notices, *_LACKS, *views.notices]
    if any(source.old for source in sources):
        notices.append(
            "The measurements at temperature 1 kept the first sample of each turn alone; their rates count all."
        )
    head, packed = assembled(
        filling,
        run=home.resolve().name,
        facts=_facts(home, known, len(turn_ids), len(rows)),
        trajectories_sha256=sha256_of_file(log_file if log_file.is_file() else logs.path),
        pairs=_pairs(kept, sources, best, temperatures[0]),
        notices=notices,
        comparison=shown,
    )
    path = out or directory / "view.html"
    write_file(path, page(head, packed))
    return path


_LACKS = (
    "A comparison measures held-out turns only. The turns trained on, their profile and the training itself are not "
    "here; nor are episodes.",
    "A comparison keeps no tokenizer and no weights, so there are no prompts as the model saw them and no "
    "log-probabilities of tokens.",
)


def _asked(known: list[Checkpoint], names: Sequence[str] | None) -> list[Checkpoint]:
    """
    Raises:
        InputError: nothing has such a name.
    """
    if names is None:
        return known
    paths = {one.config: _path(one.config) for one in known}
    parts = {"/".join(path.split("/")[:length]) for path in paths.values() for length in (1, 2, 3)}
    for name in names:
        if name not in parts:
            raise InputError(unknown(f"the comparison has no policy called {name!r}", name, sorted(parts)))
    return [
        one for one in known if one.config == BEFORE or any(f"{paths[one.config]}/".startswith(f"{n}/") for n in names)
    ]


def _fitting(
    known: list[Checkpoint], first: list[Config], max_samples: int
) -> tuple[list[Checkpoint], bool, list[str]]:
    """(checkpoints that fit, whether each seed fits alone, what is left out)

    Args:
        first: what the page keeps before others.
    """
    sizes = {one.config: one.num_samples for one in known}
    last = {(one.config.arm, one.config.rate): one.config.step for one in known}
    ordered = sorted(
        known,
        key=lambda one: (
            first.index(one.config) if one.config in first else len(first),
            one.config.step != last[one.config.arm, one.config.rate],
        ),
    )
    kept, total = set[Config](), 0
    for one in ordered:
        if one.config == BEFORE or total + sizes[one.config] <= max_samples:
            kept.add(one.config)
            total += sizes[one.config]
    several = any(len(one.results) > 1 for one in known)
    alone = not several or 2 * total <= max_samples
    notices = []
    if left := len(known) - len(kept):
        example = next(one.config for one in known if one.config not in kept)
        notices.append(
            f"{left} of {len(known)} policies are left out, because the page holds {max_samples:,} samples at most. "
            f"Name those to show, such as --evaluation {_path(example)}."
        )
    if not alone:
        notices.append("Seeds are shown together only; choose fewer policies with --evaluation to see each alone.")
    return [one for one in known if one.config in kept], alone, notices


def _path(config: Config) -> str:
    return f"{config.arm}/{config.rate:g}/{config.step}"


def _pairs(
    kept: Sequence[Checkpoint], sources: Sequence[Source], best: Sequence[Config], temperature: float
) -> list[Pair]:
    """Before training and the chosen checkpoint of each method, then the chosen ones of the first two methods. A method
    that validation chose nothing of is there with its last checkpoint."""
    numbers = {source.name: number for number, source in enumerate(sources)}
    first: dict[Config, int] = {}
    for one in kept:
        names = [one.name(temperature), *(one.name(temperature, seed) for seed in one.results)]
        first[one.config] = next(numbers[name] for name in names if name in numbers)
    arms = dict.fromkeys(config.arm for config in first if config != BEFORE)
    ends = {
        arm: next((c for c in best if c.arm == arm and c in first), max(c for c in first if c.arm == arm))
        for arm in arms
    }
    steps = [(BEFORE, config) for config in ends.values() if BEFORE in first]
    steps += [tuple(ends.values())[:2]] if len(ends) > 1 else []  # type: ignore[list-item]
    return [
        (first[old], first[new], f"{sources[first[old]].policy} → {sources[first[new]].title}") for old, new in steps
    ]


def _facts(home: Path, known: Sequence[Checkpoint], num_turns: int, num_trajectories: int) -> list[tuple[str, str]]:
    settings = json_file(home / "comparison.settings.json")
    policy = settings.get("policy") or {}
    seeds = sorted({seed for one in known for seed in one.results})
    found = {
        "model": str(policy.get("model") or policy.get("policy") or ""),
        "verifier": str(settings.get("verifier") or ""),
        "policies": f"{len(known)} (method, rate, updates)",
        "seeds": ", ".join(map(str, seeds)),
        "held-out turns measured": f"{num_turns:,}, of {num_trajectories:,} trajectories",
    }
    return [(name, value) for name, value in found.items() if value]


def _missing(made: dict[str, Any], table: Table, num_points: int) -> list[str]:
    told = []
    if not made.get("finished", False):
        told.append(f"This comparison is not finished: the page shows the {num_points:,} measurements so far.")
    if begun := [title_of(arm) for arm in table.arms if not table.seeds(arm)]:
        told.append(f"Without numbers yet, because no seed has all of its checkpoints: {', '.join(begun)}.")
    return told
