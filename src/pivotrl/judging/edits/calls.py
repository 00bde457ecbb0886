"""Calls of the editing tools of coding agents as edits: OpenHands, SWE-agent, Claude Code, Codex and their kin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pivotrl.judging.edits.edits import MAX_BYTES, Edit, Insert, Replace, ReplaceLines, Write
from pivotrl.judging.edits.patches import read_patch

TOOLS = (
    *("str_replace_editor", "str_replace_based_edit_tool", "file_editor", "edit_file", "write_file", "apply_patch"),
    *("Edit", "MultiEdit", "Write", "edit", "create", "insert"),
)
EDITORS = frozenset({"str_replace_editor", "str_replace_based_edit_tool", "file_editor"})
"""Tools of which the argument ``command`` says what they do."""
_FAMILIES = (
    {"path", "file_text", "old_str", "new_str", "insert_line", "command"},
    {"file_path", "old_string", "new_string", "replace_all", "content", "edits"},
    {
        "filename",
        "search",
        "replace",
        "replace-all",
        "replacement_text",
        "start_line",
        "end_line",
        "path",
        "text",
        "line",
    },
    {"path", "old", "new", "content", "text"},
    {"input"},
    {"patch"},
)
"""Names of arguments that belong together: a tool that knows ``old_str`` does not know ``old_string``."""
_PATH = ("path", "file_path", "filename", "file")
_OLD = ("old_str", "old_string", "old", "search")
_NEW = ("new_str", "new_string", "new", "replace")
_TEXT = ("file_text", "content", "contents", "text", "new_str")
_EVERY = ("replace_all", "replace-all")
_SLASHES = re.compile(r"/(?:\.?/)+")


def edits_of(
    name: str, arguments: Mapping[str, Any], *, open_file: str | None = None, directory: str | None = None
) -> list[Edit] | None:
    """What a call changes, None when it changes nothing (a view).

    Args:
        open_file: the file that SWE-agent's ``edit`` works on.
        directory: absolute path that relative ones start from, when known.

    Raises:
        ValueError: an argument is missing, of a wrong type, or not known. The message is a short stable reason code.
    """
    if name in EDITORS and arguments.get("command") in ("view", "undo_edit"):
        return None
    if not any(arguments.keys() <= family for family in _FAMILIES):
        raise ValueError("unknown_argument")
    call = _Call(dict(arguments))
    for value in call.values.values():
        if isinstance(value, str) and (len(value) > MAX_BYTES or "\0" in value):
            raise ValueError("text_too_large" if len(value) > MAX_BYTES else "text_with_nul")
    if name == "apply_patch":
        edits: list[Edit] = read_patch(call.take(str, "input", "patch"))
    else:
        edits = _edits(name, call, open_file)
    if call.values:
        raise ValueError("unknown_argument")
    return [_with_path(edit, normal_path(edit.path, directory)) for edit in edits]


def same_family(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two calls name their arguments in the manner of the same agent."""
    return any(one.keys() <= family and other.keys() <= family for family in _FAMILIES)


def normal_path(path: str, directory: str | None) -> str:
    """The path without ``./`` and doubled slashes, absolute where the directory is known. ``..`` stays."""
    path = _SLASHES.sub("/", path)
    while path.startswith("./"):
        path = path[2:]
    return f"{directory.rstrip('/')}/{path}" if directory and not path.startswith("/") else path


class _Call:
    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def has(self, *names: str) -> bool:
        return any(name in self.values for name in names)

    def take(self, kind: type, *names: str) -> Any:
        """The value under the first of the names that is there.

        Raises:
            ValueError: ``missing_argument`` or ``wrong_type``.
        """
        for name in names:
            if name in self.values:
                value = self.values.pop(name)
                if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                    raise ValueError("wrong_type")
                return value
        raise ValueError("missing_argument")

    def flag(self, *names: str) -> bool:
        return bool(self.take(bool, *names)) if self.has(*names) else False


def _edits(name: str, call: _Call, open_file: str | None) -> list[Edit]:
    command = call.take(str, "command") if name in EDITORS else ""
    if command not in ("create", "str_replace", "insert") and name in EDITORS:
        raise ValueError("unknown_editor_command")
    if name == "edit" and not call.has(*_PATH):
        return _swe_agent_edit(call, open_file)
    path = call.take(str, *_PATH)
    if not path:
        raise ValueError("missing_argument")
    if call.has("edits"):
        return [_one_of_many(path, item) for item in call.take(list, "edits")]
    if command == "insert" or name == "insert":
        return [Insert(path, call.take(int, "insert_line", "line"), call.take(str, "new_str", "text"))]
    if command != "create" and call.has(*_OLD):
        new = call.take(str, *_NEW) if call.has(*_NEW) or command != "str_replace" else ""
        return [Replace(path, call.take(str, *_OLD), new, call.flag(*_EVERY))]
    if command == "str_replace":
        raise ValueError("missing_argument")
    if name == "create" and not call.has(*_TEXT):
        return [Write(path, "")]
    return [Write(path, call.take(str, *_TEXT), is_new=name in EDITORS)]


def _one_of_many(path: str, item: Any) -> Replace:
    if not isinstance(item, dict):
        raise ValueError("wrong_type")
    call = _Call(dict(item))
    edit = Replace(path, call.take(str, *_OLD), call.take(str, *_NEW), call.flag(*_EVERY))
    if call.values:
        raise ValueError("unknown_argument")
    return edit


def _swe_agent_edit(call: _Call, open_file: str | None) -> list[Edit]:
    path = open_file or ""
    if call.has("search"):
        return [Replace(path, call.take(str, "search"), call.take(str, "replace"), call.flag(*_EVERY))]
    first, last = call.take(int, "start_line"), call.take(int, "end_line")
    return [ReplaceLines(path, first, last, call.take(str, "replacement_text").removesuffix("\n"))]


def _with_path(edit: Edit, path: str) -> Edit:
    return type(edit)(**{**vars(edit), "path": path})
