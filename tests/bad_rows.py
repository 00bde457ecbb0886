"""Records that cannot be read, by format: (name, the record or the bytes of its line, what must be said about it).

Each stands between two good records of its file, which must be read all the same.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

from pivotrl.reading.sources import head

FORMATS = Path(__file__).parent / "data" / "formats"
DELETED = object()
ATIF, HARBOR = "atif/delegating.json", "harbor_export/last.jsonl"
SWE, MINI = "swe_agent/hello__xml.traj", "mini_swe_agent/text.traj.json"

USER = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "hi"}
PIVOT = {
    "responses_create_params": {"input": "go"},
    "expected_action": {"type": "function_call", "name": "f", "arguments": '{"a": 1}'},
}


@cache
def sample(place: str, number: int = 0) -> Any:
    """A value of a file of real logs."""
    return head(FORMATS / place)[number]


def changed(place: str, *way: Any, number: int = 0) -> Any:
    """A real record with one part replaced: the last of ``way`` is the new value, the others lead to the part."""
    whole = copy.deepcopy(sample(place, number))
    *keys, last, value = way
    part = whole
    for key in keys:
        part = part[key]
    if value is DELETED:
        del part[last]
    else:
        part[last] = value
    return whole


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def calling(call: Any) -> dict[str, Any]:
    return {**ANSWER, "tool_calls": [call]}


def events() -> list[dict[str, Any]]:
    return [sample("openhands_events/native.json", number) for number in range(8)]


def sdk_events() -> list[dict[str, Any]]:
    return [head(file)[0] for file in sorted((FORMATS / "openhands_sdk" / "conversation" / "events").iterdir())[:8]]


def history(rows: list[Any], number: int, **new: Any) -> dict[str, Any]:
    return {"history": [{**row, **new} if index == number else row for index, row in enumerate(rows)]}


GOOD: dict[str, Any] = {
    "chat": lambda: chat(USER, ANSWER),
    "tau_bench": lambda: {"task_id": 0, "reward": 1.0, "traj": [USER, ANSWER]},
    "nemo_gym": lambda: PIVOT,
    "sharegpt": lambda: {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]},
    "responses": lambda: sample("responses/search.jsonl"),
    "atif": lambda: sample(ATIF),
    "terminus": lambda: sample("terminus/hello-file__parsed/agent/trajectory.json"),
    "swe_agent": lambda: sample(SWE),
    "mini_swe_agent": lambda: sample(MINI),
    "harbor_export": lambda: sample(HARBOR),
    "tau2_bench": lambda: sample("tau2_bench/nemo_gym_rollouts.jsonl"),
    "openhands_events": lambda: {"instance_id": "i", "history": events()},
    "openhands_sdk": lambda: {"instance_id": "i", "history": sdk_events()},
}
"""A record that is read, by format."""

LINES: list[tuple[str, bytes, str]] = [
    ("not_json", b"hello", "is not JSON: Expecting value (column 1)"),
    ("cut_off", b'{"messages": [{"role": "us', "is not JSON: Unterminated string"),
    ("single_quotes", b"{'messages': []}", "is not JSON: Expecting property name"),
    ("trailing_comma", b'{"messages": [],}', "is not JSON"),
    ("comment", b'{"messages": []} // done', "is not JSON: Extra data (column 18)"),
    ("two_values", b'{"messages": []}{"messages": []}', "is not JSON: Extra data (column 17)"),
    ("nan", b'{"messages": [], "reward": NaN}', "is not JSON: NaN is not JSON"),
    ("infinity", b'{"messages": [], "reward": -Infinity}', "is not JSON: -Infinity is not JSON"),
    ("float_too_large", b'{"messages": [], "reward": 1e999}', "the number 1e999 is too large"),
    ("integer_too_large", b'{"id": ' + b"9" * 400 + b"}", "a number of 400 digits is too large"),
    ("integer_beyond_python", b'{"id": ' + b"9" * 5000 + b"}", "a number of 5000 digits is too large"),
    ("duplicate_key", b'{"messages": [], "messages": []}', "the key 'messages' occurs twice"),
    ("duplicate_key_inside", b'{"messages": [{"role": "user", "role": "user"}]}', "the key 'role' occurs twice"),
    ("duplicate_key_escaped", b'{"id": 1, "i\\u0064": 2}', "the key 'id' occurs twice"),
    ("lone_surrogate", b'{"messages": [], "note": "\\ud83d"}', "half of a surrogate pair"),
    ("lone_surrogate_in_a_key", b'{"messages": [], "\\udc00": 1}', "half of a surrogate pair"),
    ("surrogate_bytes", b'{"note": "\xed\xa0\xbd"}', "is not UTF-8 text (byte 11 of the line)"),
    ("latin_1", 'Stra\xdfe {"a": 1}'.encode("latin-1"), "is not UTF-8 text (byte 5 of the line)"),
    ("overlong_utf8", b'{"note": "\xc0\xaf"}', "is not UTF-8 text (byte 11 of the line)"),
    ("nul_bytes", b"\0" * 40, "is not JSON"),
    ("nul_inside_text", b'{"note": "a\0b"}', "is not JSON: Invalid control character"),
    ("bom_in_the_middle", b"\xef\xbb\xbf{}", "is not JSON"),
    ("utf16_line", '{"messages": []}'.encode("utf-16"), "is not UTF-8 text (byte 1 of the line)"),
    ("deep_arrays", b"[" * 100_000, "nested deeper than 100 levels"),
    ("deep_objects", b'{"a":' * 101 + b"1" + b"}" * 101, "nested deeper than 100 levels"),
    ("top_level_text", b'"messages"', "expected an object, not string"),
    ("top_level_number", b"17", "expected an object, not number"),
    ("top_level_null", b"null", "expected an object, not null"),
    ("top_level_array", b"[]", "there is no assistant message"),
]
"""Lines of a chat log."""

ROWS: list[tuple[str, str, Any, str]] = [
    ("chat", "empty_object", {}, "messages is missing"),
    ("chat", "only_an_id", {"id": "x"}, "messages is missing"),
    ("chat", "messages_number", {"messages": 5}, "messages is number, not array"),
    ("chat", "messages_object", {"messages": {"0": USER}}, "messages is object, not array"),
    ("chat", "messages_text", {"messages": "hello"}, "messages is text that is not JSON: neither"),
    ("chat", "messages_null", {"messages": None}, "messages is missing"),
    ("chat", "messages_empty", chat(), "there is no assistant message"),
    ("chat", "user_only", chat(USER), "there is no assistant message"),
    ("chat", "system_only", chat({"role": "system", "content": "be kind"}), "there is no assistant message"),
    ("chat", "prompt_without_completion", {"prompt": [USER]}, "there is no prompt with its completion"),
    ("chat", "completion_empty", {"prompt": [USER], "completion": []}, "there is no assistant message"),
    ("chat", "message_text", chat(USER, "hi"), "messages[1]: expected an object, not string"),
    ("chat", "message_null", chat(USER, None, ANSWER), "messages[1]: expected an object, not null"),
    ("chat", "role_missing", chat(USER, {"content": "hi"}), "messages[1]: role is missing"),
    ("chat", "role_number", chat(USER, {**ANSWER, "role": 1}), "messages[1]: role is number, not string"),
    ("chat", "role_unknown", chat({"role": "robot"}, ANSWER), "messages[0]: unknown role 'robot'; there are system,"),
    ("chat", "content_object", chat({**USER, "content": {"a": 1}}, ANSWER), "messages[0]: content is object, not text"),
    ("chat", "content_number", chat(USER, {**ANSWER, "content": 5}), "messages[1]: content is number, not text"),
    ("chat", "part_text", chat({**USER, "content": ["hi"]}, ANSWER), "content part of type 'string'"),
    ("chat", "part_empty", chat({**USER, "content": [{"type": "text"}]}, ANSWER), "messages[0]: text is missing"),
    ("chat", "part_unknown", chat({**USER, "content": [{"type": "hologram"}]}, ANSWER), "of type 'hologram'"),
    ("chat", "user_calls", chat({**USER, "tool_calls": [{"name": "f"}]}, ANSWER), "a user message with tool calls"),
    ("chat", "call_without_name", chat(USER, calling({})), "messages[1]: tool_calls[0]: name is missing"),
    ("chat", "call_of_unknown_type", chat(USER, calling({"type": "custom"})), "tool call of type 'custom'"),
    ("chat", "calls_object", chat(USER, {**ANSWER, "tool_calls": {"f": 1}}), "tool_calls is object, not array"),
    ("chat", "call_id_number", chat(USER, calling({"name": "f", "id": 5})), "tool_calls[0]: id is number, not string"),
    ("chat", "result_id_array", chat(USER, ANSWER, {"role": "tool", "tool_call_id": []}), "tool_call_id is array"),
    ("chat", "thought_number", chat(USER, {**ANSWER, "reasoning": 5}), "reasoning is number, not text"),
    ("chat", "tool_without_name", chat(USER, ANSWER, tools=[{"type": "web_search"}]), "tools[0]: name is missing"),
    ("chat", "tools_text", chat(USER, ANSWER, tools="f, g"), "tools is text that is not JSON"),
    ("chat", "parameters_array", chat(USER, ANSWER, tools=[{"name": "f", "parameters": [1]}]), "parameters is array"),
    ("chat", "reward_text", chat(USER, ANSWER, reward="good"), "reward: Input should be a valid number"),
    ("chat", "id_array", chat(USER, ANSWER, id=["a"]), "id is array, not a name"),
    ("chat", "task_object", chat(USER, ANSWER, task_id={"a": 1}), "task_id is object, not a name"),
    (
        "tau_bench",
        "crashed_episode",
        {"task_id": 0, "traj": [], "info": {"error": "boom"}},
        "an error of the benchmark",
    ),
    ("tau_bench", "nothing_said", {"task_id": 0, "traj": [], "info": {}}, "there is no assistant message"),
    ("tau_bench", "traj_missing", {"task_id": 0}, "traj is missing"),
    ("tau_bench", "traj_text", {"task_id": 0, "traj": "..."}, "traj is string, not array"),
    ("tau_bench", "task_missing", {"traj": [USER, ANSWER]}, "task_id is missing"),
    ("tau_bench", "reward_array", {"task_id": 0, "reward": [1], "traj": [USER, ANSWER]}, "reward: Input should be"),
    (
        "nemo_gym",
        "request_missing",
        {"expected_action": PIVOT["expected_action"]},
        "responses_create_params is missing",
    ),
    ("nemo_gym", "input_missing", {**PIVOT, "responses_create_params": {"input": None}}, "input is missing"),
    ("nemo_gym", "nothing_expected", {"responses_create_params": {"input": "go"}}, "no expected_action, expected_ans"),
    ("nemo_gym", "expected_empty", {**PIVOT, "expected_action": None, "expected_answers": []}, "neither a pivot row"),
    ("nemo_gym", "expected_unknown", {**PIVOT, "expected_action": {"type": "click"}}, "of unknown type 'click'"),
    ("nemo_gym", "expected_nameless", {**PIVOT, "expected_action": {"type": "function_call"}}, "name is missing"),
    (
        *("nemo_gym", "response_empty"),
        {**PIVOT, "expected_action": None, "response": {"output": []}},
        "the response holds nothing that the model did",
    ),
    (
        *("nemo_gym", "speaker_unknown"),
        {**PIVOT, "responses_create_params": {"input": [{"role": "robot", "content": "x"}]}},
        "input[0]: unknown role 'robot'",
    ),
    (
        *("nemo_gym", "result_without_id"),
        {**PIVOT, "responses_create_params": {"input": [{"type": "function_call_output", "output": "x"}]}},
        "input[0]: call_id is missing",
    ),
    ("sharegpt", "turns_missing", {"text": "x"}, "there is no list of conversations or messages"),
    ("sharegpt", "turns_text", {"conversations": "x"}, "the conversation is text that is not JSON"),
    ("sharegpt", "turns_empty", {"conversations": []}, "there is no assistant turn"),
    ("sharegpt", "turn_null", {"conversations": [None]}, "turn 0: expected an object, not null"),
    ("sharegpt", "speaker_missing", {"conversations": [{"value": "x"}]}, "turn 0: role is missing"),
    ("sharegpt", "speaker_unknown", {"conversations": [{"from": "narrator", "value": "x"}]}, "unknown speaker 'narr"),
    ("sharegpt", "value_number", {"conversations": [{"from": "gpt", "value": 5}]}, "the content is number, not text"),
    ("sharegpt", "no_answer", {"conversations": [{"from": "human", "value": "x"}]}, "there is no assistant turn"),
    ("sharegpt", "part_unknown", {"conversations": [{"from": "gpt", "value": [{"type": "x"}]}]}, "unknown type 'x'"),
    (
        *("sharegpt", "tools_text"),
        {"conversations": [{"from": "gpt", "value": "x"}], "tools": "f, g"},
        "Expecting value",
    ),
    (
        "responses",
        "no_answer",
        {"input": [{"type": "function_call_output", "call_id": "c"}]},
        "there is no assistant item",
    ),
    ("responses", "input_number", {"input": 5, "output": []}, "input is number"),
    ("responses", "output_object", {"object": "response", "output": {}}, "output is object, not array"),
    ("responses", "item_text", {"object": "response", "output": ["x"]}, "output[0]: expected an object, not string"),
    ("responses", "call_nameless", {"object": "response", "output": [{"type": "function_call"}]}, "name is missing"),
    (
        *("responses", "action_missing"),
        {"object": "response", "output": [{"type": "local_shell_call", "call_id": "c"}]},
        "output[0]: action is missing",
    ),
    ("atif", "version_2", changed(ATIF, "schema_version", "ATIF-v2.0"), "there are ATIF-v1.0 to"),
    ("atif", "version_1_9", changed(ATIF, "schema_version", "ATIF-v1.9"), "schema_version is ATIF-v1.9"),
    ("atif", "version_missing", changed(ATIF, "schema_version", DELETED), "schema_version is missing"),
    ("atif", "version_number", changed(ATIF, "schema_version", 1.8), "schema_version is number"),
    ("atif", "agent_missing", changed(ATIF, "agent", DELETED), "agent is missing"),
    ("atif", "steps_object", changed(ATIF, "steps", {}), "steps is object, not array"),
    ("atif", "steps_empty", changed(ATIF, "steps", []), "there is no agent step"),
    ("atif", "source_unknown", changed(ATIF, "steps", 1, "source", "robot"), "source is 'robot'"),
    ("atif", "call_nameless", changed(ATIF, "steps", -1, "tool_calls", [{}]), "function_name is missing"),
    (
        *("terminus", "plan_not_json"),
        changed("terminus/hello-file__parsed/agent/trajectory.json", *("steps", 1, "tool_calls", 0, "arguments", "ls")),
        "arguments of bash_command: ",
    ),
    ("swe_agent", "history_missing", changed(SWE, "history", DELETED), "history is missing"),
    ("swe_agent", "history_object", changed(SWE, "history", {}), "history is object, not array"),
    ("swe_agent", "role_unknown", changed(SWE, "history", 3, "role", "observer"), "history[3]: unk"),
    ("swe_agent", "attempts_text", changed(SWE, "attempts", "x"), "attempts is string"),
    (
        *("swe_agent", "answers_two_calls"),
        changed(SWE, "history", 3, "tool_call_ids", ["a", "b"]),
        "history[3]: answers several tool calls at once",
    ),
    (
        *("mini_swe_agent", "version_9"),
        changed(MINI, "trajectory_format", "mini-swe-agent-9"),
        "trajectory_format is mini-swe-agent-9; there are mini-swe-agent-1, mini-swe-agent-1.1",
    ),
    (
        *("mini_swe_agent", "version_missing"),
        changed(MINI, "trajectory_format", DELETED),
        "trajectory_format is missing",
    ),
    ("mini_swe_agent", "messages_text", changed(MINI, "messages", "x"), "messages is string"),
    ("mini_swe_agent", "no_answer", changed(MINI, "messages", []), "there is no assistant message"),
    (
        *("mini_swe_agent", "output_missing"),
        changed(MINI, "messages", 2, {"object": "response"}),
        "messages[2]: output is missing",
    ),
    ("harbor_export", "conversation_empty", changed(HARBOR, "conversations", []), "there is no assistant message"),
    ("harbor_export", "conversation_text", changed(HARBOR, "conversations", "x"), "is string, not array"),
    (
        *("harbor_export", "no_answer"),
        changed(HARBOR, "conversations", [{"role": "user", "content": "x"}]),
        "there is no assistant message",
    ),
    ("tau2_bench", "no_simulation", {"id": "x"}, "there is no simulation with messages"),
    (
        *("tau2_bench", "spoken_run"),
        {"task_id": "1", "termination_reason": "user_stop", "messages": None, "ticks": [{}]},
        "there are no messages (a spoken run in ticks)",
    ),
    (
        *("tau2_bench", "role_unknown"),
        {"task_id": "1", "termination_reason": "user_stop", "messages": [{"role": "robot"}]},
        "messages[0]: unknown role 'robot'",
    ),
    (
        *("tau2_bench", "call_nameless"),
        {"task_id": "1", "termination_reason": "x", "messages": [{"role": "assistant", "tool_calls": [{}]}]},
        "messages[0]: name is missing",
    ),
    ("openhands_events", "history_missing", {"instance_id": "i"}, "history is missing"),
    ("openhands_events", "history_empty", {"history": []}, "there is nothing by the agent"),
    ("openhands_events", "event_text", {"history": ["x"]}, "history[0]: expected an object, not string"),
    (
        *("openhands_events", "observation_unknown"),
        {"history": [*events(), {**events()[0], "action": None, "observation": "telepathy", "content": "x"}]},
        "unknown observation telepathy",
    ),
    (
        *("openhands_events", "response_not_logged"),
        {"history": [{k: v for k, v in event.items() if k != "tool_call_metadata"} for event in events()]},
        "but the model's response that it was made from is not logged",
    ),
    ("openhands_sdk", "kind_number", history(sdk_events(), 0, kind=7), "event[0]: kind is number, not string"),
    ("openhands_sdk", "parent_unknown", history(sdk_events(), 1, parent_id="nobody"), "the parent nobody of an event"),
    ("openhands_sdk", "speaker_unknown", history(sdk_events(), 1, llm_message={"role": "robot"}), "of role robot"),
]
"""Records of every format that may hold several a file."""

READ_ALL_THE_SAME: list[tuple[str, Any, list[str], dict[int, str]]] = [
    (
        "result_without_call",
        chat(USER, {"role": "tool", "tool_call_id": "c9", "content": "1"}, ANSWER),
        ["result_without_call"],
        {},
    ),
    (
        "call_without_result",
        chat(USER, calling({"id": "c", "name": "f"}), USER, ANSWER),
        ["call_without_result"],
        {},
    ),
    (
        "call_id_reused_in_a_turn",
        chat(USER, {**ANSWER, "tool_calls": [{"id": "c", "name": "f"}] * 2}, {"role": "tool", "tool_call_id": "c"}),
        ["several_calls", "call_without_result"],
        {},
    ),
    (
        "call_id_reused_later",
        chat(USER, *[calling({"id": "c", "name": "f"}), {"role": "tool", "tool_call_id": "c"}] * 2),
        [],
        {},
    ),
    (
        "arguments_not_json",
        chat(USER, calling({"name": "f", "arguments": "ls -l"})),
        [],
        {1: "bad_arguments"},
    ),
    ("arguments_list", chat(USER, calling({"name": "f", "arguments": [1, 2]})), [], {1: "bad_arguments"}),
    ("arguments_cut_off", chat(USER, calling({"name": "f", "arguments": '{"a": '})), [], {1: "bad_arguments"}),
    (
        "arguments_duplicate_key",
        chat(USER, calling({"name": "f", "arguments": '{"a": 1, "a": 2}'})),
        [],
        {1: "bad_arguments"},
    ),
    (
        "arguments_deep",
        chat(USER, calling({"name": "f", "arguments": "[" * 100_000})),
        [],
        {1: "bad_arguments"},
    ),
    ("tool_undeclared", chat(USER, calling({"name": "g"}), tools=[{"name": "f"}]), [], {1: "unknown_tool"}),
    (
        "images_only",
        chat({**USER, "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}, ANSWER),
        ["image"],
        {1: "context_incomplete"},
    ),
    ("answer_empty", chat(USER, {**ANSWER, "content": ""}), [], {1: "empty_action"}),
    ("answer_null", chat(USER, {"role": "assistant"}), [], {1: "empty_action"}),
    ("answer_blank", chat(USER, {**ANSWER, "content": " \n"}), [], {1: "empty_action"}),
    ("nul_character", chat({**USER, "content": "a\x00b"}, ANSWER), [], {}),
    ("text_of_a_megabyte", chat({**USER, "content": "x" * (1 << 20)}, ANSWER), [], {}),
]
"""Rows of a chat log that are read, with what is missing (unless the whole file misses it) and no candidate told."""


def encoded(row: Any) -> bytes:
    return row if isinstance(row, bytes) else json.dumps(row).encode()
