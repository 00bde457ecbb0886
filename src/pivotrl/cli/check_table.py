"""Prints the report of `pivotrl check`: rates with intervals by kind, tool and turn, and the worst examples."""

from __future__ import annotations

from collections.abc import Mapping

from pivotrl.cli.fitting_table import new_table, print_table
from pivotrl.cli.tables import out, plain
from pivotrl.judging.lint import CheckOptions
from pivotrl.judging.probes.refusal import doubtful_groups, verdict_of
from pivotrl.judging.probes.report import CheckReport, Example, Rate, Row, first_difference

_SHOWN_TEXT = 160
_SHOWN_REWARDS = 8
_SHOWN_DOUBTS = 5


def print_check(report: CheckReport, options: CheckOptions, as_json: bool) -> None:
    """Print the report as tables or as JSON."""
    if as_json:
        print(report.model_dump_json(indent=2))
        return
    left = f", {report.num_turns_skipped} more skipped for lack of time" if report.num_turns_skipped else ""
    out.print(
        f"{plain(report.verifier)} on {report.num_turns} turns of {report.num_tasks} tasks{left}: "
        f"{report.num_verdicts:,} verdicts, {report.verdicts_per_second:,.0f} per second"
    )
    table = new_table("rate", "share [95 %]", "count")
    for name, rate in (
        ("demonstrated actions that pass", report.accepts_expected),
        ("wrong actions that pass (false pass)", report.false_pass),
        ("right actions that fail (false fail)", report.false_fail),
        ("perhaps wrong actions that pass", report.uncertain_pass),
        ("perhaps right actions that fail", report.uncertain_fail),
        ("no verdict", report.no_verdict),
    ):
        if rate is not None:
            table.add_row(name, _share(rate), f"{rate.count:,} of {rate.num_probes:,}")
    print_table(out, table)
    if report.uncertain_pass or report.uncertain_fail:
        out.print("Perhaps: a verifier may rightly disagree about these; they are not counted against it.")
    for reason, count in report.reasons_of_refused.items():
        out.print(f"demonstrated action not accepted: {plain(reason)}, {count} turns")
    if report.first_error:
        out.print(f"first error: {plain(report.first_error)}")
    _print_rows("kind of turn", report.by_turn)
    _print_rows("language of messages", report.by_language)
    _print_rows("tool", report.by_tool)
    _print_rows("misjudged argument", {k: row for k, row in report.by_argument.items() if _is_wrong(row)})
    _print_rows("misjudged kind of action", {k: row for k, row in report.by_kind.items() if _is_wrong(row)})
    values = ", ".join(f"{value:g}" for value in report.reward_values[:_SHOWN_REWARDS])
    more = " ..." if len(report.reward_values) > _SHOWN_REWARDS else ""
    out.print(f"rewards that this verifier gave: {values or 'none'}{more}")
    if report.num_turns_of_one_reward:
        out.print(f"turns where every action got the same reward: {report.num_turns_of_one_reward}")
    for example in report.worst:
        _print_example(example)
    for group in doubtful_groups(report, options.max_false_pass)[:_SHOWN_DOUBTS]:
        rate = group.rate
        out.print(
            f"[yellow]warning:[/] {rate.count} of {rate.num_probes} wrong actions pass {plain(group.name)}; "
            f"{rate.num_tasks} tasks are too few to refuse the verifier for it"
        )
    word, _, rest = verdict_of(report, options.max_false_pass).partition(":")
    colour = {"sound": "green", "refused": "bold red"}.get(word, "yellow")
    out.print(f"[{colour}]{word}:[/]{plain(rest)}")


def _print_rows(title: str, rows: Mapping[str, Row]) -> None:
    if not rows:
        return
    table = new_table(title, "false pass [95 %]", "of", "false fail [95 %]", "of")
    for name, row in rows.items():
        table.add_row(
            plain(name),
            _share(row.false_pass),
            _number(row.false_pass),
            _share(row.false_fail),
            _number(row.false_fail),
        )
    print_table(out, table)


def _print_example(example: Example) -> None:
    wrong = "failed" if example.kind.partition("/")[0] in ("honest", "self") else "passed"
    doubt = "" if example.certain else ", perhaps right" if wrong == "passed" else ", perhaps wrong"
    reward = "" if example.reward is None else f" with reward {example.reward:g}"
    out.print(f"{plain(example.turn_id)}  {plain(example.kind)}{doubt}: {wrong}{reward}, {plain(example.reason)}")
    expected, put = (text.replace("\n", "\\n") for text in (example.expected_text, example.text))
    start = _shown_from(expected, put)
    out.print(f"  expected  {_short(expected, start)}")
    out.print(f"  tried     {_short(put, start) or '(nothing)'}")


def _is_wrong(row: Row) -> bool:
    return any(rate is not None and rate.count > 0 for rate in (row.false_pass, row.false_fail))


def _share(rate: Rate | None) -> str:
    return f"{100 * rate.mean:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]" if rate else ""


def _number(rate: Rate | None) -> str:
    return str(rate.num_probes) if rate else ""


def _shown_from(one: str, other: str) -> int:
    """Where to start showing two texts so that their first difference is visible."""
    place = first_difference(one, other)
    return 0 if place < _SHOWN_TEXT // 2 else place - _SHOWN_TEXT // 4


def _short(text: str, start: int) -> str:
    cut = text[start : start + _SHOWN_TEXT]
    return plain(f"{'...' if start and cut else ''}{cut}{'...' if len(text) > start + _SHOWN_TEXT else ''}")
