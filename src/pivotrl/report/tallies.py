"""Counts that the report shows and the summary does not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pivotrl.report.summary import Breakdown, Summary
from pivotrl.runs.costs import tokens_of

_MAX_TAG_VALUES = 8


def reasons(results: Mapping[str, Sequence[Any]]) -> list[tuple[str, str, int, int]]:
    """(outcome, reason, before, after), most frequent first: of every sample at turns, and of every episode."""
    before, after = (
        Counter(told for result in results[side] for told in _outcomes(result)) for side in ("before", "after")
    )
    if not before or not after:
        return []
    return [(*told, before[told], after[told]) for told, _ in (before + after).most_common()]


def _outcomes(result: Any) -> Iterator[tuple[str, str]]:
    """Rewards 1, 0 and None give the outcome."""
    outcomes = {1.0: "pass", 0.0: "fail", None: "no_verdict"}
    for one in getattr(result, "verdicts_G", ()) or (result,):
        yield outcomes.get(one.reward, "partial"), one.reason


def breakdowns(summary: Summary) -> list[Breakdown]:
    """Rows measured before and after, for tags with few enough values to read."""
    values = Counter(row.tag for row in summary.breakdowns)
    return [row for row in summary.breakdowns if values[row.tag] <= _MAX_TAG_VALUES and row.before and row.after]


def sharing(summary: Summary, totals: Mapping[str, float]) -> dict[str, tuple[int, int]]:
    """(tokens of plain rows, tokens computed) for each kind of work that shared prefixes."""
    profiled = summary.counts.get("profile", {}).get("prompt_tokens", {})
    found = {
        "profiling": (profiled.get("unshared", 0), profiled.get("computed", 0)),
        "sampling in training": (round(totals["prompts/unshared"]), round(totals["prompts/computed"])),
        "updates": (round(totals["tokens/unshared"]), round(totals["tokens/computed"])),
    }
    return {name: pair for name, pair in found.items() if pair[1]}


def tokens(directory: Path, stages: Iterable[str], metrics: Sequence[Mapping[str, float]]) -> dict[str, int]:
    """Sampled tokens by stage; 0, which the page leaves out, where samples made elsewhere came as text."""
    known = {stage: tokens_of(directory, stage) or 0 for stage in stages if stage not in ("train", "read", "select")}
    sampled = sum(row.get("samples/total", 0.0) * row.get("samples/mean_tokens", 0.0) for row in metrics)
    return {"profile": 0, **known, "train": round(sampled)}
