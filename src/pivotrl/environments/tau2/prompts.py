"""What the agent is shown: the published policy and tools, whole or without what its kind of task never needs."""

from __future__ import annotations

import functools
import re
from typing import Any, Literal

from pivotrl.environments.tau2.world import DONE, MAIN_POLICY, MANUAL, signatures
from pivotrl.reading.formats.tau2_surroundings import solo_policy
from pivotrl.records import Message, Tool

Policy = Literal["full", "short"]

_SUBJECTS = ("Cellular Service", "Mobile Data", "MMS")
ISSUES = {"service_issue": 1, "mobile_data_issue": 2, "mms_issue": 3}
"""Kind of a task -> how many of the manual's subjects it takes; each builds on those before."""
_ACCOUNT = {
    "service_issue": ("Customer Lookup", "Overdue Bill Payment", "Line Suspension", "Technical Support"),
    "mobile_data_issue": ("Customer Lookup", "Data Refueling", "Data Roaming", "Technical Support"),
    "mms_issue": ("Customer Lookup", "Data Refueling", "Data Roaming", "Technical Support"),
}
"""Kind of a task -> sections of the agent's policy that the short prompt keeps."""
_ACCOUNT_TOOLS = {
    "service_issue": ("get_bills_for_customer", "send_payment_request", "make_payment", "resume_line", "reboot_device"),
    "mobile_data_issue": ("get_data_usage", "refuel_data", "enable_roaming"),
    "mms_issue": ("get_data_usage", "refuel_data", "enable_roaming"),
}
_ALWAYS = ("get_customer_by_phone", "get_details_by_id", "transfer_to_human_agents")


@functools.cache
def shown(kind: str, policy: Policy) -> tuple[Message, tuple[Tool, ...]]:
    """The system message and the tools for a kind of task.

    ``full`` is what the package shows. ``short`` leaves out what a task of this kind never needs: other sections of
    the policy and manual, the tools that the rest does not name, and all but the first line about each tool.
    """
    main = MAIN_POLICY.read_text(encoding="utf-8")
    manual = MANUAL.read_text(encoding="utf-8")
    names = list(signatures())
    if policy == "short":
        head, *sections = re.split(r"(?m)^(?=## )", main)
        main = head + "".join(part for part in sections if part[3:].partition("\n")[0].strip() in _ACCOUNT[kind])
        manual = "".join(_repairs(manual, subject) for subject in _SUBJECTS[: ISSUES[kind]])
        needed = {*_ALWAYS, *_ACCOUNT_TOOLS[kind], *re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", main + manual)}
        names = [name for name in names if name in needed]
    text = f"<main_policy>\n{main}\n</main_policy>\n<tech_support_policy>\n{manual}\n</tech_support_policy>"
    tools = tuple(_tool(name, brief=policy == "short") for name in names)
    return Message(role="system", content=solo_policy(text)), (*tools, DONE)


def _repairs(manual: str, subject: str) -> str:
    """How the manual diagnoses and repairs one subject, without its introduction."""
    chapter = next(part for part in re.split(r"(?m)^(?=# )", manual) if subject in part.partition("\n")[0])
    title, *sections = re.split(r"(?m)^(?=## )", chapter)
    kept = [part for part in sections if re.match(r"## (Diagnosing|Troubleshooting)", part)]
    return title.partition("\n")[0] + "\n" + "".join(kept)


def _tool(name: str, brief: bool) -> Tool:
    function = signatures()[name].openai_schema["function"]
    description, parameters = function["description"], function["parameters"]
    if brief:
        description = re.split(r"(?<=[.!?])\s", description, maxsplit=1)[0]
        parameters = _without_titles(parameters)
    return Tool(name=name, description=description, parameters=parameters)


def _without_titles(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    left_out = {"title", "description"}
    return {
        key: _without_titles(value) for key, value in schema.items() if not (key in left_out and isinstance(value, str))
    }
