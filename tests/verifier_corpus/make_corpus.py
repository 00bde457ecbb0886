"""Freeze probes on real turns into generated.jsonl. Run only to make the corpus anew: its use is that it stays.

python tests/verifier_corpus/make_corpus.py
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pivotrl.judging.probes.commands import shells
from pivotrl.judging.probes.edits import edits
from pivotrl.judging.probes.making import make_probes
from pivotrl.parsing import parse_completion
from pivotrl.protocols import Turn
from verifier_corpus import HERE, turns

CONVERSATIONS = (
    *("tau_bench/gpt-4o-airline.json", "nemo_gym/single_step_tool_use.jsonl", "nemo_gym/parallel_tool_calls.jsonl"),
    *("nemo_gym/xlam_fc.jsonl", "formats/sharegpt", "formats/tau2_bench", "formats/atif", "formats/inspect_ai"),
)
SOFTWARE = (
    *(
        "nemo_gym/swe_pivot.jsonl",
        "nemo_gym/terminus_judge.jsonl",
        "formats/mini_swe_agent",
        "formats/swe_agent",
        "formats/openhands_completions",
    ),
    *(
        "formats/claude_code",
        "formats/codex",
        "formats/openhands_sdk",
        "formats/harbor_export",
        "formats/terminal_bench",
        "formats/terminus",
    ),
)
NUM_ATTACKS, NUM_HONEST = 3, 12
"""Of one kind for one verifier."""
MAX_TEXT = 2500
"""Characters; whole contexts that are copied make the file large and are tried at run time anyway."""


def is_command(turn: Turn) -> bool:
    action = turn.expected_action
    found = list(shells(action))
    if action.tool_calls:
        return len(found) == len(action.tool_calls)
    is_terminus = (action.content or "").lstrip().startswith("{")
    return bool(found) and (is_terminus or bool(parse_completion(action.content or "", "bash")[0].tool_calls))


def is_edit(turn: Turn) -> bool:
    calls = turn.expected_action.tool_calls
    known = all(re.search(r"edit|patch|create|write", call.name, re.IGNORECASE) for call in calls)
    return bool(calls) and known and len(list(edits(turn.expected_action))) == len(calls)


def is_conversation(turn: Turn) -> bool:
    action = turn.expected_action
    is_readable = bool(action.tool_calls) or parse_completion(action.content or "")[1] is None
    return is_readable and not list(shells(action)) and not is_edit(turn)


def draw(verifier: str, sources: tuple[str, ...], suits: Callable[[Turn], bool]) -> list[dict[str, object]]:
    generator = random.Random(verifier)
    found = [(source, turn) for source in sources for turn in turns(source).values() if suits(turn)]
    generator.shuffle(found)
    taken: Counter[str] = Counter()
    rows = []
    for source, turn in found:
        others = list(turns(source).values())
        near = [t for t in others if t.trajectory is turn.trajectory and t is not turn][:2]
        far = [t for t in others if t.trajectory.task_id != turn.trajectory.task_id][:2]
        for probe in make_probes(turn, near, far, per_kind=1):
            most = NUM_HONEST if probe.expected == "pass" else NUM_ATTACKS
            if not probe.certain or probe.demonstrated or len(probe.text) > MAX_TEXT or taken[probe.kind] >= most:
                continue
            taken[probe.kind] += 1
            row = {"source": source, "turn": turn.id, "verifier": verifier, "class": probe.area, "kind": probe.kind}
            row |= {"expected": probe.expected, "action": probe.action.model_dump(exclude_defaults=True)}
            rows.append(row | ({"parse_error": probe.parse_error} if probe.parse_error else {}))
    return sorted(rows, key=lambda row: (str(row["kind"]), str(row["source"]), str(row["turn"])))


def main() -> None:
    rows = draw("tool_call", CONVERSATIONS, is_conversation)
    rows += draw("command", SOFTWARE, is_command)
    rows += draw("edit", SOFTWARE, is_edit)
    (HERE / "generated.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(len(rows), Counter((row["verifier"], row["expected"]) for row in rows))


if __name__ == "__main__":
    main()
