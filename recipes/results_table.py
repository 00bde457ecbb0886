"""Write tables between the markers of README.md and docs: results from the committed data, codes from the program.

python recipes/results_table.py           # rewrites the files
python recipes/results_table.py --check   # exit 1 when they are not up to date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "evidence"))
sys.path.insert(0, str(Path(__file__).parent / "profiles"))
import costs
import page
from claims_page import claims
from pictures_page import pictures
from theory_page import theory

import pilots
from pivotrl.reading.audit import DROPS, EXCLUSIONS, LOSSES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "recipes" / "results"
NAMES = {
    "base": "warm start (no further training)",
    "sft_all": "SFT, all turns",
    "sft_pivots": "SFT, pivots",
    "random_turns": "PivotRL, random turns",
    "exact_reward": "PivotRL, exact reward",
    "pivotrl": "PivotRL",
    "pivotrl_kl": "PivotRL, KL 0.3 to the warm start",
}


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def interval(estimate: dict[str, Any]) -> str:
    return f"{percent(estimate['mean'])} % [{percent(estimate['low'])}, {percent(estimate['high'])}]"


def change(difference: dict[str, Any]) -> str:
    low, high = (f"{100 * difference[side]:+.1f}" for side in ("low", "high"))
    return f"{100 * difference['difference']:+.1f} [{low}, {high}], p = {difference['p_value']:.4f}"


def nats(difference: dict[str, Any]) -> str:
    return f"{difference['difference']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"


def run_table(name: str) -> str:
    """Before and after of one run, with its cost."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        return f"`make {name}` has no committed result yet."
    data = json.loads(path.read_text())
    lines = ["| held out | before | after | change in points, paired | items |", "| --- | --- | --- | --- | --- |"]
    for row in data["summary"]["comparisons"]:
        if row["unit"].startswith("share"):
            items = f"{row['difference']['num_items']} of {row['difference']['num_clusters']} tasks"
            lines.append(
                f"| {row['name']} | {interval(row['before'])} | {interval(row['after'])} | {change(row['difference'])} | {items} |"
            )
    for row in data["summary"]["breakdowns"]:
        if row["tag"] == "difficulty" and row["before"] and row["after"]:
            lines.append(
                f"| episodes, {row['value']} | {interval(row['before'])} | {interval(row['after'])} | | {row['after']['num_items']} |"
            )
    for row in data["summary"]["comparisons"]:
        if not row["unit"].startswith("share"):
            d = row["difference"]
            lines.append(
                f"| {row['name']}, {row['unit']} | {row['before']['mean']:.3f} | {row['after']['mean']:.3f} "
                f"| {d['difference']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}] nats | {d['num_items']} |"
            )
    costs = {cost["stage"]: cost for cost in data["summary"]["costs"]}
    lines += [
        "",
        f"Rollout turns: {costs['profile']['rollout_turns']:,} for the profile and {costs['train']['rollout_turns']:,} for "
        f"training. Seconds: profile {costs['profile']['seconds']:.0f}, training {costs['train']['seconds']:.0f}, "
        f"evaluation {costs['evaluations/before']['seconds'] + costs['evaluations/after']['seconds']:.0f}. "
        f"p-values before Holm adjustment. One training seed. {data['date'][:10]}, {data['machine']}, `{data['command']}`.",
    ]
    return "\n".join(lines)


def quickstart_sentence() -> str:
    """The three measures of the quickstart in one paragraph, for the README."""
    data = json.loads((RESULTS / "quickstart.json").read_text())
    parts = []
    for row in data["summary"]["comparisons"]:
        shares = row["unit"].startswith("share")
        before, after = (
            f"{percent(row[side]['mean'])} %" if shares else f"{row[side]['mean']:.3f} nats"
            for side in ("before", "after")
        )
        told = change(row["difference"]).split(", p")[0] + " points" if shares else f"{nats(row['difference'])} nats"
        name = row["name"].replace("retention", "NLL of text outside the task")
        parts.append(f"{name} {before} before, {after} after ({told})")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}. One seed, 95 % intervals."


def compare_table() -> str:
    path = RESULTS / "compare.json"
    data = json.loads(path.read_text())
    lines = [
        "| method | seeds | held-out turns | against the warm start | against SFT, all turns | held-out episodes "
        "| episodes against SFT | NLL on GSM8K answers, change in nats | KL to the warm start there |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, arm in data["arms"].items():
        against, episodes, forgetting = (
            arm["against"]["turns"],
            arm["against"]["episodes"],
            arm["against"]["nll"].get("base"),
        )
        lines.append(
            f"| {NAMES[name]} | {len(arm['seeds'])} | {interval(arm['turns'])} "
            f"| {change(against['base']) if 'base' in against else ''} "
            f"| {change(against['sft_all']) if 'sft_all' in against else ''} "
            f"| {interval(arm['episodes']) if arm['episodes'] else ''} "
            f"| {change(episodes['sft_all']) if 'sft_all' in episodes else ''} "
            f"| {nats(forgetting) if forgetting else ''} | {arm['kl']['mean']:.3f} |"
        )
    lines += [
        "",
        f"Equal computation, profiling counted; items pooled over seeds, intervals clustered by task, p-values not adjusted for the number of comparisons. {data['date'][:10]}, "
        f"{data['machine']}.",
    ]
    return "\n".join(lines)


def code_tables() -> str:
    """What losses, exclusions and drops mean."""
    lines = []
    for title, codes in (("lost", LOSSES), ("excluded turn", EXCLUSIONS), ("trajectory left out", DROPS)):
        lines += [f"| {title} | meaning |", "| --- | --- |"]
        lines += [f"| `{code}` | {meaning} |" for code, meaning in codes.items()]
        lines.append("")
    return "\n".join(lines).rstrip()


TABLES = {
    "quickstart": lambda: run_table("quickstart"),
    "quickstart summary": quickstart_sentence,
    "compare": compare_table,
    "claims": claims,
    "micro summary": lambda: page.summary_of_cells("micro"),
    "micro map": lambda: page.map_of_cells("micro"),
    "micro equal forgetting": lambda: page.at_equal_forgetting("micro"),
    "micro near": lambda: page.arms_table("micro", "near-several-32", page.SHOWN_ARMS),
    "micro far": lambda: page.arms_table("micro", "far-several-32", page.SHOWN_ARMS),
    "micro detours": lambda: page.arms_table("micro", "detours-several-32", page.SHOWN_ARMS),
    "micro episodes": lambda: page.differences("micro", page.EPISODES),
    "micro again": lambda: page.differences("micro", page.AGAIN),
    "micro tasks": lambda: page.differences("micro", page.TASKS),
    "micro baselines": lambda: page.differences("micro", page.BASELINES),
    "micro data": lambda: page.differences("micro", page.DATA),
    "micro cost": lambda: page.cost_table("micro", page.COST_CELL, page.COST_PAIRS),
    "micro ablation": lambda: page.differences("micro", page.ABLATIONS),
    "micro predictions": lambda: page.predictions("micro"),
    "micro false alarms": lambda: page.false_alarms("micro"),
    "micro theory": theory,
    "pilots": pilots.table,
    "profile costs": costs.table,
    "profiles and training": lambda: page.cost_table(
        "micro", page.COST_CELL, page.PROFILE_PAIRS, ("rollout turns", "decoded tokens", "seconds")
    ),
    "profiles at their best": lambda: page.differences("micro", page.PROFILES),
    "textworld points": lambda: page.checkpoints("textworld", "far-several-64"),
    "textworld detours": lambda: page.checkpoints("textworld", "detours-several-64"),
    "textworld map": lambda: page.map_of_cells("textworld"),
    "textworld arms": lambda: page.arms_table("textworld", "far-several-64", page.SHOWN_ARMS),
}


def render(text: str) -> str:
    text = re.sub(
        r"(<!-- codes -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{code_tables()}\n{m[2]}", text, flags=re.DOTALL
    )
    for name, table in TABLES.items():
        pattern = rf"(<!-- results: {name} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda found, made=table: f"{found[1]}{made()}\n{found[2]}", text, flags=re.DOTALL)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    for path in (
        ROOT / "README.md",
        ROOT / "docs" / "results.md",
        ROOT / "docs" / "formats.md",
        ROOT / "docs" / "profiling.md",
        ROOT / "docs" / "planning.md",
    ):
        text = path.read_text()
        if arguments.check and render(text) != text:
            sys.exit(f"{path.name} is not up to date: run python recipes/results_table.py")
        if not arguments.check:
            path.write_text(render(text))
    for path, picture in pictures().items():
        if arguments.check and (not path.is_file() or path.read_text() != picture):
            sys.exit(f"{path.name} is not up to date: run python recipes/results_table.py")
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(picture)


if __name__ == "__main__":
    main()
