"""What each verifier can judge at the turns of repair tasks: probes whose right verdict is known by construction.

    .venv/bin/python recipes/repair_verifiers.py            # half an hour on one core; goes on where it stopped
    .venv/bin/python recipes/repair_verifiers.py --tables   # only writes the table of docs/repair.md anew

At each turn of the scripted expert there are actions that do the same in another spelling (they should pass), actions
that bring as much in another way (they should pass too), and actions that bring nothing or do harm (they should fail).
``outcome`` continues each with the expert's remaining script, which never looks back.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shlex
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.environments.repair import make_environments, restore
from pivotrl.environments.repair.expert import expert_actions
from pivotrl.environments.repair.mutation import defects_of, with_defects
from pivotrl.environments.repair.repairing import Repair
from pivotrl.intervals import clustered_mean
from pivotrl.protocols import Turn, Verifier
from pivotrl.readers.repair import read
from pivotrl.records import Action, Completion, SampleGroup, Sampling, ToolCall, Trajectory
from pivotrl.sandbox.repositories.task import Manner
from pivotrl.verifiers import command, edit
from pivotrl.verifiers.execute import Execution
from pivotrl.verifiers.outcome import Outcome

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "recipes" / "results" / "repair_verifiers.jsonl"
DOCUMENT = ROOT / "docs" / "repair.md"
NUM_TASKS = 4
MANNERS: tuple[Manner, ...] = ("tools", "bash")
ROLES = ("demonstrated", "spelling", "other_way", "wrong")
KINDS = ("find", "reproduce", "look", "edit", "check", "test", "submit")


@dataclass(frozen=True)
class Probe:
    """``role``: spelling or other_way (honest), or wrong."""

    role: str
    name: str
    action: Action


def bash(text: str) -> Action:
    return Action(tool_calls=(ToolCall(name="bash", arguments=json.dumps({"command": text}), id="p"),))


def view(path: str, **more: Any) -> Action:
    return editor(command="view", path=path, **more)


def editor(**arguments: Any) -> Action:
    return Action(tool_calls=(ToolCall(name="str_replace_editor", arguments=json.dumps(arguments), id="p"),))


def kind_of(action: Action, before: Sequence[str]) -> str:
    arguments = json.loads(action.tool_calls[0].arguments)
    text = str(arguments.get("command", ""))
    if action.tool_calls[0].name == "submit" or text.startswith("echo COMPLETE"):
        return "submit"
    if text == "str_replace" or text.startswith("sed -i"):
        return "edit"
    for start, kind in (("grep", "find"), ("view", "look"), ("cat", "look"), ("python3 -m unittest", "test")):
        if text.startswith(start):
            return kind
    return "check" if "edit" in before else "reproduce"


def probes(turn: Turn, kind: str, task: Repair, manner: Manner) -> Iterator[Probe]:
    """Other actions at a turn, and what a verifier should say of them."""
    repair, path = task.repair, task.repair.repairs[0].path
    logged = (
        turn.trajectory.messages[turn.index + 1].content or "" if turn.index + 1 < len(turn.trajectory.messages) else ""
    )
    answer = re.sub(r"^<returncode>0</returncode>\n<output>\n|\n?</output>$|\n?\[exit code 0\]$", "", logged)
    text = str(json.loads(turn.expected_action.tool_calls[0].arguments).get("command", ""))
    other = next(test.name for test in repair.hidden[1:])
    yield Probe("wrong", "nothing", bash("true"))
    if kind not in ("submit", "edit"):
        yield Probe("wrong", "prints the logged answer", bash(f"printf '%s\\n' {shlex.quote(answer)}"))
    if kind != "submit":
        yield Probe(
            "wrong",
            "hands in now",
            Action(tool_calls=(ToolCall(name="submit", arguments="{}", id="p"),))
            if manner == "tools"
            else bash("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"),
        )
    if kind == "find":
        yield Probe("spelling", "other quotes", bash(f'grep -rn "def {repair.function}" toolbox'))
        yield Probe("spelling", "flags apart", bash(f"grep -n -r 'def {repair.function}' toolbox"))
        yield Probe(
            "other_way", "a pipe", bash(f"grep -rn '' toolbox | grep 'def {repair.function}' | sed 's/:def/:def/'")
        )
        yield Probe("wrong", "another function", bash(f"grep -rn 'def {other}' toolbox"))
    elif kind in ("reproduce", "check"):
        program = f"from toolbox.{repair.module} import {repair.function}\nprint(repr({repair.example}))"
        yield Probe("other_way", "a heredoc", bash(f"python3 - <<'EOF'\n{program}\nEOF"))
        yield Probe(
            "other_way",
            "another program",
            bash(f"python3 -c {shlex.quote(program.replace('from', 'import sys; from', 1))}"),
        )
        yield Probe("wrong", "another function", bash(text.replace(repair.function, other)))
    elif kind == "look":
        yield from looks(path, manner)
    elif kind == "edit":
        yield from edits(turn, task, manner)
    elif kind == "test":
        yield Probe("spelling", "blanks", bash("python3  -m  unittest"))
        yield Probe("other_way", "discover", bash("python3 -m unittest discover -t . -s tests"))
        yield Probe("wrong", "one module", bash(f"python3 -m unittest tests.test_{repair.module}"))
    elif kind == "submit":
        yield Probe("wrong", "says that it is done", Action(content="The issue is solved."))


def looks(path: str, manner: Manner) -> Iterator[Probe]:
    if manner == "tools":
        yield Probe("spelling", "a relative path", view(path))
        yield Probe("other_way", "in the shell", bash(f"cat -n {path}"))
        yield Probe("wrong", "another file", view("/testbed/README.md"))
    else:
        yield Probe("spelling", "a dot", bash(f"cat ./{path}"))
        yield Probe("other_way", "sed", bash(f"sed -n '1,$p' {path}"))
        yield Probe("wrong", "another file", bash("cat README.md"))


def edits(turn: Turn, task: Repair, manner: Manner) -> Iterator[Probe]:
    """Other ways to write the file that the demonstrated edit leaves, and other files."""
    path = f"/testbed/{task.repair.repairs[0].path}"
    with closing(restore(turn)) as environment:
        before = environment.read(task.repair.repairs[0].path)
        environment.step(turn.expected_action)
        after = environment.read(task.repair.repairs[0].path)
    old, new = before, after
    write = f"cat > {task.repair.repairs[0].path} <<'END_OF_FILE'\n{new}END_OF_FILE"
    yield Probe("other_way", "writes the file in the shell", bash(write))
    found = replaced(old, new)
    wrong = wrong_edit(old, new, task)
    if manner == "tools":
        yield Probe(
            "spelling", "more context", editor(command="str_replace", path=path, old_str=found[2], new_str=found[3])
        )
        yield Probe(
            "spelling",
            "a relative path",
            editor(command="str_replace", path=path[9:], old_str=found[0], new_str=found[1]),
        )
        yield Probe(
            "other_way",
            "with a comment",
            editor(
                command="str_replace",
                path=path,
                old_str=found[0],
                new_str=found[1].rstrip("\n") + "  # was wrong" + "\n" * found[1].endswith("\n"),
            ),
        )
        yield Probe(
            "wrong",
            "old_str is not there",
            editor(command="str_replace", path=path, old_str=found[0] + "?", new_str=found[1]),
        )
        yield Probe(
            "wrong",
            "another file",
            editor(command="str_replace", path="/testbed/README.md", old_str="# toolbox", new_str="# tools"),
        )
        if wrong:
            yield Probe("wrong", "another defect", editor(command="str_replace", path=path, old_str=old, new_str=wrong))
    else:
        text = json.loads(turn.expected_action.tool_calls[0].arguments)["command"]
        yield Probe("spelling", "a dot", bash(text.replace(" toolbox/", " ./toolbox/")))
        yield Probe(
            "wrong", "another line", bash(re.sub(r"'(\d+)", lambda match: f"'{int(match[1]) + 1}", text, count=1))
        )
        yield Probe("wrong", "another file", bash(re.sub(r" toolbox/\w+\.py$", " README.md", text)))
        if wrong:
            yield Probe("wrong", "another defect", bash(f"cat > {path} <<'END_OF_FILE'\n{wrong}END_OF_FILE"))


def replaced(old: str, new: str) -> tuple[str, str, str, str]:
    """The lines that differ, before and after, such that they are unique; and with the line before."""
    a, b = old.splitlines(keepends=True), new.splitlines(keepends=True)
    first = next(i for i in range(min(len(a), len(b)) + 1) if i == min(len(a), len(b)) or a[i] != b[i])
    last = next(i for i in range(1, min(len(a), len(b)) + 2) if i > min(len(a), len(b)) - first or a[-i] != b[-i]) - 1
    while True:
        stop = len(a) - last
        if first < stop and old.count("".join(a[first:stop])) == 1:
            wide = max(0, first - 1)
            return (
                "".join(a[first:stop]),
                "".join(b[first : len(b) - last]),
                "".join(a[wide:stop]),
                "".join(b[wide : len(b) - last]),
            )
        first -= 1


def wrong_edit(old: str, new: str, task: Repair) -> str | None:
    """The file with another defect in the function in place of this one."""
    source = task.repair.hidden[0].source
    if source not in new and task.repair.level == 1:
        return None
    draw = random.Random(f"wrong edit of {task.task_id}")  # noqa: S311
    choices = [defect for defect in defects_of(new) if with_defects(new, [defect]) != old]
    place = new.find(f"def {task.repair.function}(")
    inside = [defect for defect in choices if place <= defect.start < place + len(source)]
    return with_defects(new, [draw.choice(inside)]) if inside else None


class Script:
    """Continues an episode with the expert's actions, wherever it is."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self._actions = actions

    @property
    def identity(self) -> dict[str, Any]:
        return {"sampler": "script"}

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        return True

    def sample(
        self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
    ) -> Iterator[SampleGroup]:
        for turn in turns:
            number = sum(message.role == "assistant" for message in turn.context)
            action = self._actions[min(number, len(self._actions) - 1)]
            answer = Completion(action=action, text="", token_ids_T=(0,), logprobs_T=(0.0,), finish_reason="stop")
            yield SampleGroup(turn_id=turn.id, completions_G=(answer,) * num_samples, first=first)


def verifiers(actions: Sequence[Action]) -> dict[str, Verifier]:
    found: dict[str, Verifier] = {"command": command.verify, "edit": edit.verify}
    found["execute"] = Execution(environment="repair")
    found["outcome"] = Outcome(environment="repair", continuations=1, sampler=Script(actions))
    return found


def measure() -> None:
    """Judge task after task and append what came of each; those that are there already are left out."""
    done = {(row["task"], row["manner"]) for row in rows()}
    for number in range(NUM_TASKS):
        level, problem = 1 + number % 3, 11 + 17 * number
        for manner in MANNERS:
            found = read(Path(f"{problem}-{problem + 8}"), levels=str(level), manner=manner)
            trajectory = next(item for item in found if isinstance(item, Trajectory))
            if (trajectory.task_id, manner) not in done:
                began = time.monotonic()
                text = "".join(json.dumps(row) + "\n" for row in judged(trajectory, manner, level))
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(text)
                print(f"{trajectory.task_id}, {manner}: {time.monotonic() - began:.0f} s", flush=True)


def rows() -> list[dict[str, str]]:
    return [json.loads(line) for line in RESULTS.read_text("utf-8").splitlines()] if RESULTS.exists() else []


def judged(trajectory: Trajectory, manner: Manner, level: int) -> Iterator[dict[str, str]]:
    """A row for each verdict at the turns of one trajectory."""
    task = make_environments(levels=str(level), manner=manner).make(trajectory.task_id)
    judges = verifiers(expert_actions(task.repair, task.folder, manner))
    kinds: list[str] = []
    for index, message in enumerate(trajectory.messages):
        if message.role != "assistant":
            continue
        turn = Turn(trajectory, index)
        kinds.append(kind := kind_of(turn.expected_action, kinds))
        cases = [Probe("demonstrated", "demonstrated", turn.expected_action), *probes(turn, kind, task, manner)]
        for name, verify in judges.items():
            for probe in cases:
                verdict = verify(turn, probe.action)
                place = {"task": task.task_id, "manner": manner, "turn": kind, "index": str(index)}
                said = {"outcome": verdict.outcome, "reason": verdict.reason}
                yield {**place, "verifier": name, "role": probe.role, "probe": probe.name, **said}


def rate(group: Sequence[dict[str, str]]) -> dict[str, Any]:
    """How many of the verdicts pass, and the interval of the share, clustered by task."""
    known = [row for row in group if row["outcome"] != "no_verdict"]
    if not known:
        return {"judged": 0}
    passed = [float(row["outcome"] == "pass") for row in known]
    estimate = clustered_mean(passed, [row["task"] for row in known])
    return {"judged": len(known), "passed": round(sum(passed)), "interval": [estimate.low, estimate.high]}


def table() -> str:
    heads = ("turn", "manner", "verifier", "accepts the demonstration", "other spelling fails", "other way fails")
    heads += ("wrong action passes", "no verdict")
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join(['---'] * len(heads))} |"]
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = defaultdict(list)
    for row in rows():
        groups[row["turn"], row["manner"], row["verifier"]].append(row)
    for turn, manner, name in sorted(groups, key=lambda key: (KINDS.index(key[0]), MANNERS.index(key[1]))):
        group = groups[turn, manner, name]
        roles = [rate([row for row in group if row["role"] == role]) for role in ROLES]
        if not roles[0]["judged"]:
            continue
        silent = sum(row["outcome"] == "no_verdict" for row in group)
        cells = [turn, manner, f"`{name}`", share(roles[0]), share(roles[1], True), share(roles[2], True)]
        lines.append(f"| {' | '.join([*cells, share(roles[3]), f'{silent} of {len(group)}'])} |")
    return "\n".join(lines)


def share(role: dict[str, Any], is_failing: bool = False) -> str:
    if not role["judged"]:
        return "-"
    count = role["judged"] - role["passed"] if is_failing else role["passed"]
    low, high = role["interval"]
    if is_failing:
        low, high = 1 - high, 1 - low
    return f"{count} of {role['judged']} [{100 * low:.0f}, {100 * high:.0f}] %"


def write_table() -> None:
    text = DOCUMENT.read_text("utf-8")
    start, end = "<!-- repair: verifiers -->\n", "<!-- /repair -->"
    before, _, rest = text.partition(start)
    DOCUMENT.write_text(f"{before}{start}{table()}\n{end}{rest.partition(end)[2]}", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tables", action="store_true", help="only write the table, from the committed results")
    if not parser.parse_args().tables:
        measure()
    write_table()


if __name__ == "__main__":
    main()
