"""The `tau2` command with one change: its results hold the policy and the tools as the agent saw them.

The command leaves the tools out, and for an agent that plays alone it notes the policy for agents that talk.

Run by the interpreter of the harness.
"""

import sys

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


def done() -> str:
    """Call this function when you are done with the task."""
    return ""


if __name__ == "__main__":
    tau2.run.get_environment_info = _info
    main()
