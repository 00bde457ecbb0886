"""mini-swe-agent on repair tasks, or on rows of SWE-bench and its kin.

The program is the published one; its commands run in our sandbox (:mod:`pivotrl.harnesses.swe.play`), and hidden tests
judge the files that it leaves.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from pivotrl.environments.repair import RepairTasks
from pivotrl.environments.repair.expert import expert_actions
from pivotrl.environments.swe import SweTask, SweTasks, gold_commands
from pivotrl.harnesses.swe.episode import Episode, Scorer
from pivotrl.harnesses.swe.scoring import RESULT, played_before, require_scorer
from pivotrl.options import AtLeast0, AtLeast1, Positive
from pivotrl.plugins import load
from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Asked, Batch, Command, Gold, Home, Outcome, Setup, json_of
from pivotrl.records.strict_json import parse_arguments
from pivotrl.storage.record_files import sha256_of_file


@dataclass(frozen=True, kw_only=True)
class Harness:
    """mini-swe-agent repairs small repositories, or plays rows of SWE-bench and its kin on local clones.

    Args:
        rows: a file of rows to play in place of repair tasks, as for the environment ``swe``.
        clones: the folder of local clones that the rows need.
        packages: a folder of Python packages that the clones need.
        levels: numbers of defects, such as ``1,2``.
        first, last: numbers of the problems, of 0 to 163.
        variants: tasks of each problem and level, at most 3.
        step_limit: answers of the model after which an episode ends, and the files are judged.
        wall_seconds: time after which an episode ends, and the files are judged.
        command_seconds: time limit of a command.
        backend: sandbox backend.
        scorer: who judges rows. ours: their tests in our sandbox. swebench: swebench's own scorer, which needs docker;
            the rows must be those that it publishes.
        swebench_python: the interpreter of an environment with swebench.
        score_seconds: time limit of an instance's tests in swebench's scorer.
    """

    rows: str | None = None
    clones: str | None = None
    packages: str | None = None
    levels: str = "1,2,3"
    first: AtLeast0 = 0
    last: AtLeast0 = 163
    variants: AtLeast1 = 1
    step_limit: AtLeast1 = 40
    wall_seconds: AtLeast1 = 1800
    command_seconds: Positive = 5.0
    backend: str = "bwrap"
    scorer: Literal["ours", "swebench"] = "ours"
    swebench_python: str | None = field(default=None, repr=False)
    score_seconds: AtLeast1 = 1800

    package: ClassVar[str] = "mini-swe-agent"
    version: ClassVar[str] = "2.4.6"
    requirements: ClassVar[Sequence[Sequence[str]]] = (("mini-swe-agent==2.4.6",),)
    max_batch: ClassVar[int] = 1
    reader: ClassVar[str] = "mini_swe_agent"
    logs: ClassVar[str] = "*.traj.json"

    def check(self, setup: Setup) -> None:
        if self.rows is not None and self.clones is None:
            raise InputError(
                "swe: give the folder of local clones as clones=. To play in the rows' own images, where docker is, "
                "run `mini-extra swebench` and `python -m swebench.harness.run_evaluation` against the endpoint of "
                "`pivotrl serve`, and read what they write with `pivotrl read`"
            )
        if self.scorer == "swebench":
            if self.rows is None:
                raise InputError("swe: scorer='swebench' judges rows of SWE-bench: give rows= and clones=")
            require_scorer(self.swebench_python, self.rows)
        self._environments()

    def inputs(self, home: Home) -> Mapping[str, str]:
        return {} if self.rows is None else {"rows": sha256_of_file(Path(self.rows))}

    def tasks(self, home: Home) -> list[str]:
        return self._environments().tasks()

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
            scorer=self._scorer(),
            played=None if self.scorer == "ours" else _text(played_before(batch)),
        )
        path = batch.folder / ".episode.json"
        path.write_text(episode.model_dump_json(), "utf-8")
        source = str(Path(sys.modules["pivotrl"].__file__ or "").parents[1])
        words = [sys.executable, "-m", "pivotrl.harnesses.swe.play", str(path)]
        return Command(words, {"OPENAI_API_KEY": setup.agent.key, "PYTHONPATH": source})

    def outcomes(self, batch: Batch) -> Iterator[Outcome]:
        if result := json_of(batch.folder / RESULT):
            yield Outcome(**result)

    def gold(self, home: Home) -> Gold:
        environments = self._environments()

        @functools.cache
        def answers(task: str) -> list[Mapping[str, Any]]:
            environment = environments.make(task)
            if isinstance(environment, SweTask):
                return [_call("", command) for command in gold_commands(environment.instance)]
            actions = expert_actions(environment.repair, environment.folder, "bash")
            return [
                _call(action.content or "", parse_arguments(action.tool_calls[0].arguments)["command"])
                for action in actions
            ]

        def answer(asked: Asked) -> Mapping[str, Any]:
            plan = answers(asked.task)
            if asked.num_answers >= len(plan):
                raise InputError(f"{asked.task}: the expert has only {len(plan)} answers")
            return plan[asked.num_answers]

        return answer

    def _scorer(self) -> Scorer | None:
        if self.scorer == "ours" or self.rows is None or self.swebench_python is None:
            return None
        python = str(Path(self.swebench_python).absolute())
        return Scorer(python=python, rows=str(Path(self.rows).resolve()), seconds=self.score_seconds)

    def _spec(self) -> str:
        """The environments as `.episode.json` names them."""
        if self.rows is not None:
            named = {"rows": self.rows, "clones": self.clones, "packages": self.packages}
            options = {name: None if value is None else str(Path(value).resolve()) for name, value in named.items()}
            tests = {} if self.scorer == "ours" else {"tests": "elsewhere"}
            return _with_options("swe", {**options, "manner": "bash", "backend": self.backend, **tests})
        names = ("levels", "first", "last", "variants", "backend", "command_seconds")
        return _with_options("repair", {**{name: getattr(self, name) for name in names}, "manner": "bash"})

    def _environments(self) -> RepairTasks | SweTasks:
        return cast(RepairTasks | SweTasks, load("environments", self._spec())())


def _call(thought: str, command: str) -> Mapping[str, Any]:
    return {"content": thought, "tool_calls": [{"name": "bash", "arguments": {"command": command}}]}


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _with_options(name: str, options: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in options.items())})"
