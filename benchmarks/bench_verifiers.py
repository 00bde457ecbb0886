"""How many verdicts a second `tool_call` gives, and how often the action of another turn passes, on real turns.

    python benchmarks/bench_verifiers.py

One core. The turns are those of the tau-bench airline episodes (or of the samples in tests). Each turn judges its own
action with the keys of its arguments turned round, the actions of the two turns after it, and its own with a number
changed: what a policy in training sends, right and wrong. Every repetition is timed in a process of its own, `all`
first, so that no text is remembered; `calls` and `messages` come after it and find theirs read.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from host import machine
from pivotrl.judging.messages.free_text import normalised
from pivotrl.protocols import Turn
from pivotrl.readers import tau_bench
from pivotrl.reading.audit import audit
from pivotrl.records import Action, Trajectory
from pivotrl.turns import cut
from pivotrl.verifiers import tool_call

HERE = Path(__file__).parent
SOURCES = (
    HERE.parents[1] / "shared" / "data" / "trajectories" / "tau_bench" / "gpt-4o-airline.json",
    HERE.parent / "tests" / "data" / "tau_bench" / "gpt-4o-airline.json",
)
DIGIT = re.compile(r"[0-9]")
NUM_PAIRS = 4000


def real_turns(source: Path) -> list[Turn]:
    return cut([audit(item) for item in tau_bench.read(source) if isinstance(item, Trajectory)])[0]


def is_message(action: Action) -> bool:
    return not action.tool_calls


# --- speed --------------------------------------------------------------------------------------------------------


def work(turns: list[Turn]) -> Iterator[tuple[Turn, Action]]:
    for position, turn in enumerate(turns):
        expected = turn.expected_action
        yield turn, respelled(expected)
        yield turn, turns[position - 1].expected_action
        yield turn, turns[position - 2].expected_action
        yield turn, changed(expected)


def respelled(action: Action) -> Action:
    """The same in other characters."""
    calls = [
        call.model_copy(update={"arguments": json.dumps(dict(reversed(json.loads(call.arguments).items())), indent=1)})
        for call in action.tool_calls
    ]
    return Action(content=action.content and f"{action.content} \n", tool_calls=tuple(calls))


def changed(action: Action) -> Action:
    """Another digit in the first call, or in the message."""
    if is_message(action):
        return Action(content=DIGIT.sub("7", action.content or "", count=1) + " So be it.")
    first, *rest = action.tool_calls
    return Action(tool_calls=(first.model_copy(update={"arguments": DIGIT.sub("7", first.arguments)}), *rest))


def verdicts_per_second(source: Path) -> dict[str, float]:
    """Of turns with calls, turns with messages, and all of them in their order."""
    pairs = list(work(real_turns(source)))
    found = {}
    for kind, chosen in (
        ("all", pairs),
        ("calls", [pair for pair in pairs if not is_message(pair[0].expected_action)]),
        ("messages", [pair for pair in pairs if is_message(pair[0].expected_action)]),
    ):
        start = time.perf_counter()
        for turn, action in chosen:
            tool_call.verify(turn, action)
        found[kind] = len(chosen) / (time.perf_counter() - start)
    return found


def in_a_process(source: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--once", str(source)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - our own file
    return json.loads(done.stdout)


# --- actions of other turns ---------------------------------------------------------------------------------------


def outcomes_of_others(turns: list[Turn], **options: Any) -> dict[str, dict[str, float]]:
    """Shares of pass, fail and no verdict when a turn judges the action of another turn of the same kind."""
    generator = random.Random(0)  # noqa: S311 - no secret
    found = {}
    for kind in ("messages", "calls"):
        chosen = [turn for turn in turns if is_message(turn.expected_action) == (kind == "messages")]
        counts: Counter[str] = Counter()
        while counts.total() < NUM_PAIRS:
            turn, other = generator.sample(chosen, 2)
            if spelling(turn.expected_action) != spelling(other.expected_action):
                counts[tool_call.verify(turn, other.expected_action, **options).outcome] += 1
        found[kind] = {outcome: count / NUM_PAIRS for outcome, count in sorted(counts.items())}
    return found


def spelling(action: Action) -> str:
    calls = [(call.name, json.loads(call.arguments)) for call in action.tool_calls]
    return json.dumps(["" if calls else normalised(action.content or ""), calls], sort_keys=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "verifiers.json")
    parser.add_argument("--once", type=Path, metavar="SOURCE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(verdicts_per_second(arguments.once)))
        return
    source = next(path for path in SOURCES if path.is_file())
    turns = real_turns(source)
    runs = [in_a_process(source) for _ in range(arguments.repetitions)]
    speeds = {kind: [run[kind] for run in runs] for kind in runs[0]}
    others = {rule: outcomes_of_others(turns, message_rule=rule) for rule in ("coverage", "non_empty", "exact")}
    print(f"{len(turns)} turns, one core{'':9}verdicts/s  range")
    for kind, values in speeds.items():
        print(f"tool_call, {kind:24}{statistics.median(values):11.0f}  {min(values):.0f} to {max(values):.0f}")
    print("\nactions of other turns that pass")
    for rule, found in others.items():
        print(f"message_rule={rule:20}" + "  ".join(f"{k} {v.get('pass', 0.0):.4f}" for k, v in found.items()))
    result = {
        "command": shlex.join(["python", "benchmarks/bench_verifiers.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine("pivotrl", "orjson", "pydantic"),
        "source": source.name,
        "turns": len(turns),
        "verdicts_per_second": speeds,
        "outcomes_of_other_turns_actions": others,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
