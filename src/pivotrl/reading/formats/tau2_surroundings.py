"""What results of tau2-bench say about an episode outside of it: policy, tools, tasks, agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pivotrl.reading.chat_messages import declared_tools
from pivotrl.reading.fields import identifier, optional
from pivotrl.reading.formats.response_items import request_conversation
from pivotrl.records import Tool

_SOLO_INSTRUCTIONS = """<instructions>
You are a customer service agent that helps the user according to the <policy> provided below.
You will be provided with a ticket that contains the user's request.
You will need to plan and call the appropriate tools to solve the ticket.

You cannot communicate with the user, only make tool calls.
Stop when you consider that you have solved the ticket.
To do so, send a message containing a single tool call to the `done` tool. Do not include any other tool calls in this \
last message.

Always follow the policy. Always make sure you generate valid JSON only.
</instructions>"""
"""The package's text, copied because its module imports clients of language models (MIT, Sierra Research)."""


def solo_policy(policy: str) -> str:
    """The system message of an agent that plays alone, up to the ticket."""
    return f"{_SOLO_INSTRUCTIONS}\n<policy>\n{policy}\n</policy>"


def ticket_words(ticket: str) -> str:
    return f"<ticket>\n{ticket}\n</ticket>"


@dataclass(frozen=True)
class Surroundings:
    """What the file says about an episode outside of it."""

    domain: str | None = None
    system: str | None = None
    """The whole system message, when the request is logged."""
    policy: str | None = None
    tools: tuple[Tool, ...] = ()
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    agent: Any = None
    is_solo: bool = False
    """Whether the agent played alone, from a ticket, and the log holds the policy and the tools that it saw."""

    def solo_system(self, task: str) -> str | None:
        """The whole system message of an agent that played alone."""
        ticket = self.tasks.get(task, {}).get("ticket")
        if not self.is_solo or not isinstance(ticket, str) or self.policy is None:
            return None
        return f"{solo_policy(self.policy)}\n{ticket_words(ticket)}"

    def num_given(self, task: str) -> int:
        """How many messages an episode of the task began with."""
        state = self.tasks.get(task, {}).get("initial_state")
        history = state.get("message_history") if isinstance(state, dict) else None
        return len(history) if isinstance(history, list) else 0


def is_results(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("simulations"), list):
        return False
    info = value.get("info")
    return isinstance(info, dict) and isinstance(info.get("environment_info"), dict)


def simulation_of(value: Any) -> dict[str, Any] | None:
    """The simulation: the value itself, or ``result`` of a rollout."""
    for simulation in (value, value.get("result")) if isinstance(value, dict) else ():
        if isinstance(simulation, dict) and "termination_reason" in simulation and "task_id" in simulation:
            return simulation
    return None


def surroundings_of_results(results: dict[str, Any]) -> Surroundings:
    info = results["info"]
    environment = info["environment_info"]
    tools = environment.get("tool_defs") or {}
    agent = info.get("agent_info")
    return Surroundings(
        domain=identifier(environment, "domain_name"),
        policy=optional(environment, "policy", str),
        tools=tuple(_tool(name, tool) for name, tool in tools.items()) if isinstance(tools, dict) else (),
        tasks={str(task.get("id")): task for task in optional(results, "tasks", list) or () if isinstance(task, dict)},
        agent=agent.get("llm") if isinstance(agent, dict) else None,
        is_solo=isinstance(agent, dict) and agent.get("implementation") == "llm_agent_solo" and "done" in tools,
    )


def surroundings_of_rollout(row: dict[str, Any]) -> Surroundings:
    parameters = optional(row, "responses_create_params", dict) or {}
    asked = request_conversation(parameters).messages if parameters.get("input") else ()
    task = optional(row, "task", dict) or {}
    return Surroundings(
        domain=identifier(optional(row, "config", dict) or {}, "domain"),
        system=asked[0].content if asked and asked[0].role == "system" else None,
        tools=declared_tools(parameters.get("tools")),
        tasks={str(task.get("id")): task},
        agent=parameters.get("model") or None,
    )


def _tool(name: str, signature: Any) -> Tool:
    row = signature if isinstance(signature, dict) else {}
    parameters = row.get("params")
    return Tool(
        name=name,
        description=str(row.get("doc") or ""),
        parameters=parameters if isinstance(parameters, dict) else {},
    )
