"""Logs in the form of OpenAI's Responses API: requests with their responses, or conversations as lists of items.

A value of the file is one of

- a row ``{input, output | response, instructions?, tools?, id?, task_id?, reward?}``;
- a response object ``{"object": "response", "output": [...]}``, without the model's input;
- a page of items as the API lists them, ``{"object": "list", "data": [...]}``;
- a list of items; or the whole file is one such list, an item a line or an element.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pivotrl.reading.chat_messages import task_hash
from pivotrl.reading.conversation_files import whole_file
from pivotrl.reading.fields import as_object, identifier, optional
from pivotrl.reading.formats.request_calls import goes_on_unseen
from pivotrl.reading.formats.response_items import (
    Conversation,
    answered,
    conversation,
    instructions_text,
    request_conversation,
    response_tools,
)
from pivotrl.reading.row_facts import outcome, run_name, task_name
from pivotrl.reading.sources import Entry, convert_entries, head
from pivotrl.reading.text_calls import with_calls
from pivotrl.records import Loss, Refusal, Trajectory

_KEYS = {"input", "output", "response", "instructions", "tools", "id", "task_id", "reward", "score"}
_ITEMS = {
    *("reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"),
    *("local_shell_call", "local_shell_call_output", "mcp_call", "web_search_call", "file_search_call"),
    *("code_interpreter_call", "computer_call", "image_generation_call"),
}
"""Types of items that no other format has."""
_KNOWN = _ITEMS | {None, "message", "compaction", "mcp_list_tools", "item_reference"}


def recognises(head: Sequence[Any]) -> bool:
    """Rows, response objects or lists of Responses items; rows of NeMo Gym are not meant."""
    return _are_items(head) or any(_is_row(value) or (isinstance(value, list) and _are_items(value)) for value in head)


def read(path: Path) -> Iterator[Trajectory | Refusal]:
    """One trajectory per value, or one for the whole file if its values are items.

    All turns of the response are candidates, and so are those in the ``input``: it is the same agent's past.
    A response without its input is read, but none of its turns can be a candidate.

    Raises:
        InputError: the file cannot be read.
    """
    if _are_items(head(path)):
        return whole_file(path, lambda row, name: _trajectory(row["messages"], name))

    def convert(value: Any, entry: Entry) -> Trajectory:
        return _trajectory(value, f"{path.stem}-{entry.number}")

    return convert_entries(path, convert)


def _trajectory(value: Any, name: str) -> Trajectory:
    row = {"input": value} if isinstance(value, list) else as_object(value)
    if _is_page(row):
        row = {"input": _in_order(row["data"])}
    response = optional(row, "response", dict) or row
    made = _conversation(row, response)
    if not any(message.role == "assistant" for message in made.messages):
        raise ValueError("there is no assistant item, so there is no turn to learn from")
    tools, lost = response_tools(row.get("tools") or response.get("tools"))
    known = {"model": row.get("model")} if row is response else row
    foreign = {key: value for key, value in known.items() if key not in _KEYS and value is not None}
    written = with_calls(made.messages, (*tools, *made.tools))
    return Trajectory(
        id=run_name(row) or identifier(response, "id") or name,
        task_id=task_name(row) or task_hash(made.messages),
        messages=written.messages if written else made.messages,
        tools=written.tools if written else (*tools, *made.tools),
        reward=outcome({**response, **row}),
        excluded={**(written.excluded if written else {}), **made.excluded},
        metadata={"foreign": foreign} if foreign else {},
        losses=(*made.losses, *lost, *(written.losses if written else ())),
    )


def _conversation(row: dict[str, Any], response: dict[str, Any]) -> Conversation:
    """Request and response as one conversation."""
    if row.get("input") is None:
        asked = conversation([], instructions=instructions_text(response))
    else:
        asked = request_conversation({**row, "instructions": row.get("instructions") or response.get("instructions")})
    if goes_on_unseen(row) or goes_on_unseen(response):
        asked = replace(asked, losses=(*asked.losses, Loss(code="input_not_logged")), is_incomplete=True)
    return asked if response.get("output") is None else answered(asked, response)


def _is_page(value: dict[str, Any]) -> bool:
    """A page of items as the API lists them: ``{"object": "list", "data": [...]}``."""
    items = value.get("data")
    if value.get("object") != "list" or not isinstance(items, list):
        return False
    rows = [item for item in items if isinstance(item, dict) and item.get("object") is None]
    return bool(rows) and len(rows) == len(items) and _are_known(rows)


def _are_known(rows: Sequence[dict[str, Any]]) -> bool:
    types = [row.get("type") for row in rows]
    return all((kind is None or isinstance(kind, str)) and kind in _KNOWN for kind in types)


def _in_order(items: list[Any]) -> list[Any]:
    """Items oldest first; the API lists them newest first unless it is asked otherwise.

    Raises:
        ValueError: the order cannot be told.
    """
    places = {identifier(item, "call_id"): i for i, item in enumerate(items) if item.get("type") == "function_call"}
    answers = [(places[str(item["call_id"])], i) for i, item in enumerate(items) if _answers(item, places)]
    roles = [item.get("role") for item in items if item.get("role") in ("user", "assistant")]
    if answers:
        is_turned = answers[0][0] > answers[0][1]
    elif roles and roles[0] != roles[-1]:
        is_turned = roles[0] == "assistant"
    else:
        raise ValueError("a page of items is listed newest first or oldest first, and nothing here tells which")
    return items[::-1] if is_turned else items


def _answers(item: dict[str, Any], places: dict[Any, int]) -> bool:
    return item.get("type") == "function_call_output" and identifier(item, "call_id") in places


def _is_row(value: Any) -> bool:
    if not isinstance(value, dict) or {"responses_create_params", "messages", "request"} & value.keys():
        return False
    if _is_page(value):
        return True
    response: Any = value.get("response")
    response = response if isinstance(response, dict) else value
    if response.get("object") == "response" and isinstance(response.get("output"), list):
        return True
    given = [*(_list(value.get("input"))), *(_list(response.get("output")))]
    return _are_items(given)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _are_items(values: Sequence[Any]) -> bool:
    """Whether most of these are items that are known (a few may be damaged), and some of a type that only this format
    has: messages alone could be a chat log, and one thought among lines of other types is another format."""
    rows = [value for value in values if isinstance(value, dict)]
    types = [row.get("type") for row in rows if row.get("type") is not None or isinstance(row.get("role"), str)]
    known = [kind for kind in types if (kind is None or isinstance(kind, str)) and kind in _KNOWN]
    return 2 * len(known) > len(values) and any(kind in _ITEMS for kind in known)
