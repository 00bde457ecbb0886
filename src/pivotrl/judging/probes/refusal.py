"""Whether a verifier is refused, by its worst group of probes: a kind of turn, a language, a tool, an argument, a kind
of attack. A rate over all hides a hole in one of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from pivotrl.judging.probes.report import CheckReport, Rate
from pivotrl.judging.suggestion import quoted

_ENOUGH = 20
"""The share of a group counts from this many probes. A single pass never refuses: the probe may be wrong."""
_MANY = 2
"""This many passes show a hole if they are half of the group."""
_LEAST_TASKS = 4
_HARSH = 0.1
"""Share of failing right actions from which the report mentions it and suggests a verifier."""


@dataclass(frozen=True)
class Group:
    """A group of certain attacks and how many of them pass."""

    name: str
    rate: Rate

    def exceeds(self, limit: float) -> bool:
        """Whether surely too many pass: the whole interval lies above the limit, or the share of enough probes, or half
        of a few."""
        rate = self.rate
        if rate.mean <= limit or rate.count < 2:
            return False
        is_enough = rate.num_probes >= _ENOUGH
        return rate.low > limit or is_enough or (rate.count >= _MANY and 2 * rate.count >= rate.num_probes)


def fault_of(report: CheckReport, max_false_pass: float) -> str | None:
    """Why a verifier is refused; None if it is not: in some group of certain attacks more than ``max_false_pass``
    pass, or no demonstrated action is accepted, so that nothing could be learnt."""
    if report.accepts_expected is None or report.accepts_expected.count == 0:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in report.reasons_of_refused.items())
        error = f" ({report.first_error})" if report.first_error else ""
        return (
            f"{report.verifier} accepts no demonstrated action on {report.num_turns} turns: {reasons}{error}. "
            "It is the wrong verifier for these logs, its options are wrong, or it is broken."
            f"{_hint(report)}"
        )
    worst = worst_groups(report, max_false_pass)
    if not worst:
        return None
    overall, first, highest = report.false_pass, worst[0], max(group.rate.mean for group in worst)
    assert overall is not None
    kinds = sorted(report.by_kind.items(), key=lambda item: -(item[1].false_pass.count if item[1].false_pass else 0))
    holes = [f"{kind} {row.false_pass.mean:.0%}" for kind, row in kinds[:5] if row.false_pass and row.false_pass.count]
    return (
        f"{report.verifier} accepts {first.rate.mean:.1%} [{first.rate.low:.1%}, {first.rate.high:.1%}] of the wrong "
        f"actions tried {first.name} ({first.rate.count} of {first.rate.num_probes}), above --max-false-pass "
        f"{max_false_pass:g}; overall {overall.count} of {overall.num_probes}, mostly {', '.join(holes)}. "
        "A policy would be rewarded for them. Choose a stricter verifier or rule, leave such turns out (--domain), or "
        f"raise --max-false-pass to {math.ceil(1000 * highest) / 1000:g}.{_hint(report)}"
    )


def verdict_of(report: CheckReport, max_false_pass: float) -> str:
    """One line to act on: ``sound``, ``refused`` or ``too few tasks to say``."""
    if fault := fault_of(report, max_false_pass):
        return f"refused: {fault}"
    rate = report.false_pass
    passed = f"{rate.count} of {rate.num_probes:,} wrong actions pass" if rate else "no wrong action got a verdict"
    if report.num_tasks < _LEAST_TASKS or rate is None:
        return (
            f"too few tasks to say: {passed} at turns of {report.num_tasks}; no reason to refuse {report.verifier}, "
            "but check it on a log with more tasks before you rely on it"
        )
    return (
        f"sound: {report.verifier} may be used here; {passed}, at most {rate.high:.1%} according to "
        f"{report.num_tasks} tasks.{_harshness(report)}"
    )


def worst_groups(report: CheckReport, max_false_pass: float) -> list[Group]:
    """The groups for which a verifier is refused, the worst first."""
    found = [group for group in groups_of(report) if group.exceeds(max_false_pass)]
    if report.false_pass is not None and report.false_pass.mean > max_false_pass:
        found.append(Group("over all", report.false_pass))
    return sorted(found, key=lambda group: (-group.rate.low, -group.rate.mean, -group.rate.count))


def doubtful_groups(report: CheckReport, max_false_pass: float) -> list[Group]:
    """Groups above the limit that are too small to refuse a verifier for."""
    refused = {group.name for group in worst_groups(report, max_false_pass)}
    found = [group for group in groups_of(report) if group.rate.mean > max_false_pass and group.name not in refused]
    return sorted(found, key=lambda group: (-group.rate.count, -group.rate.mean))


def groups_of(report: CheckReport) -> Iterator[Group]:
    """Every group of probes, named so that it follows "wrong actions pass"."""
    for rows, words in (
        (report.by_turn, "at turns of {}"),
        (report.by_language, "at messages in {}"),
        (report.by_tool, "at calls of {}"),
        (report.by_argument, "in the argument {}"),
        (report.by_kind, "as {}"),
    ):
        for name, row in rows.items():
            if row.false_pass is not None:
                yield Group(words.format(name), row.false_pass)


def _harshness(report: CheckReport) -> str:
    rate = report.false_fail
    return f" It fails {rate.mean:.0%} of the right ones.{_hint(report)}" if rate and rate.mean > _HARSH else ""


def _hint(report: CheckReport) -> str:
    """The verifier made for such turns, if it is another one."""
    if not report.suggested or report.suggested.partition("(")[0] in report.verifier:
        return ""
    return f" For turns like these there is --verifier {quoted(report.suggested)}."
