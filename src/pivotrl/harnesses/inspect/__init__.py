"""Inspect AI: any task of its own packages, of inspect-evals, or of a user's file.

A process plays samples one after the other, each as an evaluation of its own with a log of its own. Tasks are programs
that the user trusts. What a model writes for a task to run is run by the task's sandbox. ``local`` would be this
machine itself, so such a sandbox is always replaced by ours (``pivotrl_sandbox.py``), and a plain docker one too,
unless ``backend='own'``.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pivotrl.harnesses.inspect.answers import repeated, target_answer
from pivotrl.harnesses.inspect.looking import Seen, look
from pivotrl.harnesses.inspect.results import outcome_of
from pivotrl.options import AtLeast1
from pivotrl.plugins.extras import load_package
from pivotrl.protocols import InputError, Notice
from pivotrl.protocols.harness import Batch, Command, Gold, Home, Outcome, Setup
from pivotrl.sandbox.container import client_environment, require_container

_SCRIPT = Path(__file__).with_name("pivotrl_play.py")
_LOCAL, _DOCKER = "local", "docker"
_GRADED = ("model_graded_qa", "model_graded_fact")
"""Scorers of the package that ask a model, by default the player itself."""


@dataclass(frozen=True, kw_only=True)
class Harness:
    """Inspect AI: a task of inspect-evals, of another package or of your own file.

    Args:
        task: as `inspect eval` names it: inspect_evals/gsm8k, tasks.py, or tasks.py@name where a file has several.
        arguments: of the task.
        scorer: the score that counts, or name.part of a score with parts; None: the first.
        roles: the models besides the player that the task asks, such as a grader; the simulator plays them.
        backend: sandbox: commands run in pivotrl's sandbox, and samples that need an image are left out. own: in the
            sandbox that the task names, such as docker; local ones run in pivotrl's all the same.
        gold_log: a log of Inspect whose answers the gold player repeats; None: it answers the targets.
        message_limit: messages after which a sample ends and is scored; None: as the task says.
    """

    task: str = ""
    arguments: Mapping[str, Any] | None = None
    scorer: str | None = None
    roles: Sequence[str] = ("grader",)
    backend: Literal["sandbox", "own"] = "sandbox"
    gold_log: str | None = None
    message_limit: AtLeast1 | None = None

    package: ClassVar[str] = "inspect-ai"
    version: ClassVar[str] = "0.3.285"
    requirements: ClassVar[Sequence[Sequence[str]]] = (
        ("inspect-ai==0.3.285", "inspect-evals==0.26.0", "openai==3.57.0", "email-validator==2.4.0"),
    )
    max_batch: ClassVar[int] = 10
    logs: ClassVar[str] = "*/*.eval"

    @property
    def reader(self) -> str:
        return "inspect_ai" if self.scorer is None else f"inspect_ai(scorer={self.scorer!r})"

    def check(self, setup: Setup) -> None:
        load_package("zstandard", "pivotrl bench inspect")  # its logs are packed with it
        if not self.task:
            raise InputError(
                "inspect: say which task, such as \"inspect(task='inspect_evals/gsm8k')\" or "
                "\"inspect(task='my_task.py')\""
            )
        file = self.task.partition("@")[0]
        if Path(file).suffix == ".py" and not Path(file).is_file():
            raise InputError(f"inspect: there is no file {file}")
        if self.gold_log is not None and not Path(self.gold_log).is_file():
            raise InputError(f"inspect: there is no log {self.gold_log}")
        if isinstance(self.roles, str):
            raise InputError(f"inspect: give roles as a list, such as roles=({self.roles!r},)")

    def ready(self, home: Home, setup: Setup) -> None:
        seen = self._seen(home)
        scorers = [one.name for one in seen.scorers]
        if not scorers:
            raise InputError(f"{self.task} has no scorer, so it would say nothing; give the task one")
        self._require_scorer(seen)
        if any(name in _GRADED for name in scorers) and (setup.simulator is None or setup.simulator.is_gold):
            raise InputError(
                f"{self.task} is graded by a model, and without another one the player would grade itself: give "
                "--simulator-endpoint and --simulator-model"
            )

    def tasks(self, home: Home) -> list[str]:
        seen = self._seen(home)
        needs = {name: fault for name, sample in seen.samples.items() if (fault := self._lack(sample.sandbox))}
        if needs:
            name, fault = next(iter(needs.items()))
            text = f"{len(needs)} of {len(seen.samples)} samples cannot be played here, such as {name}: {fault}"
            if len(needs) == len(seen.samples):
                raise InputError(text)
            warnings.warn(Notice(f"{text}; they are left out"), stacklevel=2)
        if any(self._is_sandboxed(seen.samples[name].sandbox) for name in seen.samples if name not in needs):
            require_container()
        return [name for name in seen.samples if name not in needs]

    def inputs(self, home: Home) -> Mapping[str, str]:
        seen = self._seen(home)
        return {"samples": seen.sha256, **{f"package {name}": version for name, version in seen.versions.items()}}

    def command(self, home: Home, batch: Batch) -> Command:
        seen, setup = self._seen(home), batch.setup
        options: dict[str, Any] = {"temperature": setup.temperature, "seed": batch.seed}
        options |= {"max_tokens": setup.max_tokens} if setup.max_tokens is not None else {}
        options |= {"message_limit": self.message_limit} if self.message_limit is not None else {}
        alone = [dataclasses.replace(batch, tasks=(task,)) for task in batch.tasks]
        asked: dict[str, Any] = {**self._named(), "samples": batch.tasks, "urls": [one.agent_url for one in alone]}
        asked |= {"model": setup.agent.model, "roles": {}, "options": options}
        asked["sandboxed"] = [self._is_sandboxed(seen.samples[task].sandbox) for task in batch.tasks]
        environment = {"PIVOTRL_API_KEY": setup.agent.key, "XDG_DATA_HOME": str(batch.folder / ".inspect")}
        if setup.simulator is not None and not setup.simulator.is_gold:
            other = {"model": setup.simulator.model, "url": setup.simulator.base_url}
            asked["roles"] = dict.fromkeys(self.roles, other)
            environment["PIVOTRL_ROLE_API_KEY"] = setup.simulator.key
        words = [str(home.python), str(_SCRIPT), json.dumps(asked)]
        return Command(words, environment | client_environment())

    def outcomes(self, batch: Batch) -> Iterator[Outcome]:
        for number, task in enumerate(batch.tasks):
            for path in sorted((batch.folder / str(number)).glob("*.eval")):
                if (found := outcome_of(path, task, self.scorer)) is not None:
                    yield found

    def gold(self, home: Home) -> Gold:
        seen = self._seen(home)
        if self.gold_log is None:
            return lambda asked: target_answer(asked, seen)
        return repeated(Path(self.gold_log))

    def _seen(self, home: Home) -> Seen:
        named = self._named()
        return look(home, named["task"], named["arguments"])

    def _named(self) -> dict[str, Any]:
        """The task as any process finds it."""
        file, at, name = self.task.partition("@")
        if Path(file).suffix == ".py":
            file = str(Path(file).resolve())
        return {"task": f"{file}{at}{name}", "arguments": dict(self.arguments or {})}

    def _is_sandboxed(self, sandbox: tuple[str, str] | None) -> bool:
        """Whether its commands run in pivotrl's sandbox."""
        return sandbox is not None and (self.backend == "sandbox" or sandbox[0] == _LOCAL)

    def _lack(self, sandbox: tuple[str, str] | None) -> str:
        """Why a sample cannot be played; empty if it can."""
        if sandbox is None or sandbox[0] == _LOCAL:
            return ""
        kind, config = sandbox
        if self.backend == "sandbox":
            if kind == _DOCKER and not config:
                return ""
            image = f"{kind} with {config}" if config else kind
            return f"it wants the sandbox {image}; give backend='own' where there is {kind}"
        if kind == _DOCKER and not _has_docker():
            return "it wants docker, and `docker info` fails here; install or start it"
        return ""

    def _require_scorer(self, seen: Seen) -> None:
        """Raises:
        InputError: the score that counts is not one of the task's, or it is not said which part of it counts.
        """
        first = seen.scorers[0]
        if self.scorer is None:
            if len(first.parts) > 1:
                names = " or ".join(f"scorer='{first.name}.{part}'" for part in first.parts)
                raise InputError(f"the score {first.name} of {self.task} has several parts: give {names}")
            return
        known = [one.name for one in seen.scorers]
        known += [f"{one.name}.{part}" for one in seen.scorers for part in one.parts]
        name = self.scorer.partition(".")[0]
        if self.scorer not in known and not any(one.name == name and not one.parts for one in seen.scorers):
            raise InputError(f"{self.task} has no score {self.scorer!r}; there are {', '.join(known)}")


@functools.cache
def _has_docker() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=30).returncode == 0  # noqa: S607
    except (OSError, subprocess.TimeoutExpired):
        return False
