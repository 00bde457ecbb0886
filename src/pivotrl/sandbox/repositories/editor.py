"""The edit tool of SWE-agent and its kin, ``str_replace_editor``, on the files of a sandboxed session."""

from __future__ import annotations

from typing import Any

from pivotrl.records import Tool
from pivotrl.sandbox.interface import Session

WORK_DIR = "/testbed"
EDITOR = Tool(
    name="str_replace_editor",
    description=(
        "View, create and edit text files. view shows a file with line numbers, or lists a folder. create writes a new "
        "file. str_replace replaces old_str, which must occur exactly once, by new_str. insert puts new_str after line "
        "insert_line."
    ),
    parameters={
        "type": "object",
        "properties": {
            "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert"]},
            "path": {"type": "string", "description": f"A path below {WORK_DIR}."},
            "file_text": {"type": "string", "description": "For create: the content."},
            "old_str": {"type": "string", "description": "For str_replace: the text to replace."},
            "new_str": {"type": "string", "description": "For str_replace and insert: the new text."},
            "insert_line": {"type": "integer", "description": "For insert: 0 is before the first line."},
            "view_range": {
                "type": "array",
                "items": {"type": "integer"},
                "description": "For view: the first and the last line; -1 is the last of the file.",
            },
        },
        "required": ["command", "path"],
        "additionalProperties": False,
    },
)
_KINDS = {"file_text": str, "old_str": str, "new_str": str, "insert_line": int, "view_range": list}
_TAKES = {
    "view": ((), ("view_range",)),
    "create": (("file_text",), ()),
    "str_replace": (("old_str",), ("new_str",)),
    "insert": (("insert_line", "new_str"), ()),
}
"""Arguments of each command: those that it needs, and those that it may have."""
_MAX_BYTES = 1 << 20
_AROUND = 4
_WRITE = 'mkdir -p "$(dirname "$1")" && cat > "$1"'
_LIST = ("find", "-maxdepth", "2", "-not", "-path", "*/.*", "-printf", "%y %P\\n")


class Refused(ValueError):
    """The call does nothing; the text tells the agent why."""


def use(session: Session, arguments: dict[str, Any]) -> str:
    """Carry out one call and return the answer for the agent.

    Raises:
        Refused: the call is malformed, or its text or file is not as it says.
        SandboxFault: the sandbox failed.
    """
    command, path = arguments.get("command"), _relative(arguments.get("path"))
    if command not in _TAKES:
        raise Refused(f"command must be one of {', '.join(_TAKES)}")
    given = {name: value for name, value in arguments.items() if name not in ("command", "path")}
    needed, optional = _TAKES[command]
    for name in (*needed, *given):
        if name not in given:
            raise Refused(f"{command} needs {name}")
        if name not in needed + optional:
            raise Refused(f"{command} does not take {name}")
        if type(given[name]) is not _KINDS[name]:
            raise Refused(f"{name} must be {'text' if _KINDS[name] is str else 'a number or a list of numbers'}")
    shown = f"{WORK_DIR}/{path}" if path else WORK_DIR
    if command == "create":
        return _create(session, path, shown, given["file_text"])
    text = _text(session, path)
    if command == "view":
        return _listing(session, path, shown) if text is None else _view(text, shown, given.get("view_range"))
    if text is None:
        raise Refused(f"there is no file {shown}")
    if command == "insert":
        return _insert(session, path, shown, text, given["insert_line"], given["new_str"])
    return _replace(session, path, shown, text, given["old_str"], given.get("new_str", ""))


def _relative(path: Any) -> str:
    if not isinstance(path, str) or "\0" in path:
        raise Refused("path must be text")
    inside = path.removeprefix(WORK_DIR) if path == WORK_DIR or path.startswith(WORK_DIR + "/") else path
    if inside == path and path.startswith("/"):
        raise Refused(f"{path} is not below {WORK_DIR}")
    parts = [part for part in inside.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused("path must not contain ..")
    return "/".join(parts)


def _text(session: Session, path: str) -> str | None:
    """The content of a file; None if there is no regular file."""
    if not path:
        return None
    try:
        return session.read(path, _MAX_BYTES).decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise Refused(f"{WORK_DIR}/{path} is not a text file") from error


def _write(session: Session, path: str, text: str) -> None:
    finished = session.run(["/bin/sh", "-c", _WRITE, "sh", f"./{path}"], stdin=text.encode(errors="replace"))
    if finished.exit_code != 0:
        reason = finished.stderr.decode(errors="replace").strip().rpartition(": ")[2]
        raise Refused(f"{WORK_DIR}/{path} cannot be written: {reason or 'it took too long'}")


def _create(session: Session, path: str, shown: str, text: str) -> str:
    if session.run(["test", "-e", f"./{path}"]).exit_code == 0:
        raise Refused(f"{shown} exists; use str_replace or insert to change it")
    _write(session, path, text)
    return f"The file {shown} has been created."


def _listing(session: Session, path: str, shown: str) -> str:
    finished = session.run([_LIST[0], f"./{path}", *_LIST[1:]])
    if finished.exit_code != 0:
        raise Refused(f"there is no file or folder {shown}")
    entries = sorted(line.partition(" ")[::2][::-1] for line in finished.stdout.decode(errors="replace").splitlines())
    return "\n".join([f"{shown}/", *(f"  {name}{'/' * (kind == 'd')}" for name, kind in entries if name)])


def _view(text: str, shown: str, view_range: list[Any] | None) -> str:
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    first, last = 1, len(lines)
    if view_range is not None:
        if len(view_range) != 2 or not all(type(value) is int for value in view_range):
            raise Refused("view_range must be two numbers")
        first, last = view_range[0], len(lines) if view_range[1] == -1 else view_range[1]
        if not 1 <= first <= last:
            raise Refused(f"view_range must be within 1 and {len(lines)}")
    return f"{shown} as cat -n shows it:\n{_numbered(lines, first, last)}"


def _numbered(lines: list[str], first: int, last: int) -> str:
    return "\n".join(f"{number:6d}\t{line}" for number, line in enumerate(lines[first - 1 : last], start=first))


def _insert(session: Session, path: str, shown: str, text: str, after: int, new: str) -> str:
    lines = text.split("\n")
    if not 0 <= after <= len(lines):
        raise Refused(f"insert_line must be between 0 and {len(lines)}")
    made = "\n".join([*lines[:after], *new.split("\n"), *lines[after:]])
    return _edited(session, path, shown, made, after + 1, new)


def _replace(session: Session, path: str, shown: str, text: str, old: str, new: str) -> str:
    count = text.count(old) if old else 0
    if count != 1:
        how = "not in" if not count else f"{count} times in"
        raise Refused(f"no replacement: old_str is {how} {shown}; it must be there exactly once")
    at = text.index(old)
    made = text[:at] + new + text[at + len(old) :]
    return _edited(session, path, shown, made, text.count("\n", 0, at) + 1, new)


def _edited(session: Session, path: str, shown: str, made: str, first: int, new: str) -> str:
    _write(session, path, made)
    window = max(1, first - _AROUND), first + new.count("\n") + _AROUND
    return f"The file {shown} has been edited. Around the change it reads:\n{_numbered(made.split(chr(10)), *window)}"
