"""The `tau2` command with two changes, run by the interpreter of the harness.

- Its results hold the policy and the tools as the agent saw them. The command leaves the tools out, and for an agent
  that plays alone it notes the policy for agents that talk.
- PIVOTRL_TOOL_CHOICE=auto asks an endpoint that cannot force calls; the command asks with ``required`` in solo mode.
  Words instead of a call then end the episode as an error of the agent, where the command would crash.
"""

import os
import sys

import tau2.agent.llm_agent
import tau2.run
from tau2.cli import main
from tau2.environment.tool import as_tool
from tau2.environment.toolkit import ToolSignature


def _info(domain_name, include_tool_info=False):
    is_solo = "llm_agent_solo" in sys.argv
    environment = tau2.run.registry.get_env_constructor(domain_name)(**({"solo_mode": True} if is_solo else {}))
    tools = environment.get_tools()
    if is_solo:
        tools += [*(environment.get_user_tools() if environment.user_tools else []), as_tool(done)]
    info = environment.get_info()
    info.tool_defs = {}
    for tool in tools:
        shown = tool.openai_schema["function"]
        info.tool_defs[tool.name] = ToolSignature(
            name=tool.name, doc=shown["description"], params=shown["parameters"], returns={}
        )
    return info


_generate = tau2.agent.llm_agent.generate


_act = tau2.agent.llm_agent.LLMSoloAgent.generate_next_message


class _Spoke(Exception):
    def __init__(self, message):
        self.message = message


def _unforced(*arguments, **options):
    message = _generate(*arguments, **{**options, "tool_choice": "auto"})
    if not message.is_tool_call():
        message.content = message.content or "(nothing)"  # an empty message would be refused
        raise _Spoke(message)
    return message


def _may_speak(agent, message, state):
    try:
        return _act(agent, message, state)
    except _Spoke as spoke:
        state.messages.append(spoke.message)
        return spoke.message, state


def done() -> str:
    """Call this function when you are done with the task."""
    return ""


if __name__ == "__main__":
    tau2.run.get_environment_info = _info
    if os.environ.get("PIVOTRL_TOOL_CHOICE") == "auto":  # set in solo mode alone
        tau2.agent.llm_agent.generate = _unforced
        tau2.agent.llm_agent.LLMSoloAgent.generate_next_message = _may_speak
    main()
