"""The `tau2` command with one change: its results keep the tools that the agent saw, which the command leaves out.

Run by the interpreter of the harness.
"""

import tau2.run
from tau2.cli import main

_told = tau2.run.get_environment_info


def _with_tools(domain_name, include_tool_info=False):  # type: ignore[no-untyped-def]
    """The original with the option that its only caller does not give."""
    return _told(domain_name, include_tool_info=True)


if __name__ == "__main__":
    tau2.run.get_environment_info = _with_tools
    main()
