"""The environment `search` by the clock, and the lint on its verifier. Fills docs/search.md.

python recipes/search_report.py            # about a minute; the machine should do nothing else
python recipes/search_report.py --tables   # only writes the tables anew, from the committed results
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pivotrl.environments.search.corpora import Corpus
from pivotrl.environments.search.places import make_world
from pivotrl.judging.lint import CheckOptions, check
from pivotrl.judging.probes.report import CheckReport, Rate
from pivotrl.protocols import Turn
from pivotrl.readers.search import read
from pivotrl.records import Trajectory
from pivotrl.verifiers.search import SearchStep

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "recipes" / "results" / "search.json"
DOCUMENT = ROOT / "docs" / "search.md"
SIZES = (1_000, 10_000, 100_000)
NUM_QUERIES = 300
DEMONSTRATORS = ("near", "far", "detours", "privileged")
QUESTIONS = "0-119"


def speed(pages: int) -> dict[str, Any]:
    """Seconds to write and to index a corpus, and milliseconds of each of 300 queries, none asked twice."""
    start = time.perf_counter()
    world = make_world(pages)
    written = time.perf_counter()
    corpus = Corpus(world.pages, ())
    built = time.perf_counter()
    milliseconds = []
    for number in range(NUM_QUERIES):
        query = world.question(number, "q").question
        began = time.perf_counter()
        corpus.index.search(query, 5)
        milliseconds.append(1_000 * (time.perf_counter() - began))
    return {
        "pages": pages,
        "write_seconds": written - start,
        "build_seconds": built - written,
        "median_ms": statistics.median(milliseconds),
        "p99_ms": sorted(milliseconds)[int(0.99 * NUM_QUERIES)],
    }


def lint(demonstrator: Any) -> dict[str, Any]:
    played = list(read(Path(QUESTIONS), demonstrator=demonstrator))
    trajectories = [item for item in played if isinstance(item, Trajectory)]
    turns = [Turn(t, i) for t in trajectories for i, m in enumerate(t.messages) if m.role == "assistant"]
    report = check(turns, SearchStep(), CheckOptions(check_turns=len(turns), check_seconds=600))
    return {"played": len(trajectories), "refused": len(played) - len(trajectories), "report": report.model_dump()}


def measure() -> None:
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "speed": [speed(pages) for pages in SIZES],
        "lint": {name: lint(name) for name in DEMONSTRATORS},
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def tables() -> None:
    found = json.loads(RESULTS.read_text())
    text = DOCUMENT.read_text()
    for name, lines in (("speed", _speed(found)), ("lint", _lint(found)), ("kinds", _kinds(found))):
        before, rest = text.split(f"<!-- search: {name} -->\n")
        text = (
            f"{before}<!-- search: {name} -->\n"
            + "\n".join(lines)
            + "\n<!-- end -->"
            + rest.partition("<!-- end -->")[2]
        )
    DOCUMENT.write_text(text)


def _speed(found: dict[str, Any]) -> list[str]:
    rows = [
        f"| {row['pages']:,} | {row['write_seconds']:.1f} s | {row['build_seconds']:.1f} s | {row['median_ms']:.2f} ms "
        f"| {row['p99_ms']:.2f} ms |"
        for row in found["speed"]
    ]
    head = [
        "| pages | writing the pages | index | a query, median | 99th percentile |",
        "| --- | --- | --- | --- | --- |",
    ]
    return [*head, *rows, "", f"{found['date']}, `python recipes/search_report.py`, one core that was not idle."]


def _lint(found: dict[str, Any]) -> list[str]:
    head = (
        "| demonstrator | turns (questions) | accepts the demonstration | false pass [95 %] | false fail [95 %] "
        "| no verdict | verdicts/s |"
    )
    lines = [head, "| --- | --- | --- | --- | --- | --- | --- |"]
    for name, row in found["lint"].items():
        report = CheckReport.model_validate(row["report"])
        accepted, none = report.accepts_expected, report.no_verdict
        assert accepted and none
        lines.append(
            f"| `{name}` | {report.num_turns} ({report.num_tasks}) | {accepted.count} of {accepted.num_probes} "
            f"| {_rate(report.false_pass)} | {_rate(report.false_fail)} | {100 * none.mean:.1f} % "
            f"| {report.verdicts_per_second:,.0f} |"
        )
    return lines


def _rate(rate: Rate | None) -> str:
    if rate is None:
        return "none tried"
    return f"{100 * rate.mean:.2f} % [{100 * rate.low:.2f}, {100 * rate.high:.1f}] of {rate.num_probes:,}"


def _kinds(found: dict[str, Any]) -> list[str]:
    report = CheckReport.model_validate(found["lint"]["near"]["report"])
    lines = ["| probe | must | judged wrongly, of those with a verdict |", "| --- | --- | --- |"]
    for kind, row in report.by_kind.items():
        if kind.startswith(("search/", "honest/")):
            rate, must = (row.false_fail, "pass") if kind.startswith("honest/") else (row.false_pass, "not pass")
            lines.append(f"| `{kind}` | {must} | {f'{rate.count} of {rate.num_probes}' if rate else 'none has one'} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true")
    if not parser.parse_args().tables:
        measure()
    tables()
