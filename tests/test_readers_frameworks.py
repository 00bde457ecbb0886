"""Logs of agent frameworks and APIs: what their formats allow beyond the samples, and what is refused or excluded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pivotrl.protocols import InputError
from pivotrl.readers import auto
from pivotrl.reading.audit import audit
from pivotrl.records import Refusal, Trajectory

ARGUMENTS = {"city": "Oslo"}


def read(tmp_path: Path, *rows: Any, is_document: bool = False) -> list[Trajectory | Refusal]:
    path = tmp_path / "log.json"
    path.write_text(json.dumps(rows[0]) if is_document else "".join(json.dumps(row) + "\n" for row in rows))
    return [audit(item) if isinstance(item, Trajectory) else item for item in auto.read(path)]


def one(tmp_path: Path, *rows: Any, is_document: bool = False) -> Trajectory:
    found = read(tmp_path, *rows, is_document=is_document)
    assert len(found) == 1 and isinstance(found[0], Trajectory), found
    return found[0]


def roles(trajectory: Trajectory) -> str:
    return "".join(message.role[0] for message in trajectory.messages)


def refused(tmp_path: Path, *rows: Any, is_document: bool = False) -> str:
    try:
        found = read(tmp_path, *rows, is_document=is_document)
    except InputError as error:
        return str(error)
    assert len(found) == 1 and isinstance(found[0], Refusal), found
    return found[0].reason


# --- Vercel's AI SDK ----------------------------------------------------------------------------------------------


def ui_message(*parts: dict[str, Any], role: str = "assistant") -> dict[str, Any]:
    return {"id": "m", "role": role, "parts": list(parts)}


ASKED = ui_message({"type": "text", "text": "Weather?"}, role="user")


def test_steps_of_one_message_become_turns_and_errors_results(tmp_path: Path) -> None:
    tool = {"type": "tool-get_weather", "input": ARGUMENTS}
    answer = ui_message(
        {"type": "step-start"},
        {**tool, "toolCallId": "a", "state": "output-error", "errorText": "no network"},
        {"type": "step-start"},
        {"type": "data-progress", "data": {"percent": 50}},
        {**tool, "toolCallId": "b", "state": "output-available", "output": {"degrees": 12}},
        {"type": "text", "text": "It is 12 degrees."},
    )
    found = one(tmp_path, {"id": "chat", "messages": [ASKED, answer]})
    assert roles(found) == "uatata"
    assert [m.content for m in found.messages if m.role == "tool"] == ["no network", '{"degrees": 12}']
    assert found.messages[-1].content == "It is 12 degrees."


def test_a_call_without_its_result_is_a_loss(tmp_path: Path) -> None:
    part = {"type": "dynamic-tool", "toolName": "ask", "toolCallId": "a", "state": "input-available", "input": {}}
    found = one(tmp_path, {"id": "chat", "messages": [ASKED, ui_message(part), ASKED, ui_message(part)]})
    assert roles(found) == "uaua" and {"call_without_result"} <= {loss.code for loss in found.losses}


def test_words_beside_invocations_in_an_unknown_order_are_no_candidates(tmp_path: Path) -> None:
    invoked = {"state": "result", "toolCallId": "a", "toolName": "get_weather", "args": ARGUMENTS, "result": "12 C"}
    messages = [{"role": "user", "content": "Weather?"}]
    messages.append({"role": "assistant", "content": "It is 12 degrees.", "toolInvocations": [invoked]})
    found = one(tmp_path, {"id": "chat", "messages": messages})
    assert roles(found) == "uata"
    assert found.excluded == {1: "merged_turn", 3: "merged_turn"}


# --- ChatGPT ------------------------------------------------------------------------------------------------------


def exported(*messages: dict[str, Any]) -> dict[str, Any]:
    nodes: dict[str, Any] = {"root": {"id": "root", "message": None, "parent": None, "children": []}}
    parent = "root"
    for number, message in enumerate(messages):
        name = f"n{number}"
        nodes[name] = {"id": name, "message": {"id": name, **message}, "parent": parent, "children": []}
        parent = name
    return {"title": "t", "mapping": nodes, "current_node": parent, "conversation_id": "c"}


def node(role: str, text: str | None = None, **more: Any) -> dict[str, Any]:
    content = more.pop("content", {"content_type": "text", "parts": [text]})
    return {"author": {"role": role}, "content": content, "recipient": "all", **more}


def test_words_to_a_tool_are_a_call_and_what_belongs_together_is_one_turn(tmp_path: Path) -> None:
    found = one(
        tmp_path,
        exported(
            node("system", ""),
            node(
                "user",
                content={"content_type": "user_editable_context", "user_profile": "", "user_instructions": "Be brief."},
            ),
            node("user", "Write a poem."),
            node("assistant", "I put it on the canvas."),
            node("assistant", '{"name": "poem"}', recipient="canmore.create_textdoc"),
            node("tool", "Created."),
            node("assistant", "Done.", status="in_progress"),
        ),
    )
    assert roles(found) == "suata"
    assert found.messages[0].content == "Be brief."
    assert found.messages[2].content == "I put it on the canvas."
    assert found.messages[2].tool_calls[0].name == "canmore.create_textdoc"
    assert json.loads(found.messages[2].tool_calls[0].arguments) == {"name": "poem"}
    assert found.messages[3].tool_call_id == found.messages[2].tool_calls[0].id
    assert found.excluded == {4: "truncated"}


def test_an_attachment_is_a_loss_and_what_follows_is_no_candidate(tmp_path: Path) -> None:
    asked = node("user", "Sum it up.", metadata={"attachments": [{"name": "report.pdf"}]})
    found = one(tmp_path, exported(asked, node("assistant", "It says little.")))
    assert found.excluded == {1: "context_incomplete"}


def test_a_conversation_in_which_the_assistant_says_nothing_is_left_out(tmp_path: Path) -> None:
    found = read(tmp_path, exported(node("user", "Hello?")), exported(node("user", "Hi"), node("assistant", "Hello.")))
    assert [roles(item) for item in found if isinstance(item, Trajectory)] == ["ua"] and len(found) == 1


def test_a_current_node_that_is_not_there_is_refused(tmp_path: Path) -> None:
    row = {**exported(node("user", "Hi"), node("assistant", "Hello.")), "current_node": "gone"}
    assert "current_node" in refused(tmp_path, row)


# --- frameworks ---------------------------------------------------------------------------------------------------


def event(source: str, kind: str, content: Any) -> dict[str, Any]:
    return {"source": source, "type": kind, "content": content, "models_usage": None}


def test_a_conversation_of_several_agents_is_refused(tmp_path: Path) -> None:
    row = {"messages": [event(name, "TextMessage", "Hi") for name in ("user", "writer", "critic")]}
    assert "several agents speak (critic, writer)" in refused(tmp_path, row)


def test_results_of_parallel_calls_keep_their_calls(tmp_path: Path) -> None:
    calls = [{"id": name, "name": "get_weather", "arguments": json.dumps(ARGUMENTS)} for name in "ab"]
    results = [{"call_id": name, "content": name, "is_error": False} for name in "ab"]
    events = [
        event("user", "TextMessage", "Weather?"),
        event("agent", "ToolCallRequestEvent", calls),
        event("agent", "ToolCallExecutionEvent", results),
        event("agent", "TextMessage", "Rain."),
    ]
    found = one(tmp_path, {"messages": events})
    assert roles(found) == "uatta"
    assert [(m.tool_call_id, m.content) for m in found.messages if m.role == "tool"] == [("a", "a"), ("b", "b")]


def test_calls_of_one_answer_that_are_entries_of_their_own_are_one_turn(tmp_path: Path) -> None:
    entries = [{"type": "message.input", "role": "user", "content": "Weather?"}]
    entries += [{"type": "function.call", "tool_call_id": n, "name": "get_weather", "arguments": "{}"} for n in "ab"]
    entries += [{"type": "function.result", "tool_call_id": n, "result": n} for n in "ab"]
    entries.append({"type": "message.output", "role": "assistant", "content": "Rain."})
    found = one(tmp_path, {"object": "conversation.history", "entries": entries})
    assert roles(found) == "uatta" and len(found.messages[1].tool_calls) == 2


def test_a_failed_tool_of_goose_is_its_result(tmp_path: Path) -> None:
    def said(role: str, part: dict[str, Any]) -> dict[str, Any]:
        return {"role": role, "created": 1, "content": [part]}

    asked = {"status": "success", "value": {"name": "shell", "arguments": {"command": "ls"}}}
    rows = [
        {"working_dir": "/w", "description": "d"},
        said("user", {"type": "text", "text": "List."}),
        said("assistant", {"type": "toolRequest", "id": "a", "toolCall": asked}),
        said("user", {"type": "toolResponse", "id": "a", "toolResult": {"status": "error", "error": "denied"}}),
        said("assistant", {"type": "text", "text": "I may not."}),
    ]
    found = one(tmp_path, *rows)
    assert roles(found) == "uata" and found.messages[2].content == "denied"


def test_a_part_that_no_reader_knows_is_refused_by_name(tmp_path: Path) -> None:
    row = {"role": "user", "meta": {}, "name": None, "content": [{"video": "x"}]}
    spoken = {"role": "assistant", "meta": {}, "name": None, "content": [{"text": "Hi"}]}
    assert "video" in refused(tmp_path, {"messages": [row, spoken]})


def test_several_results_in_one_message_of_autogen_are_several_results(tmp_path: Path) -> None:
    calls = [{"id": n, "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in "ab"]
    results = [{"tool_call_id": n, "role": "tool", "content": n} for n in "ab"]
    messages = [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "a\n\nb", "tool_responses": results},
        {"role": "assistant", "content": "Done."},
    ]
    found = one(tmp_path, {"messages": messages})
    assert [(m.tool_call_id, m.content) for m in found.messages if m.role == "tool"] == [("a", "a"), ("b", "b")]


def test_rows_of_a_memory_are_a_conversation_for_each_session_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    rows = [
        {"id": n, "session_id": session, "message": json.dumps({"type": kind, "content": f"{session}{n}"})}
        for n, (session, kind) in enumerate([("x", "human"), ("y", "human"), ("x", "ai"), ("y", "ai")])
    ]
    found = read(tmp_path, *rows)
    assert [[m.content for m in item.messages] for item in found if isinstance(item, Trajectory)] == [
        ["x0", "x2"],
        ["y1", "y3"],
    ]
    rows[3]["message"] = '{"type": "ai", '
    assert any(isinstance(item, Refusal) for item in auto_read_langchain(tmp_path, rows))


def auto_read_langchain(tmp_path: Path, rows: list[Any]) -> list[Any]:
    from pivotrl.readers import langchain

    path = tmp_path / "damaged.jsonl"
    good = [json.dumps(row) for row in rows[:3]] * 20
    path.write_text("\n".join([*good, json.dumps(rows[3])]) + "\n")
    return list(langchain.read(path))


# --- APIs ---------------------------------------------------------------------------------------------------------

CALL = {"type": "function_call", "call_id": "a", "name": "get_weather", "arguments": json.dumps(ARGUMENTS)}
RESULT = {"type": "function_call_output", "call_id": "a", "output": "12 C"}
SAID = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "12 degrees."}]}
USER = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]}


def test_an_earlier_response_that_is_not_in_the_log_leaves_no_candidate(tmp_path: Path) -> None:
    request = {"model": "m", "input": [RESULT], "previous_response_id": "gone"}
    row = {"request": request, "response": {"id": "r", "object": "response", "output": [SAID]}}
    found = one(tmp_path, row)
    assert set(found.excluded.values()) == {"context_incomplete"}
    assert "input_not_logged" in {loss.code for loss in found.losses}
    flat = {**request, "id": "r", "output": [SAID]}
    assert set(one(tmp_path, flat).excluded.values()) == {"context_incomplete"}


def test_a_page_of_items_is_put_in_order_or_refused(tmp_path: Path) -> None:
    items = [USER, CALL, RESULT, SAID]
    for listed in (items, items[::-1]):
        assert roles(one(tmp_path, {"object": "list", "data": listed}, is_document=True)) == "uata"
    assert roles(one(tmp_path, {"object": "list", "data": [SAID, USER]}, is_document=True)) == "ua"
    assert "newest first" in refused(tmp_path, {"object": "list", "data": [SAID, SAID]}, is_document=True)


def test_converse_keeps_thoughts_and_json_and_marks_what_was_cut(tmp_path: Path) -> None:
    thought = {"reasoningContent": {"reasoningText": {"text": "Look it up.", "signature": "s"}}}
    used = {"toolUse": {"toolUseId": "a", "name": "get_weather", "input": ARGUMENTS}}
    result = {"toolResult": {"toolUseId": "a", "content": [{"json": {"degrees": 12}}]}}
    messages = [{"role": "user", "content": [{"text": "Weather?"}]}, {"role": "assistant", "content": [thought, used]}]
    messages.append({"role": "user", "content": [result]})
    answer = {"output": {"message": {"role": "assistant", "content": [{"text": "It is"}]}}, "stopReason": "max_tokens"}
    found = one(tmp_path, {"request": {"messages": messages}, "response": answer})
    assert roles(found) == "uata"
    assert found.messages[1].reasoning == "Look it up." and found.messages[2].content == '{"degrees": 12}'
    assert found.excluded == {3: "truncated"}


def test_a_plan_of_cohere_is_a_thought(tmp_path: Path) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [{"role": "user", "content": "Go."}, {"role": "assistant", "tool_plan": "Use f.", "tool_calls": [call]}]
    found = one(tmp_path, {"messages": messages})
    assert found.messages[1].reasoning == "Use f." and not found.messages[1].content


@pytest.mark.parametrize("holder", ["model_parameters", "optional_params"])
def test_tools_among_a_proxys_parameters_are_declared(tmp_path: Path, holder: str) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    answer = {"choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
    row = {"messages": [{"role": "user", "content": "Hello"}], "response": answer, holder: {"tools": [tool]}}
    assert [tool.name for tool in one(tmp_path, row).tools] == ["f"]
