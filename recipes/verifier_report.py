"""The verifier lint on real rows, for both families: NeMo Gym's rules and ours, and the frozen corpus. Fills
docs/judging.md.

python recipes/verifier_report.py            # runs it: seconds
python recipes/verifier_report.py --tables   # only writes the tables anew, from the committed results
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from pivotrl.judging.lint import CheckOptions, check
from pivotrl.judging.probes.report import CheckReport, Row
from pivotrl.plugins import load
from pivotrl.protocols import Turn
from pivotrl.readers import auto
from pivotrl.reading.audit import audit
from pivotrl.records import Trajectory
from pivotrl.rollouts import judge
from pivotrl.turns import cut
from verifier_corpus import Case, cases

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
RESULTS = ROOT / "recipes" / "results" / "verifiers.json"
BEFORE = ROOT / "recipes" / "results" / "verifiers_before.json"
"""The corpus as the code of 2026-11-28 judged it."""
DOCUMENT = ROOT / "docs" / "judging.md"

CHAT, TAU = (
    ("nemo_gym/single_step_tool_use.jsonl", "nemo_gym/parallel_tool_calls.jsonl"),
    ("tau_bench/gpt-4o-airline.json",),
)
SWE, TERMINAL, XLAM = ("nemo_gym/swe_pivot.jsonl",), ("nemo_gym/terminus_judge.jsonl",), ("nemo_gym/xlam_fc.jsonl",)
SOFTWARE = ("formats/openhands_completions", "formats/codex", "formats/claude_code")
OURS = "first_decisive(verifiers=('command', 'edit', 'tool_call'))"

RUNS = {
    "Gym single_step on its rows": ("gym_compat", CHAT),
    "Gym single_step on tau-bench": ("gym_compat", TAU),
    "Gym single_step, threshold 0, on SWE rows": ("gym_compat(word_count_similarity_threshold=0.0)", SWE),
    "Gym swe_pivot on its rows": ("gym_compat(server='swe_pivot')", SWE),
    "Gym terminus_judge on its rows": ("gym_compat(server='terminus_judge')", TERMINAL),
    "Gym xlam_fc on its rows": ("gym_compat(server='xlam_fc')", XLAM),
    "tool_call on single_step rows": ("tool_call", CHAT),
    "tool_call on tau-bench": ("tool_call", TAU),
    "tool_call on xlam_fc rows": ("tool_call", XLAM),
    "tool_call on ShareGPT and tau2-bench": ("tool_call", ("formats/sharegpt", "formats/tau2_bench")),
    "command, edit, tool_call on SWE rows": (OURS, SWE),
    "command, edit, tool_call on OpenHands, Codex, Claude Code": (OURS, SOFTWARE),
    "command, edit, tool_call on terminus_judge rows": (OURS, TERMINAL),
    "command on mini-swe-agent": ("command", ("formats/mini_swe_agent",)),
    "misplaced: tool_call on mini-swe-agent": ("tool_call", ("formats/mini_swe_agent",)),
    "misplaced: tool_call on SWE-agent": ("tool_call", ("formats/swe_agent",)),
}
"""Name -> (verifier, sources)."""

HOLES = (
    ("empty text passes where a message was demonstrated", "empty/text", "Gym single_step on its rows"),
    ("a swapped amount in a message passes", "swapped/number_in_message", "Gym single_step on tau-bench"),
    ("a swapped number in an argument passes", "swapped/number_in_argument", "Gym single_step on its rows"),
    ("a harmful call beside the right one passes", "extra/harmful_call", "Gym single_step on its rows"),
    ("another command passes at threshold 0", "shell_word/other_command", "Gym single_step, threshold 0, on SWE rows"),
    ("a shell call without a command passes", "shell_missing/no_command", "Gym swe_pivot on its rows"),
    ("a view of one line fails against itself", "self/range_of_one", "Gym swe_pivot on its rows"),
)
"""(what is known to be wrong with Gym's rules, the kind of probe that shows it, the run it shows in)"""


def turns_of(sources: tuple[str, ...]) -> list[Turn]:
    found = [item for source in sources for item in auto.read(DATA / source)]
    return cut([audit(item) for item in found if isinstance(item, Trajectory)])[0]


def run(name: str) -> CheckReport:
    verifier, sources = RUNS[name]
    return check(turns_of(sources), load("verifiers", verifier), CheckOptions())


def shown_wrong(row: Row | None) -> int:
    """How many probes of a kind were judged wrongly."""
    rates = (row.false_pass, row.false_fail) if row else ()
    return sum(rate.count for rate in rates if rate)


def summary(reports: dict[str, CheckReport]) -> dict[str, Any]:
    runs = {
        name: {
            **report.model_dump(
                include={"verifier", "num_turns", "num_tasks", "accepts_expected", "false_pass", "false_fail"}
                | {"uncertain_pass", "uncertain_fail", "no_verdict", "by_turn", "reward_values", "num_verdicts"}
                | {"num_turns_of_one_reward"}
            ),
            "verdicts_per_second": round(report.verdicts_per_second, -2),
            "wrong_kinds": {
                kind: [
                    [rate.count, rate.num_probes] if rate and rate.count else None
                    for rate in (row.false_pass, row.false_fail)
                ]
                for kind, row in report.by_kind.items()
                if shown_wrong(row)
            },
        }
        for name, report in reports.items()
    }
    holes = [
        {"hole": hole, "kind": kind, "run": name, "count": shown_wrong(reports[name].by_kind.get(kind))}
        for hole, kind, name in HOLES
    ]
    return {"runs": runs, "holes": holes}


CORPUS = ("generated.jsonl", "by_hand.jsonl", "blind.jsonl", "second_round.jsonl", "third_round.jsonl")
LANGUAGES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "zh": "Chinese"}


def corpus() -> dict[str, dict[str, dict[str, int]]]:
    """verifier -> class -> counts of outcomes, of all rows of the frozen corpus; and honest messages by language."""
    found: dict[str, dict[str, Counter[str]]] = {}
    for case in cases(CORPUS):
        outcome = judge(case.turn, case.probe.completion(), load("verifiers", case.verifier)).outcome
        side = "attacks" if case.probe.expected == "fail" else "honest"
        for name, area in _rows(case):
            counts = found.setdefault(name, {}).setdefault(area, Counter())
            counts[side] += 1
            counts[f"{side} {outcome}"] += 1
    return {name: {area: dict(counts) for area, counts in areas.items()} for name, areas in found.items()}


def _rows(case: Case) -> list[tuple[str, str]]:
    """Where a case is counted: (verifier, class)."""
    name = case.verifier.partition("(")[0]
    if name == "tool_call":
        name = "tool_call, calls" if case.turn.expected_action.tool_calls else "tool_call, messages"
    rows = [(name, case.probe.area)]
    language = case.probe.kind.removeprefix("said_well/")
    if case.name.startswith("third_round") and language in LANGUAGES and language != case.probe.kind:
        rows.append(("languages", LANGUAGES[language]))
    return rows


def share(rate: dict[str, Any] | None) -> str:
    if rate is None:
        return ""
    return f"{100 * rate['mean']:.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}] of {rate['num_probes']:,}"


def rates_table(data: dict[str, Any]) -> str:
    lines = [
        "| verifier and rows | turns (tasks) | accepts the demonstration | false pass [95 %] | false fail [95 %] "
        "| no verdict | rewards |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in data["runs"].items():
        accepted, values = row["accepts_expected"], row["reward_values"]
        rewards = ", ".join(f"{value:g}" for value in values[:4]) + (" ..." if len(values) > 4 else "")
        lines.append(
            f"| {name} | {row['num_turns']} ({row['num_tasks']}) | {accepted['count']} of {accepted['num_probes']} "
            f"| {share(row['false_pass'])} | {share(row['false_fail'])} | {100 * row['no_verdict']['mean']:.1f} % "
            f"| {rewards} |"
        )
    return "\n".join([*lines, "", f"{data['date'][:10]}, `python recipes/verifier_report.py`."])


def kinds_table(data: dict[str, Any]) -> str:
    lines = [
        "| verifier and rows | wrong actions that pass, by class | right actions that fail |",
        "| --- | --- | --- |",
    ]
    for name, row in data["runs"].items():
        cells = []
        for side in (0, 1):
            areas: Counter[str] = Counter()
            for kind, found in row["wrong_kinds"].items():
                if found[side]:
                    areas[kind if kind.startswith("honest/") else kind.partition("/")[0]] += found[side][0]
            cells.append(", ".join(f"{area.removeprefix('honest/')} {count}" for area, count in areas.most_common()))
        lines.append(f"| {name} | {cells[0] or 'none'} | {cells[1] or 'none'} |")
    return "\n".join(lines)


def holes_table(data: dict[str, Any]) -> str:
    lines = ["| known hole of Gym's rules | kind of probe | found on | probes |", "| --- | --- | --- | --- |"]
    lines += [f"| {h['hole']} | `{h['kind']}` | {h['run']} | {h['count']} |" for h in data["holes"]]
    return "\n".join(lines)


def corpus_table(data: dict[str, Any]) -> str:
    before = json.loads(BEFORE.read_text())
    lines = [
        "| verifier | class | attacks | pass, before | pass, now | no verdict | honest | fail, before | fail, now "
        "| no verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, areas in sorted(data["corpus"].items()):
        if name == "languages":
            continue
        total, total_before = Counter[str](), Counter[str]()
        rows = []
        for area, counts in sorted(areas.items()):
            old = before.get(name, {}).get(area, {})
            total += Counter(counts)
            total_before += Counter(old)
            rows.append(_corpus_row("", area, counts, old))
        lines += [_corpus_row(f"`{name}`", "all", total, total_before), *rows]
    return "\n".join(lines)


def _corpus_row(name: str, area: str, now: dict[str, int], before: dict[str, int]) -> str:
    cells = []
    for side, wrong in (("attacks", "pass"), ("honest", "fail")):
        if not now.get(side):
            cells += [""] * 4
            continue
        key = f"{side} {wrong}"
        cells += [now[side], before.get(key, 0), now.get(key, 0), now.get(f"{side} no_verdict", 0)]
    return f"| {name} | {area} | " + " | ".join(map(str, cells)) + " |"


def languages_table(data: dict[str, Any]) -> str:
    before = json.loads(BEFORE.read_text())["languages"]
    lines = [
        "| language | honest messages | pass, before | pass, now | no verdict |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, counts in data["corpus"]["languages"].items():
        passed = [row.get("honest pass", 0) for row in (before[name], counts)]
        lines.append(
            f"| {name} | {counts['honest']} | {passed[0]} | {passed[1]} | {counts.get('honest no_verdict', 0)} |"
        )
    return "\n".join(lines)


TABLES = {
    "corpus": corpus_table,
    "languages": languages_table,
    "lint": rates_table,
    "kinds": kinds_table,
    "holes": holes_table,
}


def render(text: str, data: dict[str, Any]) -> str:
    for name, table in TABLES.items():
        pattern = rf"(<!-- verifiers: {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda found, made=table: f"{found[1]}{made(data)}\n{found[2]}", text, flags=re.DOTALL)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", action="store_true", help="only write the tables, from the committed results")
    if not parser.parse_args().tables:
        data = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            **summary({name: run(name) for name in RUNS}),
            "corpus": corpus(),
        }
        RESULTS.write_text(json.dumps(data, indent=1) + "\n")
    DOCUMENT.write_text(render(DOCUMENT.read_text(), json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
