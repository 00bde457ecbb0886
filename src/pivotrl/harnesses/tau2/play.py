"""The `tau2` command with two changes, run by the interpreter of the harness.

- Its results hold the policy and the tools as the agent saw them. The command leaves the tools out, and for an agent
  that plays alone it notes the policy for agents that talk.
- PIVOTRL_TOOL_CHOICE=auto asks an endpoint that cannot force calls; the command asks with ``required`` in solo mode.
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


def _unforced(*arguments, **options):
    return _generate(*arguments, **{**options, "tool_choice": "auto"})


def done() -> str:
    """Call this function when you are done with the task."""
    return ""


if __name__ == "__main__":
    tau2.run.get_environment_info = _info
    if os.environ.get("PIVOTRL_TOOL_CHOICE") == "auto":
        tau2.agent.llm_agent.generate = _unforced
    main()
