"""A benchmark of additions, whose program is a few lines of Python. Tasks may misbehave on demand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, ClassVar

from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Asked, Batch, Command, Gold, Home, Outcome, Setup

_PROGRAM = r"""
import json, sys, time, urllib.request
url, model, seed, faults, *tasks = sys.argv[1:]
faults = json.loads(faults)
for task in tasks:
    with open("played.txt", "a") as file:
        file.write(f"{task} {seed}\n")
    fault = faults.get(task)
    if fault == "hangs":
        time.sleep(600)
    if fault == "crashes":
        raise SystemExit("ValueError: no idea what " + task + " is")
    question = [{"role": "user", "content": f"What is {task}?"}]
    body = json.dumps({"model": model, "messages": question, "user": task, "max_tokens": 8}).encode()
    asked = urllib.request.Request(f"{url}/chat/completions", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            said = json.load(answer)["choices"][0]["message"]["content"]
        row = {"task": task, "score": float(said.strip() == str(sum(map(int, task.split("+")))))}
    except OSError as error:
        row = {"task": task, "score": None, "error": str(error)}
    if row["score"] is not None:
        talk = [*question, {"role": "assistant", "content": said}]
        with open("talks.jsonl", "a") as file:
            file.write(json.dumps({"messages": talk, "task_id": task, "reward": row["score"]}) + "\n")
    if fault == "floods":
        while True:
            print("x" * 1000000)
    row = {"task": task} if fault == "nonsense" else {**row, "score": 7.0} if fault == "seven" else row
    text = json.dumps(row)
    with open("scores.jsonl", "a") as file:
        file.write(text[:-5] if fault == "half" else text + "\n")
    if fault == "half":
        raise SystemExit("OSError: the disk is full")
    time.sleep(float(faults.get("pause", 0)))
"""


@dataclass(frozen=True, kw_only=True)
class Harness:
    """Additions.

    Args:
        num_tasks: 1+1, 2+2 and so on.
        faults: task -> hangs, crashes, floods, half (a result that breaks off), nonsense (one without a score) or seven
            (a score outside 0 to 1); pause -> seconds after each task.
        needs: something that is missing.
    """

    num_tasks: int = 4
    faults: Mapping[str, Any] | None = field(default=None, repr=False)
    needs: str | None = None

    package: ClassVar[str] = "pydantic"
    version: ClassVar[str] = version("pydantic")
    requirements: ClassVar[Sequence[Sequence[str]]] = (("pydantic==999",),)
    max_batch: ClassVar[int] = 2
    reader: ClassVar[str] = "chat"
    logs: ClassVar[str] = "talks.jsonl"

    def check(self, setup: Setup) -> None:
        if self.needs:
            raise InputError(f"sums_bench needs {self.needs}; install it")

    def tasks(self, home: Home) -> list[str]:
        return [f"{number}+{number}" for number in range(1, self.num_tasks + 1)]

    def command(self, home: Home, batch: Batch) -> Command:
        faults = json.dumps(dict(self.faults or {}))
        model, seed = batch.setup.agent.model, str(batch.seed)
        return Command([str(home.python), "-c", _PROGRAM, batch.agent_url, model, seed, faults, *batch.tasks])

    def outcomes(self, batch: Batch) -> Iterator[Outcome]:
        path = batch.folder / "scores.jsonl"
        for line in path.read_text().splitlines(keepends=True) if path.is_file() else ():
            if line.endswith("\n"):
                row = json.loads(line)
                reason = "no_answer" if row["score"] is None else "right" if row["score"] else "wrong"
                yield Outcome(row["task"], row["score"], reason, num_turns=1, num_tokens=3)

    def gold(self, home: Home) -> Gold:
        def answer(asked: Asked) -> Mapping[str, Any]:
            if "+" not in asked.task:
                raise KeyError(asked.task)
            return {"content": str(sum(map(int, asked.task.split("+"))))}

        return answer
