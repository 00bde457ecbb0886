"""Logs of other programs, written before the readers were opened: read as they say, or refused (``expected.jsonl``).

``either``: read as it says, or refused, for no document names the format.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from pivotrl.protocols import InputError
from pivotrl.readers import auto
from pivotrl.reading.audit import audit
from pivotrl.records import Message, Trajectory

DATA = Path(__file__).parent / "data"
EXPECTED = [
    {**json.loads(line), "folder": folder}
    for folder in ("blind_logs", "blind_logs_4")
    for line in (DATA / folder / "expected.jsonl").read_text().splitlines()
]
REFUSED_OF_EITHER = {
    *("librechat_export.json", "llama_stack_session.json", "google_adk_session.json", "oasst_trees.jsonl"),
    "glaive_v2.json",
}


def path_of(row: dict[str, Any]) -> Path:
    return DATA / row["folder"] / row["file"]


def is_read(row: dict[str, Any]) -> bool:
    return row["expected"] == "read" or (row["expected"] == "either" and row["file"] not in REFUSED_OF_EITHER)


def said(message: Message) -> list[Any]:
    calls = [[call.name, json.loads(call.arguments)] for call in message.tool_calls]
    return [message.role, message.content, calls]


@pytest.mark.parametrize("row", list(filter(is_read, EXPECTED)), ids=lambda row: row["file"])
def test_the_conversation_is_read_message_for_message(row: dict[str, Any]) -> None:
    found = list(auto.read(path_of(row)))
    trajectories = [audit(item) for item in found if isinstance(item, Trajectory)]
    assert len(trajectories) == len(found) == row["trajectories"]
    messages = list(map(said, trajectories[0].messages))
    assert [message[0] for message in messages] == [wanted[0] for wanted in row["messages"]]
    for (role, content, calls), wanted in zip(messages, row["messages"], strict=True):
        if role == "assistant":
            assert content == wanted[1] or (wanted[1] is None and not content)
            wanted_calls = wanted[2] if len(wanted) > 2 else []
            assert [name for name, _ in calls] == [name for name, _ in wanted_calls]
            assert all(w is None or given == w for (_, given), (_, w) in zip(calls, wanted_calls, strict=True))
        else:
            assert wanted[1] in content
    assert not trajectories[0].tools or trajectories[0].tools[0].name == "get_weather"


@pytest.mark.parametrize("row", [row for row in EXPECTED if not is_read(row)], ids=lambda row: row["file"])
def test_what_cannot_be_read_is_refused(row: dict[str, Any]) -> None:
    try:
        found = list(auto.read(path_of(row)))
    except InputError as error:
        assert "is in an unknown format" in str(error) or " and cannot be read: " in str(error)
    else:
        assert found and not any(isinstance(item, Trajectory) for item in found)


def test_calls_that_use_one_another_are_linked() -> None:
    for row in EXPECTED:
        if not is_read(row):
            continue
        for item in auto.read(path_of(row)):
            assert isinstance(item, Trajectory)
            known = {call.id for message in item.messages for call in message.tool_calls}
            results = [message.tool_call_id for message in item.messages if message.role == "tool"]
            assert set(results) <= known or not known, row["file"]  # an action as text has no id
