"""What `pivotrl bench` asks of a benchmark's harness.

A harness is a published program, such as tau2-bench, that lets an agent behind an OpenAI-compatible endpoint play tasks
and grades it. A plugin of the kind ``harnesses`` says how the program is installed, what it is started with, and what
its files mean. `pivotrl bench` does the rest: it installs the program into an environment of its own, starts the
policy's endpoint, runs processes side by side, kills one that takes too long, resumes, counts and compares.

To write one, put a module with a dataclass ``Harness`` (``kw_only=True``; its fields are the options) into
``pivotrl.harnesses``::

    @dataclass(frozen=True, kw_only=True)
    class Harness:
        '''One sentence for `pivotrl list`.'''

        split: str = "test"
        package: ClassVar[str] = "some-bench"
        version: ClassVar[str] = "1.2.3"
        requirements: ClassVar[Sequence[Sequence[str]]] = (("some-bench==1.2.3",),)
        max_batch: ClassVar[int] = 1
        reader: ClassVar[str] = "auto"
        logs: ClassVar[str] = "result.json"

        def check(self, setup: Setup) -> None:
            if shutil.which("docker") is None:
                raise InputError("some-bench needs docker; install it")

        def tasks(self, home: Home) -> list[str]:
            return sorted(json.loads((home.site / "some_bench" / "tasks.json").read_bytes()))

        def command(self, home: Home, batch: Batch) -> Command:
            setup = batch.setup
            words = [str(home.python), "-m", "some_bench", "--task", batch.tasks[0], "--seed", str(batch.seed)]
            words += ["--model", f"openai/{setup.agent.model}", "--url", batch.agent_url]
            return Command(words, {"OPENAI_API_KEY": setup.agent.key})

        def outcomes(self, batch: Batch) -> Iterator[Outcome]:
            if result := json_of(batch.folder / "result.json"):
                yield Outcome(batch.tasks[0], float(result["resolved"]), result["status"])

        def gold(self, home: Home) -> Gold:
            return lambda asked: {"content": answers[asked.task]}

It may have more:

- ``least_python: ClassVar[tuple[int, int]] = (3, 12)``, where the program needs a newer Python than ours;
- ``ready(home, setup)``, which raises InputError as ``check`` does, for what only the installed program knows;
- ``inputs(home)``, a mapping of names to checksums of a user's files that make the tasks: with others, results
  are not continued.

A process runs in ``batch.folder`` and plays the batch's tasks in their order, one after the other. Its output goes to
``log.txt`` there. What the program lets a model write and then executes must run in a sandbox; ``check`` refuses
otherwise. Scripts that the program's own interpreter runs lie beside the module and import nothing of pivotrl.
``tests/test_harnesses.py`` tests every module of this kind.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote

LOG = "log.txt"
"""In the folder of a batch: what the process printed."""
PLAN = "batch.json"
"""There too: the tasks and the trial."""


@dataclass(frozen=True)
class Home:
    """The environment that the program is installed in."""

    python: Path
    site: Path
    """Its folder of packages."""
    version: str
    """Of the program's package."""


@dataclass(frozen=True)
class Player:
    """An OpenAI-compatible endpoint and the model to ask there."""

    base_url: str
    """Up to and with ``/v1``."""
    model: str
    key: str = field(default="none", repr=False)
    is_gold: bool = False
    """Whether it is the scripted player that gives the gold answers."""
    can_force_calls: bool = True
    """Whether it takes ``tool_choice="required"``, as many servers do; our own endpoint does not."""


@dataclass(frozen=True)
class Setup:
    """Who plays, and how."""

    agent: Player
    simulator: Player | None = None
    """Who plays the user, where the benchmark has one."""
    temperature: float = 0.0
    """Of the agent."""
    max_tokens: int | None = None
    """Of one answer of the agent; None: the endpoint's own limit."""


@dataclass(frozen=True)
class Batch:
    """What one process plays."""

    tasks: tuple[str, ...]
    """In the order in which they must be played; at most ``max_batch``."""
    trial: int
    """From 0."""
    seed: int
    """The same for all tasks of a trial."""
    folder: Path
    """Absolute. The process runs in it."""
    setup: Setup

    @property
    def agent_url(self) -> str:
        """The agent's base URL. The gold player learns the task from it, if the batch has only one."""
        return self._url(self.setup.agent, "agent")

    @property
    def simulator_url(self) -> str:
        """The simulated user's base URL.

        Raises:
            AssertionError: nobody plays the user.
        """
        assert self.setup.simulator is not None
        return self._url(self.setup.simulator, "user")

    def _url(self, player: Player, role: str) -> str:
        if not player.is_gold or len(self.tasks) > 1:
            return player.base_url
        return f"{player.base_url.removesuffix('/v1')}/{role}/{quote(self.tasks[0], safe='')}/v1"


@dataclass(frozen=True)
class Command:
    """How a process is started."""

    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to that of pivotrl, which holds no PYTHONPATH. Keys belong here: words can be seen by all users."""


@dataclass(frozen=True)
class Outcome:
    """What the program says of one task of a batch.

    A task that it could not judge (it crashed, the endpoint was gone, the simulated user failed) has no reward, and the
    reason says why. A program that counts such a task as 0 is corrected here.
    """

    task: str
    reward: float | None
    """In [0, 1]."""
    reason: str
    """A short stable code, such as ``solved``, ``wrong_state``, ``too_many_errors``."""
    num_turns: int | None = None
    """Messages of the agent; None where it is not told, as for the numbers below."""
    num_prompt_tokens: int | None = None
    num_tokens: int | None = None
    """Sampled by the agent."""
    seconds: float | None = None


@dataclass(frozen=True)
class Asked:
    """A request to the gold player."""

    task: str
    role: Literal["agent", "user"]
    messages: Sequence[Mapping[str, Any]]
    """As in the API."""
    tools: Sequence[Mapping[str, Any]] = ()

    @property
    def num_answers(self) -> int:
        """How many messages this role has sent in this conversation."""
        return sum(message.get("role") == "assistant" for message in self.messages)


Gold = Callable[[Asked], Mapping[str, Any]]
"""A request -> the message that answers it: ``content``, ``tool_calls`` (each ``{"name": ..., "arguments": {...}}``),
or both. In a batch of several tasks the program must send the task's id as the field ``user`` of each request.

Raises:
    InputError: there is no gold answer.
"""


class Harness(Protocol):
    """See the module's docstring."""

    @property
    def package(self) -> str:
        """The distribution whose version must be :attr:`version`."""
        ...

    @property
    def version(self) -> str: ...

    @property
    def requirements(self) -> Sequence[Sequence[str]]:
        """Arguments of `pip install`, one call after the other; every version is pinned."""
        ...

    @property
    def max_batch(self) -> int:
        """How many tasks one process may play. 1 where tasks could disturb each other; more where starting the program
        takes longer than a task."""
        ...

    @property
    def reader(self) -> str:
        """The reader of its logs, for `pivotrl read RUN/bench/NAME/PLAYER`."""
        ...

    @property
    def logs(self) -> str:
        """Which files of a batch are its logs: a pattern as in :meth:`pathlib.Path.glob`."""
        ...

    def check(self, setup: Setup) -> None:
        """Raises:
        InputError: something that it needs is missing, such as docker or a simulated user.
        """
        ...

    def tasks(self, home: Home) -> Sequence[str]:
        """The ids of all tasks that the options choose, in the benchmark's order."""
        ...

    def command(self, home: Home, batch: Batch) -> Command: ...

    def outcomes(self, batch: Batch) -> Iterable[Outcome]:
        """The tasks that the files of a batch give a whole result for. It is called while the process writes them, and
        after a kill: a half result is none."""
        ...

    def gold(self, home: Home) -> Gold:
        """Raises:
        InputError: these tasks have no gold answer that a script could play.
        """
        ...


def json_of(path: Path) -> Any:
    """The content of a JSON file; None if it does not exist or is not whole yet."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
