"""One telecom task that is played: the published simulator behind our interface of environments."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from loguru import logger
from pydantic import ValidationError

logger.disable("tau2")  # before the import, which complains about a missing .env file

from tau2.data_model.message import ToolCall as Call  # noqa: E402
from tau2.data_model.tasks import RewardType, Task  # noqa: E402
from tau2.domains.telecom.data_model import TelecomDB  # noqa: E402
from tau2.domains.telecom.environment import TelecomEnvironment  # noqa: E402
from tau2.domains.telecom.tools import TelecomTools  # noqa: E402
from tau2.domains.telecom.user_data_model import TelecomUserDB  # noqa: E402
from tau2.domains.telecom.user_tools import TelecomUserTools  # noqa: E402
from tau2.domains.telecom.utils import (  # noqa: E402
    TELECOM_DATA_DIR,
    TELECOM_DB_PATH,
    TELECOM_MAIN_POLICY_SOLO_PATH,
    TELECOM_TASK_SET_PATH,
    TELECOM_TECH_SUPPORT_POLICY_MANUAL_SOLO_PATH,
    TELECOM_USER_DB_PATH,
)
from tau2.environment.tool import as_tool  # noqa: E402

from pivotrl.protocols import Observation  # noqa: E402
from pivotrl.records import Action, Message, Tool, ToolCall  # noqa: E402
from pivotrl.records.strict_json import call_arguments  # noqa: E402

SPLITS = TELECOM_DATA_DIR / "split_tasks.json"
MAIN_POLICY, MANUAL = TELECOM_MAIN_POLICY_SOLO_PATH, TELECOM_TECH_SUPPORT_POLICY_MANUAL_SOLO_PATH

DONE = Tool(
    name="done",
    description="Call this function when you are done with the task.",
    parameters={"type": "object", "properties": {}},
)
_VPN = TelecomUserTools.default_vpn_details.model_copy(deep=True)


class _Tools(TelecomTools):  # type: ignore[misc]
    """The carrier's tools. New bills are numbered; the package draws their ids at random."""

    def _apply_one_time_charge(self, customer_id: str, amount: float, description: str) -> None:
        known = {bill.bill_id for bill in self.db.bills}
        super()._apply_one_time_charge(customer_id, amount, description)
        for bill in self.db.bills:
            if bill.bill_id not in known:
                ids = self.get_customer_by_id(customer_id).bill_ids
                ids[ids.index(bill.bill_id)] = bill.bill_id = f"B{len(known) + 1:08d}"


_database = functools.cache(lambda: TelecomDB.load(TELECOM_DB_PATH))
_phone = functools.cache(lambda: TelecomUserDB.load(TELECOM_USER_DB_PATH))


def _new_world() -> TelecomEnvironment:
    user_tools = TelecomUserTools(_phone().model_copy(deep=True))
    user_tools.default_vpn_details = _VPN.model_copy(deep=True)  # a fault damages it, for all episodes in the package
    world = TelecomEnvironment("telecom", "", _Tools(_database().model_copy(deep=True)), user_tools)
    world.solo_mode = True
    return world


class _Answer(NamedTuple):
    text: str
    is_error: bool
    is_executed: bool = True


@functools.cache
def signatures() -> dict[str, Any]:
    """Name -> the package's own description of each tool: its parameters as a pydantic model, and its texts."""
    world = _new_world()
    return {name: as_tool(function) for kit in (world.tools, world.user_tools) for name, function in kit.tools.items()}


def kind_of_task(task_id: str) -> str:
    """``mobile_data_issue``, ``mms_issue`` or ``service_issue``."""
    return task_id.partition("]")[0].removeprefix("[")


def _is_empty(arguments: str) -> bool:
    try:
        return not call_arguments(arguments)
    except ValueError:
        return False


@functools.cache
def all_tasks() -> dict[str, Any]:
    """Task id -> the entry of the package's file, in its order."""
    return {task["id"]: task for task in json.loads(TELECOM_TASK_SET_PATH.read_text(encoding="utf-8"))}


def load_task(task_id: str) -> Task:
    """Raises:
    KeyError: there is no such task.
    """
    return Task.model_validate(all_tasks()[task_id])


class TelecomTask:
    """One task as an environment. The call ``done`` ends the episode; so does a message that is not calls alone,
    which fails it, as in the package.

    Args:
        task: an entry of the package's task file.
        prompt, tools: what the agent is shown; the other tools of the package work as well.
        max_turns: the episode fails after this number of messages.
        max_errors: ... or of calls that gave an error (the package's default is 10).
    """

    context_window: int | None = None

    def __init__(
        self, task: Task, prompt: Sequence[Message], tools: tuple[Tool, ...], max_turns: int, max_errors: int
    ) -> None:
        self.task_id: str = task.id
        self.tags = {"issue": kind_of_task(task.id), "faults": str(task.id.count("|") + 1)}
        self.tools = tools
        self._task, self._prompt, self._max_turns, self._max_errors = task, tuple(prompt), max_turns, max_errors

    def reset(self) -> tuple[Message, ...]:
        self._world, start = _new_world(), self._task.initial_state
        self._world.set_state(start.initialization_data, start.initialization_actions, start.message_history or [])
        self._calls: list[Call] = []
        self._num_turns = self._num_errors = 0
        return self._prompt

    def step(self, action: Action) -> Observation:
        self._num_turns += 1
        if any(call.name == DONE.name and _is_empty(call.arguments) for call in action.tool_calls):
            return Observation((), self._reward(), done=True, reason="agent_stop")
        if not action.tool_calls or (action.content or "").strip():
            return Observation((), 0.0, done=True, reason="agent_error", fault="not_executed")
        answers = [self._answer(call) for call in action.tool_calls]
        self._num_errors += sum(answer.is_error for answer in answers)
        messages = tuple(
            Message(role="tool", content=answer.text, tool_call_id=call.id)
            for call, answer in zip(action.tool_calls, answers, strict=True)
        )
        fault = "" if all(answer.is_executed for answer in answers) else "not_executed"
        if self._num_errors >= self._max_errors:
            return Observation(messages, 0.0, done=True, reason="too_many_errors", fault=fault)
        if self._num_turns >= self._max_turns:
            return Observation(messages, 0.0, done=True, reason="too_many_turns", fault=fault)
        return Observation(messages, fault=fault)

    def _answer(self, call: ToolCall) -> _Answer:
        if call.name == DONE.name:
            return _Answer("Error: done takes no arguments.", True, False)
        if call.name not in signatures():
            return _Answer(f"Error: Tool '{call.name}' not found.", True, False)
        parameters = signatures()[call.name].params
        try:
            arguments = call_arguments(call.arguments)
            if unknown := sorted(set(arguments) - set(parameters.model_fields)):
                return _Answer(f"Error: {call.name} has no parameter '{unknown[0]}'.", True, False)
            parameters.model_validate_json(json.dumps(arguments), strict=True)
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"]))
            return _Answer(f"Error: {call.name}: {place}: {error.errors()[0]['msg']}.", True, False)
        except ValueError as error:
            return _Answer(f"Error: {call.name}: the arguments cannot be read: {error}", True, False)
        made = Call(id=call.id or "", name=call.name, arguments=arguments)
        self._calls.append(made)
        found = self._world.get_response(made)
        return _Answer(str(found.content), bool(found.error))

    def _required_calls(self) -> list[bool]:
        """For tasks that also require the calls themselves: whether each was made."""
        criteria = self._task.evaluation_criteria
        required = criteria.actions if RewardType.ACTION in criteria.reward_basis else []
        return [any(one.compare_with_tool_call(call) for call in self._calls) for one in required]

    def _reward(self) -> float:
        """The package's test for a task that ended by ``done``: its assertions on the state, and required calls."""
        checks = self._task.evaluation_criteria.env_assertions or []
        met = [self._world.run_env_assertion(check, raise_assertion_error=False) for check in checks]
        return float(all(met) and all(self._required_calls()))

    def state(self) -> dict[str, Any]:
        """The carrier's database, the phone with its surroundings, and which required calls were made."""
        return {
            "carrier": self._world.tools.db.model_dump(mode="json"),
            "phone": self._world.user_tools.db.model_dump(mode="json"),
            "required_calls": self._required_calls(),
        }

    def controls(self) -> Iterator[tuple[TelecomTask, bool]]:
        return iter(())  # no call can answer with a text of the agent's own

    def close(self) -> None: ...
