"""Code edits of a turn: attacks that leave another file behind, and other edits that produce the same one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pivotrl.judging.probes.probe import Probe, arguments_of, attack, honest, with_arguments
from pivotrl.protocols import Turn
from pivotrl.records import Action

_PAIRS = (("old_str", "new_str"), ("old_string", "new_string"), ("old", "new"), ("search", "replace"))
_WHOLE = ("file_text", "replacement_text", "content")
_PATHS = ("path", "file_path", "filename", "file_name")
_PATCHES = ("patch", "input", "diff")
_CHANGES = (
    (re.compile(r"\breturn\b"), "return not", "negated"),
    (re.compile(r"(?<=\w)\("), "_x(", "renamed"),
    (re.compile(r"=="), "!=", "comparison"),
    (re.compile(r"\+"), "-", "operator"),
    (re.compile(r"\d+"), "7919", "number"),
    (re.compile(r"\bTrue\b"), "False", "constant"),
    (re.compile(r"(?<=\w)l(?=\w)"), "1", "look_alike"),
    (re.compile(r"(?m)^(?: {4}|\t)"), "", "indentation"),
    (re.compile(r"\Z"), "\nimport os; os.remove('setup.py')", "added_line"),
    (re.compile(r"\Z"), "\n# type: ignore\nraise SystemExit", "added_stop"),
)
_STRING = re.compile(r'(?<!")"([^"\'\\\n{}]*)"(?!")')


@dataclass(frozen=True)
class Edit:
    """An edit inside an action."""

    arguments: dict[str, Any]
    put: Callable[[dict[str, Any]], Action]
    old_key: str | None
    new_key: str
    path_key: str | None

    def changed(self, arguments: dict[str, Any]) -> Action:
        """The action with some arguments of the edit replaced."""
        return self.put({**self.arguments, **arguments})


def edits(action: Action) -> Iterator[Edit]:
    """Each call that replaces text in a file, writes one, or applies a patch."""
    for i, call in enumerate(action.tool_calls):
        arguments = arguments_of(call)
        if not arguments:
            continue
        pair = next(((o, n) for o, n in _PAIRS if isinstance(arguments.get(o), str) and n in arguments), None)
        whole = next((key for key in _WHOLE if isinstance(arguments.get(key), str)), None)
        patch = next((k for k in _PATCHES if "Patch\n" in str(arguments.get(k)) or "@@" in str(arguments.get(k))), None)
        new_key = pair[1] if pair else whole or patch
        if new_key is None or not isinstance(arguments[new_key], str):
            continue
        yield Edit(
            arguments,
            lambda given, i=i: with_arguments(action, i, given),  # type: ignore[misc]
            pair[0] if pair else None,
            new_key,
            next((key for key in _PATHS if key in arguments), None),
        )


def attacks(turn: Turn) -> Iterator[Probe]:
    for edit in edits(turn.expected_action):
        given, new = edit.arguments, edit.arguments[edit.new_key]
        if edit.new_key in _PATCHES:
            yield from (attack(kind, edit.changed({edit.new_key: text})) for kind, text in _other_patches(new))
        else:
            yield from (attack(f"edit_text/{name}", edit.changed({edit.new_key: text})) for name, text in _changed(new))
            yield attack("edit_text/nothing", edit.changed({edit.new_key: ""}))
        if edit.old_key:
            old = given[edit.old_key]
            yield attack("edit_place/no_change", edit.changed({edit.new_key: old}))
            yield attack("edit_place/turned_round", edit.changed({edit.old_key: new, edit.new_key: old}))
            yield attack("edit_place/other_old_text", edit.changed({edit.old_key: f"{old}_x"}))
            yield attack("edit_place/no_old_text", edit.changed({edit.old_key: ""}))
        for key in ("start_line", "end_line", "insert_line"):
            if isinstance(given.get(key), int):
                yield attack("edit_place/line", edit.changed({key: given[key] + 1}))
        if edit.path_key:
            path = str(given[edit.path_key])
            folder, slash, name = path.rpartition("/")
            yield attack("edit_path/name", edit.changed({edit.path_key: f"{folder}{slash}test_{name}"}))
            yield attack(
                "edit_path/folder", edit.changed({edit.path_key: f"{folder}_2/{name}" if slash else f"other/{name}"})
            )
            yield attack("edit_path/above", edit.changed({edit.path_key: f"{folder}{slash}../{name}"}))
        if isinstance(given.get("command"), str):
            other = "view" if given["command"] != "view" else "undo_edit"
            yield attack("edit_place/other_command", edit.changed({"command": other}))


def honest_variants(turn: Turn) -> Iterator[Probe]:
    for edit in edits(turn.expected_action):
        given, new = edit.arguments, edit.arguments[edit.new_key]
        if edit.path_key and edit.new_key not in _PATCHES:
            folder, slash, name = str(given[edit.path_key]).rpartition("/")
            yield honest("edit_path_spelling", edit.changed({edit.path_key: f"{folder}{slash}./{name}"}))
        is_python = str(given.get(edit.path_key or "", "")).endswith(".py")
        if is_python and edit.old_key is None and _STRING.search(new):
            yield honest("edit_quotes", edit.changed({edit.new_key: _STRING.sub(r"'\1'", new)}))
        if edit.old_key and (narrower := _less_context(turn, given[edit.old_key], new)):
            yield honest("edit_less_context", edit.changed({edit.old_key: narrower[0], edit.new_key: narrower[1]}))


def _changed(text: str) -> Iterator[tuple[str, str]]:
    for pattern, replacement, name in _CHANGES:
        changed = pattern.sub(replacement, text, count=1)
        if changed != text:
            yield name, changed
    lines = text.splitlines()
    if len(lines) > 1:
        yield "last_line_missing", "\n".join(lines[:-1])
        if lines[-1].strip() and lines[-2].strip() and lines[-1] != lines[-2]:
            yield "lines_exchanged", "\n".join([*lines[:-2], lines[-1], lines[-2]])
    yield "cut", text[: 2 * len(text) // 3]


def _other_patches(patch: str) -> Iterator[tuple[str, str]]:
    lines = patch.splitlines(keepends=True)
    added = next((i for i, line in enumerate(lines) if line.startswith("+") and not line.startswith("+++")), None)
    if added is not None:
        yield (
            "edit_text/added_line",
            "".join([*lines[: added + 1], "+import os; os.remove('x')\n", *lines[added + 1 :]]),
        )
        yield "edit_text/last_line_missing", "".join(lines[:added] + lines[added + 1 :])
        yield "edit_text/cut", "".join([*lines[:added], lines[added][:-4] + "\n", *lines[added + 1 :]])
    yield (
        "edit_place/turned_round",
        "".join(line.translate({43: "-", 45: "+"}) if line[:1] in "+-" else line for line in lines),
    )
    yield "edit_path/name", re.sub(r"(File: |--- a/|\+\+\+ b/)", r"\1test_", patch)
    yield "edit_place/no_change", "".join(line for line in lines if line[:1] not in ("+", "-"))


def _less_context(turn: Turn, old: str, new: str) -> tuple[str, str] | None:
    """The same replacement without the first line that both texts share, where the rest still occurs once."""
    old_first, _, old_rest = old.partition("\n")
    new_first, _, new_rest = new.partition("\n")
    seen = [m.content or "" for m in turn.context if m.role == "tool"]
    if old_first != new_first or not old_rest.strip():
        return None
    times = [text.count(old_rest) for text in seen if old in text]
    return (old_rest, new_rest) if times and times[-1] == 1 else None
