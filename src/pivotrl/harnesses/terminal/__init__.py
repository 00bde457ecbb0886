"""Terminal-Bench tasks through Harbor: Terminus 2 types into a terminal, and the task's own tests give the reward.

Harbor wants docker. Where a task's image is only files on a common base, it takes an environment class of ours
(``container.py`` beside this module) that runs the task in :mod:`pivotrl.sandbox.container` instead.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Literal

from pivotrl.options import AtLeast1
from pivotrl.protocols import InputError, Notice
from pivotrl.protocols.harness import Asked, Batch, Command, Gold, Home, Outcome, Setup, json_of
from pivotrl.reading.formats.harbor_tasks import HarborTask, commands_of, is_whole_command, load_harbor_tasks
from pivotrl.records import Refusal
from pivotrl.sandbox.container import client_environment, require_container
from pivotrl.storage.record_files import sha256_of_file, sha256_of_json

_BUILT_IN = Path(__file__).parents[2] / "environments" / "shell" / "tasks"
_JOB = "job"
_FILES = ".files"
"""What the agent finds at first. Hidden, so that reading the results does not take it for logs."""


@dataclass(frozen=True, kw_only=True)
class Harness:
    """Harbor with Terminus 2: terminal tasks, such as Terminal-Bench 2.

    Args:
        root: the folder above the tasks; None: those that come with pivotrl.
        backend: sandbox: no docker; only tasks whose image is files on a common base. docker: every task.
        max_turns: answers after which an episode ends.
        context_tokens: the model's context, where LiteLLM does not know it; Terminus summarises before it is full.
    """

    root: str | None = None
    backend: Literal["sandbox", "docker"] = "sandbox"
    max_turns: AtLeast1 = 50
    context_tokens: AtLeast1 | None = None

    package: ClassVar[str] = "harbor"
    version: ClassVar[str] = "0.26.0"
    requirements: ClassVar[Sequence[Sequence[str]]] = (("harbor==0.26.0",),)
    least_python: ClassVar[tuple[int, int]] = (3, 12)
    max_batch: ClassVar[int] = 1
    reader: ClassVar[str] = "auto"
    logs: ClassVar[str] = f"{_JOB}/*/agent/trajectory.json"

    def check(self, setup: Setup) -> None:
        if self.backend == "sandbox":
            require_container()
            if shutil.which("tmux", path="/usr/local/bin:/usr/bin:/bin") is None:
                raise InputError("Terminus 2 types into tmux, which the sandbox takes from /usr: apt-get install tmux")
        elif shutil.which("docker") is None or _fails(["docker", "info"]):
            raise InputError(
                "Harbor needs docker, and `docker info` fails here; start it, or leave out backend='docker' to play "
                "the tasks whose image is only files"
            )

    def inputs(self, home: Home) -> Mapping[str, str]:
        if self.root is None:
            return {}
        files = sorted(path for path in self._root.rglob("*") if path.is_file())
        return {"tasks": sha256_of_json([(str(path.relative_to(self._root)), sha256_of_file(path)) for path in files])}

    def tasks(self, home: Home) -> list[str]:
        found, refused = self._tasks()
        if refused:
            first = f"{refused[0].place}: {refused[0].reason}"
            text = f"{len(refused)} tasks below {self._root} need docker and are left out; the first: {first}"
            warnings.warn(Notice(text), stacklevel=2)
        return list(found)

    @property
    def _root(self) -> Path:
        return Path(self.root) if self.root else _BUILT_IN

    def _tasks(self) -> tuple[Mapping[str, HarborTask | Path], Sequence[Refusal]]:
        """(tasks by name, those that need docker)

        Raises:
            InputError: there is nothing to play.
        """
        if self.backend == "docker":
            paths = sorted(self._root.glob("*/task.toml"))
            if not paths:
                raise InputError(f"{self._root} holds no folder with a task.toml; give the folder above the tasks")
            return {path.parent.name: path.parent for path in paths}, []
        found, refused = load_harbor_tasks(self._root)
        if not found:
            first = f"{refused[0].place}: {refused[0].reason}"
            raise InputError(f"no task below {self._root} can be played without docker: {first}")
        return found, refused

    def command(self, home: Home, batch: Batch) -> Command:
        task, setup = self._tasks()[0][batch.tasks[0]], batch.setup
        folder = task.folder if isinstance(task, HarborTask) else task
        words = [str(home.python), "-m", "harbor.cli.main", "run", "--path", str(folder.resolve()), "--quiet", "--yes"]
        words += ["--jobs-dir", str(batch.folder), "--job-name", _JOB, "--n-concurrent", "1", "--n-attempts", "1"]
        words += ["--agent", "terminus-2", "--model", f"openai/{setup.agent.model}"]
        call = {"seed": batch.seed} | ({"max_tokens": setup.max_tokens} if setup.max_tokens is not None else {})
        options: dict[str, Any] = {
            "api_base": batch.agent_url,
            "temperature": setup.temperature,
            "max_turns": self.max_turns,
            "record_terminal_session": False,
            "trajectory_config": {"raw_content": True, "linear_history": True},
            "llm_call_kwargs": call,
        }
        if self.context_tokens is not None:
            sizes = {"max_input_tokens": self.context_tokens}
            sizes["max_output_tokens"] = setup.max_tokens or self.context_tokens
            # Terminus summarises below 8,000 free tokens: always, with a small context.
            options["proactive_summarization_threshold"] = min(8_000, self.context_tokens // 4)
            options["model_info"] = {**sizes, "input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
        for name, value in options.items():
            words += ["--ak", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
        environment = {"OPENAI_API_KEY": setup.agent.key, "HARBOR_TELEMETRY": "0", "NO_COLOR": "1"}
        if isinstance(task, HarborTask):
            words += ["--env", "container:SandboxContainer"]
            task.stage(batch.folder / _FILES)
            environment |= client_environment(Path(__file__).parent)
            environment |= {"PIVOTRL_FILES": str(batch.folder / _FILES), "PIVOTRL_WORKDIR": task.workdir}
        else:
            words += ["--env", "docker"]
        return Command(words, environment)

    def outcomes(self, batch: Batch) -> Iterator[Outcome]:
        for path in sorted((batch.folder / _JOB).glob("*/result.json")):
            result = json_of(path)
            if result and result.get("finished_at"):
                yield _outcome(batch.tasks[0], result, path.parent)

    def gold(self, home: Home) -> Gold:
        tasks, _ = self._tasks()

        def answer(asked: Asked) -> Mapping[str, Any]:
            task = tasks[asked.task]
            folder = task.folder if isinstance(task, HarborTask) else task
            script = folder / "solution" / "solve.sh"
            if not script.is_file():
                raise InputError(f"the task {asked.task} has no solution/solve.sh")
            return {
                "content": json.dumps(
                    _turn(commands_of(script.read_text("utf-8"), is_whole_command), asked.num_answers)
                )
            }

        return answer


def _turn(commands: Sequence[str], number: int) -> dict[str, Any]:
    """The gold player's answer of this number: the solution's commands one by one, then the end."""
    is_done = number >= len(commands)
    keys = [] if is_done else [f"{commands[number]}\n"]
    if number == 0:
        keys.insert(0, "set +H\n")  # or the shell takes an exclamation mark in what is typed for an old command
    typed = [{"keystrokes": key, "duration": 1.0} for key in keys]
    return {"analysis": "", "plan": "", "commands": typed, "task_complete": is_done}


def _outcome(task: str, result: Mapping[str, Any], folder: Path) -> Outcome:
    rewards = (result.get("verifier_result") or {}).get("rewards") or {}
    reward, used = rewards.get("reward"), result.get("agent_result") or {}
    fault = (result.get("exception_info") or {}).get("exception_type")
    is_valid = bool(result.get("reward_valid", fault is None)) and isinstance(reward, int | float)
    if not is_valid:
        reason = str(fault or "no_reward")
    else:
        reason = str(fault) if fault else "solved" if reward == 1 else "not_solved"
    steps = (json_of(folder / "agent" / "trajectory.json") or {}).get("steps") or ()
    return Outcome(
        task=task,
        reward=min(1.0, max(0.0, float(reward))) if is_valid and reward is not None else None,
        reason=reason,
        num_turns=sum(step.get("source") == "agent" for step in steps) or None,
        num_prompt_tokens=used.get("n_input_tokens"),
        num_tokens=used.get("n_output_tokens"),
        seconds=_seconds(result.get("agent_execution") or {}),
    )


def _seconds(timing: Mapping[str, Any]) -> float | None:
    try:
        begun, ended = (datetime.fromisoformat(str(timing[name])) for name in ("started_at", "finished_at"))
    except (KeyError, ValueError):
        return None
    return (ended - begun).total_seconds()


def _fails(words: Sequence[str]) -> bool:
    try:
        return subprocess.run(words, capture_output=True, timeout=30).returncode != 0  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return True
