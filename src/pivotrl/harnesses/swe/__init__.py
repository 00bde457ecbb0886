"""mini-swe-agent on repair tasks, or on rows of SWE-bench and its kin.

The program is the published one; its commands run in our sandbox (:mod:`pivotrl.harnesses.swe.play`), and hidden tests
judge the files that it leaves.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pivotrl.environments.repair import RepairTasks, make_environments
from pivotrl.environments.repair.expert import expert_actions
from pivotrl.harnesses.swe.episode import Episode
from pivotrl.options import AtLeast1, Positive
from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Asked, Batch, Command, Gold, Home, Outcome, Setup, json_of
from pivotrl.records.strict_json import parse_arguments


@dataclass(frozen=True, kw_only=True)
class Harness:
    """mini-swe-agent repairs small repositories; hidden tests judge.

    Args:
        levels: numbers of defects, such as ``1,2``.
        first, last: numbers of the problems, of 0 to 163.
        variants: tasks of each problem and level, at most 3.
        step_limit: answers of the model after which an episode ends, and the files are judged.
        wall_seconds: time after which an episode ends, and the files are judged.
        command_seconds: time limit of a command.
        backend: sandbox backend.
    """

    levels: str = "1,2,3"
    first: int = 0
    last: int = 163
    variants: AtLeast1 = 1
    step_limit: AtLeast1 = 40
    wall_seconds: AtLeast1 = 1800
    command_seconds: Positive = 5.0
    backend: str = "bwrap"

    package: ClassVar[str] = "mini-swe-agent"
    version: ClassVar[str] = "2.4.6"
    requirements: ClassVar[Sequence[Sequence[str]]] = (("mini-swe-agent==2.4.6",),)
    max_batch: ClassVar[int] = 1

    def check(self, setup: Setup) -> None:
        self._tasks()

    def tasks(self, home: Home) -> list[str]:
        return self._tasks().tasks()

    def command(self, home: Home, batch: Batch) -> Command:
        setup = batch.setup
        options: dict[str, Any] = {"api_base": batch.agent_url, "temperature": setup.temperature, "drop_params": True}
        options["seed"] = batch.seed
        if setup.max_tokens is not None:
            options["max_tokens"] = setup.max_tokens
        episode = Episode(
            environments=self._spec(),
            task=batch.tasks[0],
            python=str(home.python),
            model={"model_name": f"openai/{setup.agent.model}", "model_kwargs": options},
            step_limit=self.step_limit,
            wall_seconds=self.wall_seconds,
        )
        path = batch.folder / "episode.json"
        path.write_text(episode.model_dump_json(), "utf-8")
        source = str(Path(sys.modules["pivotrl"].__file__ or "").parents[1])
        words = [sys.executable, "-m", "pivotrl.harnesses.swe.play", str(path)]
        return Command(words, {"OPENAI_API_KEY": setup.agent.key, "PYTHONPATH": source})

    def outcomes(self, batch: Batch) -> Iterator[Outcome]:
        if result := json_of(batch.folder / "result.json"):
            yield Outcome(**result)

    def gold(self, home: Home) -> Gold:
        environments = self._tasks()

        @functools.cache
        def answers(task: str) -> list[Mapping[str, Any]]:
            environment = environments.make(task)
            return [
                {
                    "content": action.content,
                    "tool_calls": [
                        {"name": call.name, "arguments": parse_arguments(call.arguments)} for call in action.tool_calls
                    ],
                }
                for action in expert_actions(environment.repair, environment.folder, "bash")
            ]

        def answer(asked: Asked) -> Mapping[str, Any]:
            plan = answers(asked.task)
            if asked.num_answers >= len(plan):
                raise InputError(f"{asked.task}: the expert has only {len(plan)} answers")
            return plan[asked.num_answers]

        return answer

    def _spec(self) -> str:
        return (
            f"repair(levels={self.levels!r}, first={self.first}, last={self.last}, variants={self.variants}, "
            f"manner='bash', backend={self.backend!r}, command_seconds={self.command_seconds})"
        )

    def _tasks(self) -> RepairTasks:
        return make_environments(
            levels=self.levels,
            first=self.first,
            last=self.last,
            variants=self.variants,
            manner="bash",
            backend=self.backend,
            command_seconds=self.command_seconds,
        )
