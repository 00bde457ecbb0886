"""Conversations of ChatGPT, Vercel's AI SDK and smolagents that broke off, or hold what the model did not write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from test_readers_frameworks import ARGUMENTS, ASKED, one, refused, roles, ui_message

Node = tuple[str, dict[str, Any]]


# --- ChatGPT ------------------------------------------------------------------------------------------------------


def node(key: str, parent: str | None, role: str, text: str, name: str | None = None, **more: Any) -> Node:
    author = {"role": role, "name": name, "metadata": {}}
    content = {"content_type": "text", "parts": [text]}
    return key, {"id": key, "parent": parent, "message": {"id": key, "author": author, "content": content, **more}}


def conversation(*nodes: Node, **more: Any) -> list[dict[str, Any]]:
    return [{"conversation_id": "c", "mapping": dict(nodes), **more}]


def test_a_branch_without_its_beginning_is_refused(tmp_path: Path) -> None:
    nodes = node("b", "gone", "user", "And the other?"), node("c", "b", "assistant", "Lyon.")
    assert "message gone is missing" in refused(tmp_path, conversation(*nodes, current_node="c"), is_document=True)
    circle = node("b", "c", "user", "Hi"), node("c", "b", "assistant", "Hello")
    assert "c is missing or twice" in refused(tmp_path, conversation(*circle, current_node="c"), is_document=True)


def test_without_current_node_a_branch_is_not_guessed(tmp_path: Path) -> None:
    asked, first = node("u", None, "user", "Hi"), node("a", "u", "assistant", "Hello")
    told = refused(tmp_path, conversation(asked, first, node("b", "u", "assistant", "Hey")), is_document=True)
    assert "2 branches" in told
    assert one(tmp_path, conversation(asked, first), is_document=True).messages[1].content == "Hello"


def test_results_belong_to_the_call_of_their_tool(tmp_path: Path) -> None:
    nodes = (
        node("u", None, "user", "Search everywhere"),
        node("a", "u", "assistant", "{}", recipient="web.search"),
        node("b", "a", "assistant", "{}", recipient="file_search.msearch"),
        node("c", "b", "tool", "from the web", "web"),
        node("d", "c", "tool", "from a file", "file_search"),
        node("e", "d", "tool", "from another file", "file_search"),
        node("f", "e", "assistant", "Found."),
    )
    made = one(tmp_path, conversation(*nodes, current_node="f"), is_document=True)
    assert [message.tool_call_id for message in made.messages[2:5]] == ["a", "b", "b"]


def test_a_hidden_answer_is_not_part_of_the_next_one(tmp_path: Path) -> None:
    nodes = (
        node("u", None, "user", "Capital of France?"),
        node("a", "u", "assistant", "A draft", weight=0.0),
        node("b", "a", "assistant", "Paris.", weight=1.0),
    )
    made = one(tmp_path, conversation(*nodes, current_node="b"), is_document=True)
    assert made.messages[1].content == "Paris."
    assert "unknown_item" in {loss.code for loss in made.losses}


# --- Vercel's AI SDK ----------------------------------------------------------------------------------------------

STEP = {"type": "step-start"}
CALL = {"type": "tool-get_weather", "toolCallId": "a", "input": ARGUMENTS}
DONE = {"type": "text", "text": "Cold", "state": "done"}


def test_what_was_still_streamed_is_not_learned(tmp_path: Path) -> None:
    words = {"type": "text", "text": "The weath", "state": "streaming"}
    assert one(tmp_path, [ASKED, ui_message(STEP, words)]).excluded == {1: "truncated"}
    begun = {**CALL, "state": "input-streaming", "input": {"ci": "Os"}}
    said = {"type": "text", "text": "I look it up"}
    made = one(tmp_path, [ASKED, ui_message(STEP, said, begun), ASKED, ui_message(STEP, DONE)])
    assert made.excluded == {1: "truncated"} and not made.messages[1].tool_calls and roles(made) == "uaua"


def test_approvals_and_errors_are_no_calls(tmp_path: Path) -> None:
    model_call = {"type": "tool-call", "toolCallId": "a", "toolName": "get_weather", "input": ARGUMENTS}
    approval = {"type": "tool-approval-request", "approvalId": "b", "toolCallId": "a"}
    response = {"type": "tool-approval-response", "approvalId": "b", "approved": True}
    error = {"type": "tool-error", "toolCallId": "a", "toolName": "get_weather", "error": "no network"}
    row = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [model_call, approval]},
        {"role": "tool", "content": [response, error]},
        {"role": "assistant", "content": [{"type": "text", "text": "It failed"}]},
    ]
    made = one(tmp_path, row)
    assert roles(made) == "uata" and [call.name for call in made.messages[1].tool_calls] == ["get_weather"]
    assert made.messages[2].content == "no network" and made.messages[2].tool_call_id == "a"
    denied = {**CALL, "state": "output-denied", "approval": {"id": "b", "approved": False, "reason": "too dear"}}
    assert one(tmp_path, [ASKED, ui_message(STEP, denied, STEP, DONE)]).messages[2].content == "too dear"


def test_arguments_that_no_schema_takes_stay_as_written(tmp_path: Path) -> None:
    broken = {**CALL, "input": None, "rawInput": '{"city": "Os', "state": "output-error", "errorText": "not JSON"}
    made = one(tmp_path, [ASKED, ui_message(STEP, broken, STEP, DONE)])
    assert made.messages[1].tool_calls[0].arguments == '{"city": "Os' and made.excluded == {1: "bad_arguments"}


def test_attached_pictures_and_unknown_parts_are_told(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "What is it?", "experimental_attachments": [{"contentType": "image/png"}]}
    invoked = {"state": "result", "toolCallId": "a", "toolName": "look", "args": {}, "result": "cat"}
    made = one(tmp_path, [asked, {"role": "assistant", "content": "", "toolInvocations": [invoked]}])
    assert made.excluded == {1: "context_incomplete"}
    made = one(tmp_path, [ASKED, ui_message(STEP, {"type": "source-url", "url": "u"}, DONE)])
    assert ("unknown_item", 1) in {(loss.code, loss.message) for loss in made.losses}


# --- smolagents ---------------------------------------------------------------------------------------------------


def final(number: int, answer: str, **more: Any) -> dict[str, Any]:
    function = {"name": "final_answer", "arguments": {"answer": answer}}
    calls = [{"id": f"call_{answer}", "type": "function", "function": function}]
    return {"step_number": number, "model_output": "So", "tool_calls": calls, "observations": answer, **more}


def test_a_second_task_is_said_before_its_steps(tmp_path: Path) -> None:
    inputs = [{"role": "user", "content": [{"type": "text", "text": "New task:\nAdd"}]}]
    steps = [{"task": "Add", "task_images": None}, final(1, "3", model_input_messages=inputs)]
    made = one(tmp_path, [*steps, {"task": "Multiply", "task_images": None}, final(1, "4")], is_document=True)
    assert roles(made) == "uatua" and made.messages[3].content == "New task:\nMultiply"


def test_pictures_that_the_agent_saw_are_told(tmp_path: Path) -> None:
    steps = [{"task": "Look", "task_images": None}, final(1, "3", observations_images=["bytes"]), final(2, "4")]
    assert one(tmp_path, steps, is_document=True).excluded == {3: "context_incomplete"}
    steps = [{"task": "Look", "task_images": ["bytes"]}, final(1, "3")]
    assert one(tmp_path, steps, is_document=True).excluded == {1: "context_incomplete"}


# --- frameworks ---------------------------------------------------------------------------------------------------


def pydantic(text: str, instructions: str | None = None, **more: Any) -> list[dict[str, Any]]:
    asked = {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "Hi"}], "instructions": instructions}
    return [asked, {"kind": "response", "parts": [{"part_kind": "text", "content": text}], **more}]


def test_instructions_are_the_system_message(tmp_path: Path) -> None:
    made = one(tmp_path, pydantic("Hello", "Be brief"), is_document=True)
    assert roles(made) == "sua" and made.messages[0].content == "Be brief"
    both = [*pydantic("Hello", "Be brief"), *pydantic("Hello again", "Be long")]
    assert "instructions change" in refused(tmp_path, both, is_document=True)


def test_answers_that_ended_at_a_limit_are_not_learned(tmp_path: Path) -> None:
    assert one(tmp_path, pydantic("Once", finish_reason="length"), is_document=True).excluded == {1: "truncated"}
    assert not one(tmp_path, pydantic("Once", finish_reason="stop"), is_document=True).excluded
    haystack = [
        {"role": "user", "meta": {}, "name": None, "content": [{"text": "Hi"}]},
        {"role": "assistant", "meta": {"finish_reason": "length"}, "name": None, "content": [{"text": "Once"}]},
    ]
    assert one(tmp_path, haystack, is_document=True).excluded == {1: "truncated"}
    thread = [thread_message("user", 1), thread_message("assistant", 2, status="incomplete")]
    assert one(tmp_path, thread, is_document=True).excluded == {1: "truncated"}


def thread_message(role: str, seconds: int, **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": {"value": "words", "annotations": []}}]
    return {"object": "thread.message", "role": role, "created_at": seconds, "content": content, **more}


def test_a_page_of_a_thread_is_refused_and_its_order_and_files_are_read(tmp_path: Path) -> None:
    newest_first = [thread_message("assistant", 3), thread_message("user", 3), thread_message("user", 1)]
    page = {"object": "list", "data": newest_first, "has_more": True}
    assert "one page" in refused(tmp_path, page, is_document=True)
    assert roles(one(tmp_path, {**page, "has_more": False}, is_document=True)) == "uua"
    asked = thread_message("user", 1, attachments=[{"file_id": "f"}])
    made = one(tmp_path, [asked, thread_message("assistant", 2)], is_document=True)
    assert made.excluded == {1: "context_incomplete"}


def test_pictures_that_tools_return_are_told(tmp_path: Path) -> None:
    output = {"type": "content", "value": [{"type": "text", "text": "seen"}, {"type": "media", "data": "AAAA"}]}
    row = [
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": [{"type": "tool-call", "toolCallId": "a", "toolName": "look", "input": {}}]},
        {"role": "tool", "content": [{"type": "tool-result", "toolCallId": "a", "toolName": "look", "output": output}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A cat"}]},
    ]
    made = one(tmp_path, row)
    assert made.messages[2].content == "seen" and made.excluded == {3: "context_incomplete"}
    call = {"type": "toolRequest", "id": "a", "toolCall": {"value": {"name": "look", "arguments": {}}}}
    result = {"type": "toolResponse", "id": "a", "toolResult": {"value": [{"type": "image", "data": "AAAA"}]}}
    parts = ("user", {"type": "text", "text": "Look"}), ("assistant", call), ("user", result), (
        "assistant", {"type": "text", "text": "A cat"})  # fmt: skip
    goose = [{"role": role, "created": n, "content": [part]} for n, (role, part) in enumerate(parts)]
    assert one(tmp_path, goose, is_document=True).excluded == {3: "context_incomplete"}


def test_inputs_of_a_conversation_keep_their_role(tmp_path: Path) -> None:
    entries = [{"type": "message.input", "role": role, "content": role} for role in ("user", "assistant", "user")]
    made = one(tmp_path, {"entries": [*entries, {"type": "message.output", "content": "A"}]}, is_document=True)
    assert roles(made) == "uaua"
