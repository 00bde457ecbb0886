"""Server ``terminal_multi_harness``: a call that fits its schema, then the arguments that its harness looks at.

Tools that a harness has no rule for, and all tools of other harnesses, are compared by name, schema and keys alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from enum import StrEnum
from typing import Any

from pivotrl.judging.gym_rules.result import Call, GymFails, GymResult, parse, result
from pivotrl.judging.gym_rules.schema_check import fits

Arguments = Mapping[str, Any]
Answer = tuple["Category | None", float | None]
"""(what is wrong with a call, a similarity if one was measured)"""


class Category(StrEnum):
    ACTION_TYPE_MISMATCH = "The actual action type does not match the expected action type"
    EMPTY_MESSAGE = "The assistant message is empty after trimming whitespace"
    EXPECTED_CHAT_MESSAGE_FOUND = "A chat message that matches the expected message was found"
    UNEXPECTED_TOOL = "The tool in a tool call is not the expected tool"
    ARGUMENTS_DECODE_ERROR = "An error occurred when decoding the arguments string in a tool call as JSON"
    ARGUMENTS_NOT_OBJECT = "The decoded tool-call arguments are not a JSON object"
    TOOL_SCHEMA_NOT_FOUND = "The declared tool schema for the tool call could not be found"
    TOOL_SCHEMA_VALIDATION_FAILED = "The actual tool-call arguments are not valid under the declared tool schema"
    UNEXPECTED_ARGUMENT_KEYS = "The actual tool-call arguments contain parameter keys absent from the expected answer"
    ARGUMENT_VALUE_MISMATCH = "The actual tool-call argument values do not match the expected answer"
    FUNCTION_CALL_BATCH_LENGTH_DIFFERENT = "The number of tool calls in a batch is different than expected"
    EXEC_COMMAND_MISSING_CMD = "The exec_command tool call does not contain a cmd argument"
    EXEC_COMMAND_CMD_SIMILARITY_BELOW_THRESHOLD = "The exec_command cmd similarity is below threshold"
    BASH_MISSING_COMMAND = "The bash tool call does not contain a command argument"
    BASH_COMMAND_SIMILARITY_BELOW_THRESHOLD = "The bash command similarity is below threshold"
    UPDATE_PLAN_EMPTY_PLAN = "The update_plan tool call does not contain a non-empty plan argument"
    EXECUTE_PYTHON_CODE_SIMILARITY_BELOW_THRESHOLD = "The execute_python code similarity is below threshold"
    RETURN_RESULT_SIMILARITY_BELOW_THRESHOLD = "The return_result result similarity is below threshold"
    TODOWRITE_EMPTY_TODOS = "The todowrite tool call does not contain a non-empty todos list"
    EXPECTED_TOOL_CALL = "A tool call that matches the expected tool call was found"
    EXPECTED_TOOL_CALL_BATCH = "A tool-call batch that matches the expected batch was found"
    WEB_SEARCH_QUERY_SIMILARITY_BELOW_THRESHOLD = "The web_search query similarity is below threshold"
    WEB_SEARCH_MISSING_QUERY = "The web_search tool call does not contain a query argument"
    FETCH_WEB_PAGE_MISSING_URL = "The fetch_web_page tool call does not contain a url argument"
    FETCH_WEB_PAGE_URLS_DO_NOT_MATCH = "The fetch_web_page urls do not match the expected urls"
    FINISH_MISSING_REASON = "The finish tool call does not contain a reason argument"
    FINISH_MISSING_PATHS = "The finish tool call does not contain a paths argument"
    FINISH_REASON_SIMILARITY_BELOW_THRESHOLD = "The finish reason similarity is below threshold"
    FINISH_PATHS_DO_NOT_MATCH = "The finish paths do not match the expected paths"


def compare(
    expected: Sequence[Call],
    actual: Sequence[Call],
    text: str,
    *,
    harness: str,
    schemas: Mapping[str, dict[str, Any]],
    threshold: float,
) -> GymResult:
    """Reward an action; no calls mean a message.

    Args:
        text: of the actual message, which must not be blank.
        harness: ``codex``, ``opencode``, ``agent006`` or ``stirrup``; another one has no rules of its own.
        schemas: of the declared tools, by name.
        threshold: least ``SequenceMatcher`` ratio of the texts that are compared by likeness.

    Arguments that are no JSON object make Gym's server break off, an actual call's too; its category was meant to be
    the reason that is given here.

    Raises:
        GymFails: arguments that are expected, and that had to be compared, are no JSON object.
    """
    if min(len(expected), 2) != min(len(actual), 2):
        return result(0.0, Category.ACTION_TYPE_MISMATCH)
    if not expected:
        message = text.strip()
        return result(1.0, Category.EXPECTED_CHAT_MESSAGE_FOUND) if message else result(0.0, Category.EMPTY_MESSAGE)
    if len(expected) != len(actual):
        return result(0.0, Category.FUNCTION_CALL_BATCH_LENGTH_DIFFERENT)
    is_batch = len(expected) > 1
    measured: dict[str, float] = {}
    for wanted, given in zip(sorted(expected, key=_sort_key), sorted(actual, key=_sort_key), strict=True):
        fault, similarity = _compare_call(wanted, given, harness, schemas, threshold)
        measured = {} if similarity is None else {"similarity": similarity}
        if fault:
            return result(0.0, fault, **measured)
    if is_batch:
        return result(1.0, Category.EXPECTED_TOOL_CALL_BATCH)
    return result(1.0, Category.EXPECTED_TOOL_CALL, **measured)


def _sort_key(call: Call) -> Call:
    arguments = _decoded(call[1])
    spelt = json.dumps(arguments, sort_keys=True, separators=(",", ":")) if isinstance(arguments, dict) else call[1]
    return call[0], spelt


def _compare_call(
    expected: Call, actual: Call, harness: str, schemas: Mapping[str, dict[str, Any]], threshold: float
) -> Answer:
    wanted, given = _decoded(expected[1]), _decoded(actual[1])
    if isinstance(wanted, Category):
        raise GymFails(f"expected arguments: {wanted.name.lower()}")
    if isinstance(given, Category):
        return given, None
    schema = schemas.get(actual[0])
    if schema is None:
        return Category.TOOL_SCHEMA_NOT_FOUND, None
    given = _unquoted(given, schema)
    if not fits(given, schema):
        return Category.TOOL_SCHEMA_VALIDATION_FAILED, None
    if expected[0] != actual[0]:
        return Category.UNEXPECTED_TOOL, None
    if not given.keys() <= wanted.keys():
        return Category.UNEXPECTED_ARGUMENT_KEYS, None
    rule = _RULES.get((harness, expected[0]))
    return rule(wanted, given, threshold) if rule else (None, None)


def _decoded(text: str) -> dict[str, Any] | Category:
    """The arguments, or what is wrong with them."""
    try:
        value = parse(text)
    except ValueError:
        return Category.ARGUMENTS_DECODE_ERROR
    return value if isinstance(value, dict) else Category.ARGUMENTS_NOT_OBJECT


def _unquoted(arguments: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Arrays and objects that were written as JSON texts become what the schema declares."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return arguments
    return {name: _as_declared(value, properties.get(name)) for name, value in arguments.items()}


def _as_declared(value: Any, schema: Any) -> Any:
    kind = schema.get("type") if isinstance(schema, dict) else None
    if not isinstance(value, str) or kind not in ("array", "object"):
        return value
    try:
        meant = parse(value)
    except ValueError:
        return value
    return meant if isinstance(meant, list if kind == "array" else dict) else value


# --- rules of one tool --------------------------------------------------------------------------------------------

Rule = Callable[[Arguments, Arguments, float], Answer]


def _alike(one: str, other: str, threshold: float, fault: Category) -> Answer:
    """The ratio depends on the order of the two; each rule gives them in Gym's."""
    similarity = SequenceMatcher(None, one, other).ratio()
    return (fault if similarity < threshold else None), similarity


def _command(key: str, missing: Category, different: Category) -> Rule:
    def rule(expected: Arguments, actual: Arguments, threshold: float) -> Answer:
        texts = [arguments.get(key) for arguments in (expected, actual)]
        if not all(isinstance(text, str) for text in texts):
            return missing, None
        wanted, given = (str(text).replace("\r\n", "\n").replace("\r", "\n").strip() for text in texts)
        return _alike(wanted, given, threshold, different)

    return rule


def _same(*keys: str) -> Rule:
    def rule(expected: Arguments, actual: Arguments, threshold: float) -> Answer:
        differs = any(expected.get(key) != actual.get(key) for key in keys)
        return (Category.ARGUMENT_VALUE_MISMATCH if differs else None), None

    return rule


def _update_plan(expected: Arguments, actual: Arguments, threshold: float) -> Answer:
    plan = actual.get("plan")
    if isinstance(plan, str):
        plan = plan.strip()
    is_empty = plan is None or (isinstance(plan, str | list | dict) and not plan)
    return (Category.UPDATE_PLAN_EMPTY_PLAN if is_empty else None), None


def _execute_python(expected: Arguments, actual: Arguments, threshold: float) -> Answer:
    wanted, given = expected.get("code"), actual.get("code")
    if not (isinstance(wanted, str) and isinstance(given, str) and wanted.strip() and given.strip()):
        return Category.ARGUMENT_VALUE_MISMATCH, None
    return _alike(wanted, given, threshold, Category.EXECUTE_PYTHON_CODE_SIMILARITY_BELOW_THRESHOLD)


def _return_result(expected: Arguments, actual: Arguments, threshold: float) -> Answer:
    wanted, given = (json.dumps(arguments.get("result"), sort_keys=True) for arguments in (expected, actual))
    return _alike(wanted, given, threshold, Category.RETURN_RESULT_SIMILARITY_BELOW_THRESHOLD)


def _edit(expected: Arguments, actual: Arguments, threshold: float) -> Answer:
    if actual.get("oldString") == actual.get("newString"):
        return Category.ARGUMENT_VALUE_MISMATCH, None
    return _same("filePath", "replaceAll")(expected, actual, threshold)


def _todowrite(expected: Arguments, actual: Arguments, threshold: float) -> Answer:
    wanted, given = expected.get("todos"), actual.get("todos")
    if wanted == []:
        return (None if given == [] else Category.ARGUMENT_VALUE_MISMATCH), None
    if not isinstance(wanted, list) or not isinstance(given, list):
        return Category.TODOWRITE_EMPTY_TODOS, None
    same = len(wanted) == len(given) and all(
        isinstance(one, dict)
        and isinstance(other, dict)
        and all(one.get(key) == other.get(key) for key in ("status", "priority"))
        for one, other in zip(wanted, given, strict=True)
    )
    return (None if same else Category.ARGUMENT_VALUE_MISMATCH), None


def _web_text(arguments: Arguments, key: str) -> str:
    """Empty when there is none; blanks alone count as a text."""
    value = arguments.get(key)
    return value if isinstance(value, str) else ""


def _web_search(expected: Arguments, actual: Arguments, threshold: float) -> Answer:
    wanted, given = _web_text(expected, "query"), _web_text(actual, "query")
    if not wanted or not given:
        return Category.WEB_SEARCH_MISSING_QUERY, None
    different = Category.WEB_SEARCH_QUERY_SIMILARITY_BELOW_THRESHOLD
    return _alike(wanted.lower().strip(), given.lower().strip(), threshold, different)


def _fetch_web_page(expected: Arguments, actual: Arguments, threshold: float) -> Answer:
    wanted, given = _web_text(expected, "url"), _web_text(actual, "url")
    if not wanted or not given:
        return Category.FETCH_WEB_PAGE_MISSING_URL, None
    same = wanted.lower().strip() == given.lower().strip()
    return (None if same else Category.FETCH_WEB_PAGE_URLS_DO_NOT_MATCH), None


def _finish(expected: Arguments, actual: Arguments, threshold: float) -> Answer:
    wanted, given = _web_text(expected, "reason"), _web_text(actual, "reason")
    if not wanted or not given:
        return Category.FINISH_MISSING_REASON, None
    paths = [arguments.get("paths") for arguments in (expected, actual)]
    if not all(isinstance(some, list) and some and all(isinstance(path, str) for path in some) for some in paths):
        return Category.FINISH_MISSING_PATHS, None
    needed, given_paths = (sorted(path.strip() for path in some or ()) for some in paths)
    if needed != given_paths:
        return Category.FINISH_PATHS_DO_NOT_MATCH, None
    different = Category.FINISH_REASON_SIMILARITY_BELOW_THRESHOLD
    return _alike(given.lower().strip(), wanted.lower().strip(), threshold, different)


_EXEC = _command("cmd", Category.EXEC_COMMAND_MISSING_CMD, Category.EXEC_COMMAND_CMD_SIMILARITY_BELOW_THRESHOLD)
_BASH = _command("command", Category.BASH_MISSING_COMMAND, Category.BASH_COMMAND_SIMILARITY_BELOW_THRESHOLD)
_RULES: dict[tuple[str, str], Rule] = {
    ("codex", "exec_command"): _EXEC,
    ("codex", "update_plan"): _update_plan,
    ("agent006", "execute_python"): _execute_python,
    ("agent006", "return_result"): _return_result,
    ("opencode", "bash"): _BASH,
    ("opencode", "todowrite"): _todowrite,
    ("opencode", "read"): _same("filePath"),
    ("opencode", "write"): _same("filePath"),
    ("opencode", "edit"): _edit,
    ("opencode", "glob"): _same("pattern", "path"),
    ("opencode", "grep"): _same("pattern", "path", "include"),
    ("opencode", "webfetch"): _same("url", "format"),
    ("opencode", "skill"): _same("name"),
    ("opencode", "task"): _same("subagent_type"),
    ("stirrup", "code_exec"): _EXEC,
    ("stirrup", "web_search"): _web_search,
    ("stirrup", "fetch_web_page"): _fetch_web_page,
    ("stirrup", "finish"): _finish,
}
