"""A selection for the terminal, or as JSON: what was chosen and why, what the samples say, and a second draw."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pivotrl.cli.fitting_table import new_table, print_table
from pivotrl.cli.tables import out, plain
from pivotrl.evaluation.distance import Distances
from pivotrl.intervals import Estimate
from pivotrl.runs.manifest import manifest_path, read_manifest
from pivotrl.selection import SelectionOptions
from pivotrl.selection.rules import WORDS
from pivotrl.storage.record_files import counted

_EVIDENCE = {
    "pass_rate": "pass rate, posterior",
    "chance_mixed": "probability that a group of {} is mixed",
    "deviation": "deviation of the reward (signal)",
    "entropy": "entropy of the actions, nats",
}
_COMPARED = {"mixed": "share of turns that are mixed", "mean": "mean reward", "variance": "variance of the reward"}


def print_selection(directory: Path, stage: str, distances: Distances, as_json: bool) -> None:
    """Print a finished selection from its manifest. One of an older version has its counts alone."""
    manifest = read_manifest(manifest_path(directory, stage))
    if as_json:
        print(json.dumps({**manifest.model_dump(mode="json"), "distances": distances.as_json()}, indent=2))
        return
    counts = manifest.counts
    _print_reasons(counts)
    if "labels" in counts:
        _print_labels(counts["labels"])
    if "routes" in counts:
        default = SelectionOptions()
        size = manifest.options.get("selection_group_size", default.selection_group_size)
        least = manifest.options.get("min_mixed", default.min_mixed)
        _print_routes(counts["routes"], size, least)
        _print_evidence(counts["evidence"], size)
        _print_visit(counts["one_visit"])
        _print_second_draw(counts["second_draw"])
    _print_distances(distances)


def _print_reasons(counts: Mapping[str, Any]) -> None:
    reasons = dict(counts.get("reasons", {}))
    total = sum(reasons.values())
    table = new_table("selection", "turns", "share")
    rows = [("pivots", counts["pivots"])]
    rows += sorted(((name, number) for name, number in reasons.items() if name != "pivot"), key=lambda row: -row[1])
    for name, number in rows:
        table.add_row(plain(WORDS.get(name, name)), f"{number:,}", f"{100 * number / total:.1f} %" if total else "")
    print_table(out, table)


def _print_labels(counts: Mapping[str, int]) -> None:
    actions = f"{counted(counts['accepted_actions'], 'further action')} accepted"
    samples = f"taken by {counted(counts['samples_accepted'], 'sample')} of the profile that had not passed"
    turns = f"Labels of {counted(counts['turns'], 'turn')}: {counts['dropped']:,} dropped"
    out.print(f"{turns}; {actions}, {samples}; {counted(counts['notes'], 'note')}.")


def _print_routes(routes: Mapping[str, int], group_size: int, min_mixed: float) -> None:
    table = new_table(f"advice, by groups of {group_size}", "turns")
    words = {
        "practise": f"practise: mixed with probability {min_mixed:g} or more",
        "imitate": "imitate: most groups have no pass",
        "leave": "leave: most groups pass throughout",
        "no_verdict": "leave: no verdict, so unknown",
    }
    for route, told in words.items():
        table.add_row(told, f"{routes[route]:,}")
    print_table(out, table)


def _print_evidence(evidence: Mapping[str, Mapping[str, float | None]], group_size: int) -> None:
    table = new_table("mean over turns", "all turns", "pivots")
    for name, told in _EVIDENCE.items():
        values = (evidence[turns][name] for turns in ("all_turns", "pivots"))
        table.add_row(told.format(group_size), *("unknown" if v is None else f"{v:.3f}" for v in values))
    print_table(out, table)


def _print_visit(cost: Mapping[str, Any]) -> None:
    parts = [f"{cost['rollout_turns']:,} rollout turns"]
    if cost["sampled_tokens"] is not None:
        parts.append(f"{cost['sampled_tokens']:,} sampled tokens")
    if cost["seconds"] is not None:
        parts.append(f"{cost['seconds']:,.0f} s at the speed of the profile")
    out.print(f"One group at each pivot costs {', '.join(parts)}.")


def _print_second_draw(found: Mapping[str, Any]) -> None:
    if found["why_not"]:
        out.print(f"A second draw is unknown: {plain(found['why_not'])}.")
        return
    size, num_fresh = found["num_selecting"], found["num_fresh"]
    table = new_table(f"turns selected by {size} samples", f"in these {size}", f"in {num_fresh} fresh ones [95 %]")
    for name, told in _COMPARED.items():
        compared, fresh = found[name], found[name]["fresh"]
        if name == "mixed":
            shown = f"{100 * fresh['mean']:.1f} % [{100 * fresh['low']:.1f}, {100 * fresh['high']:.1f}]"
            table.add_row(told, f"{100 * compared['selecting']:.1f} %", shown)
        else:
            shown = f"{fresh['mean']:.3f} [{fresh['low']:.3f}, {fresh['high']:.3f}]"
            table.add_row(told, f"{compared['selecting']:.3f}", shown)
    print_table(out, table)
    ways = "Each half selects once, and the other half is the fresh one. " if found["num_ways"] == 2 else ""
    out.print(f"{ways}Trust the fresh samples: those that selected a turn flatter it.")
    if found["num_unknown"]:
        out.print(f"{found['num_unknown']:,} of {found['num_turns']:,} selected turns have no two fresh verdicts.")


def _print_distances(found: Distances) -> None:
    """How far the reference is from accepted actions and from demonstrations, and what follows from it."""
    table = new_table("the reference would have to move", "nats [95 %]", "turns")
    rows = (
        ("to accepted actions (PivotRL), mean -ln P", found.rl),
        ("to demonstrations (imitation), mean -ln p", found.sft),
        ("the latter in full", found.sft_in_full),
        ("difference", found.difference),
    )
    for told, estimate in rows:
        if estimate is not None:
            table.add_row(told, _nats(estimate), f"{estimate.num_items:,}")
    if table.row_count:
        print_table(out, table)
    if found.rl is None:
        out.print(
            plain(f"Mean -ln P of accepted actions is unknown: {found.why_not or 'too few tasks with verdicts'}.")
        )
    if found.sft_in_full is None:
        out.print("Mean -ln p: not scored. The sampler cannot score actions, or an older version profiled.")
    out.print(f"{counted(found.num_without_pass, 'turn')} without a pass. {found.sentence}")


def _nats(estimate: Estimate) -> str:
    return f"{estimate.mean:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
