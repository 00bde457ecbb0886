"""Expert trajectories of tau2 telecom in solo mode: the published ground-truth calls, really made, then ``done``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.environments.tau2 import make_environments
from pivotrl.environments.tau2.world import load_task
from pivotrl.options import AtLeast1
from pivotrl.records import Action, Message, Refusal, ToolCall, Trajectory

Call = tuple[str, dict[str, Any]]

_LOOKS: dict[str, tuple[str, ...]] = {
    "toggle_airplane_mode": ("check_status_bar",),
    "reseat_sim_card": ("check_sim_status",),
    "transfer_to_human_agents": ("check_sim_status",),
    "reset_apn_settings": ("check_apn_settings",),
    "toggle_data": ("check_network_status",),
    "toggle_roaming": ("check_network_status",),
    "enable_roaming": ("get_details_by_id",),
    "refuel_data": ("get_data_usage",),
    "toggle_data_saver_mode": ("check_data_restriction_status",),
    "disconnect_vpn": ("check_vpn_status",),
    "set_network_mode_preference": ("check_network_mode_preference",),
    "toggle_wifi_calling": ("check_wifi_calling_status",),
    "grant_app_permission": ("check_app_permissions",),
    "send_payment_request": ("get_bills_for_customer",),
    "make_payment": ("check_payment_request",),
    "resume_line": ("get_details_by_id",),
}
"""Repair -> the call that shows that it is needed, by the manual."""


def expert_calls(task_id: str, looks: bool) -> list[Call]:
    """The ground truth of a task and ``done``; with ``looks``, each repair comes after the look that calls for it.

    Looks begin with the customer, and none is repeated.
    """
    calls: list[Call] = []
    customer = {"phone_number": _phone_number(task_id)}
    if looks:
        calls.append(("get_customer_by_phone", customer))
    for repair in load_task(task_id).evaluation_criteria.actions:
        for look in _LOOKS.get(repair.name, ()) if looks else ():
            call = look, _arguments(look, repair.arguments)
            if call not in calls:
                calls.append(call)
        calls.append((repair.name, repair.arguments))
    return [*calls, ("done", {})]


def _phone_number(task_id: str) -> str:
    started = load_task(task_id).initial_state.initialization_actions
    return next(str(action.arguments["phone_number"]) for action in started if action.func_name == "set_user_info")


def _arguments(look: str, repair: dict[str, Any]) -> dict[str, Any]:
    """The look's arguments, all of which are among those of the repair."""
    if look == "get_details_by_id":
        return {"id": repair["line_id"]}
    taken = {"get_data_usage": ("customer_id", "line_id"), "check_app_permissions": ("app_name",)}
    names = taken.get(look, ("customer_id",) if look == "get_bills_for_customer" else ())
    return {name: repair[name] for name in names}


def read(
    path: Path,
    *,
    kinds: Sequence[str] = ("service_issue", "mobile_data_issue", "mms_issue"),
    tasks: Sequence[str] = (),
    first: AtLeast1 | None = None,
    policy: str = "full",
    looks: bool = True,
) -> Iterator[Trajectory | Refusal]:
    """Play the ground truth of a split (its name: ``train``, ``test``, ``full_train``, ...); one trajectory per task.

    A task that its ground truth does not solve is refused.

    Args:
        kinds, tasks, first, policy: as for the environment.
        looks: before each repair the expert makes the call that shows the need for it, as the manual asks. The ground
            truth itself repairs without looking: it knows what the agent cannot know, as all tickets of a kind agree.
    """
    environments = make_environments(
        split=str(path),  # type: ignore[arg-type]  # checked there
        kinds=kinds,
        tasks=tasks,
        first=first,
        policy=policy,  # type: ignore[arg-type]
        max_turns=100,
    )
    for name in environments.tasks():
        environment = environments.make(name)
        messages, fault = list(environment.reset()), ""
        for number, (tool, arguments) in enumerate(expert_calls(name, looks)):
            call = ToolCall(name=tool, arguments=json.dumps(arguments), id=f"call_{number}")
            messages.append(Message(role="assistant", tool_calls=(call,)))
            observation = environment.step(Action(tool_calls=(call,)))
            messages += observation.messages
            fault = fault or observation.fault
        if fault or observation.reward != 1.0:
            yield Refusal(place=name, reason=fault or f"the ground truth ends with {observation.reason}")
            continue
        yield Trajectory(
            id=f"tau2-{name}",
            task_id=name,
            messages=tuple(messages),
            tools=environment.tools,
            reward=1.0,
            metadata={"domain": "tau2_telecom", **environment.tags, "policy": policy, "looks": looks},
        )
