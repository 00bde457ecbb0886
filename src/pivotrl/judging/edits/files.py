"""Files as a trajectory shows them before a turn: from views, from files written whole, and from edits in between."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from pivotrl.judging.edits.calls import TOOLS, edits_of, normal_path
from pivotrl.judging.edits.edits import Delete, Edit, NotApplied, Write, apply
from pivotrl.judging.shell.directory import told_directory
from pivotrl.judging.shell.reading import only_reads
from pivotrl.records import Message, ToolCall
from pivotrl.records.strict_json import parse_arguments

_OPEN_FILE = re.compile(r"\(Open file: (/[^\n)]*)\)")
_NUMBERED = re.compile(r"[ ]*(\d+)(?:\t|→)(.*)")
_WINDOW = re.compile(r"\[File: ([^\n]+) \((\d+) lines total\)\]\r?\n(.*)", re.DOTALL)
_WINDOW_LINE = re.compile(r"(\d+):(.*)")
_CUT = re.compile(r"<response clipped>|truncated|clipped|\[Output was cut", re.IGNORECASE)
_DONE = re.compile(r"has been (?:edited|updated|created)|File (?:created|updated)|Text replaced|Success", re.IGNORECASE)
_FAILED = re.compile(r"error|failed|no replacement|not found|invalid|multiple occurrences", re.IGNORECASE)
_LOOKING_TOOLS = re.compile(
    r"think|search|find|grep|glob|\bls\b|list|read|view|open|goto|scroll|todo|plan|web|fetch|browse|finish|submit|get_|show",
    re.IGNORECASE,
)
"""Tools without a command that change no file, by their names."""
_CAT = re.compile(r"cat (?:-- )?([\w./-]+)")
_OUTPUT = re.compile(
    r"<returncode>0</returncode>\n<output>\n(.*)\n</output>"
    r"|(?:[^\n]+\n){0,2}Process exited with code 0\n(?:[^\n]+\n)?Output:\n(.*)",
    re.DOTALL,
)
"""How mini-swe-agent and Codex wrap what a command printed."""
_VIEWS = {"Read", "view", "open", "read_file", "str_replace_editor", "str_replace_based_edit_tool", "file_editor"}
_SHOWN_ARGUMENTS = ("path", "file_path", "filename", "file")
_MAX_LINES = 200_000


@dataclass
class SeenFile:
    """What is known of a file: its lines by number, from 1, and how many there are when that is known."""

    lines: dict[int, str] = field(default_factory=dict)
    num_lines: int | None = None
    is_stale: bool = False
    """Whether something may have changed it since it was seen."""

    @property
    def is_whole(self) -> bool:
        return self.num_lines is not None and len(self.lines) == self.num_lines

    @property
    def text(self) -> str:
        """The lines joined; unseen lines become distinct placeholders."""
        last = self.num_lines or max(self.lines, default=0) + 1
        return "\n".join(self.lines.get(number, f"\0{number}") for number in range(1, last + 1))

    def set_text(self, text: str) -> None:
        lines = text.split("\n")
        is_open = self.num_lines is None and bool(self.lines)
        self.lines = {number: line for number, line in enumerate(lines, 1) if not line.startswith("\0")}
        self.num_lines = None if is_open else len(lines)


@dataclass
class Surroundings:
    """Where the agent is at a turn, and the files that it has seen."""

    directory: str | None = None
    open_file: str | None = None
    files: dict[str, SeenFile] = field(default_factory=dict)

    def file(self, path: str) -> SeenFile:
        return self.files.setdefault(normal_path(path, self.directory), SeenFile())

    def outdate(self) -> None:
        """Something was run that may have changed any file."""
        for file in self.files.values():
            file.is_stale = True


def surroundings(messages: Sequence[Message], tools: Sequence[str] = TOOLS) -> Surroundings:
    """What the messages before a turn show."""
    now = Surroundings()
    calls: list[ToolCall] = []
    for message in messages:
        text = message.content or ""
        if message.role == "assistant":
            calls = list(message.tool_calls)
            continue
        now.directory = told_directory(message) or now.directory
        if calls and message.role in ("tool", "user"):
            chosen = next((c for c in calls if c.id is not None and c.id == message.tool_call_id), calls[0])
            calls.remove(chosen)
            _answered(chosen, text, now, tools)
        for path in _OPEN_FILE.findall(text):
            now.open_file = path
    return now


def _answered(call: ToolCall, answer: str, now: Surroundings, tools: Sequence[str]) -> None:
    try:
        arguments = parse_arguments(call.arguments)
    except ValueError:
        return
    edits: list[Edit] | None = None
    if call.name in tools:
        try:
            edits = edits_of(call.name, _plain(arguments), open_file=now.open_file, directory=now.directory)
        except ValueError:
            now.outdate()
            return
    if edits is None:
        command = arguments.get("command", arguments.get("cmd"))
        shown = next((arguments[key] for key in _SHOWN_ARGUMENTS if isinstance(arguments.get(key), str)), None)
        if command == "undo_edit":
            now.outdate()
        elif shown is not None and call.name in _VIEWS:
            _show(now.file(shown), answer, whole=not {"view_range", "offset", "limit"} & arguments.keys())
        elif not (only_reads(command) if command is not None else _LOOKING_TOOLS.search(call.name)):
            now.outdate()
        elif (cat := _CAT.fullmatch(str(command))) and (printed := _OUTPUT.fullmatch(answer.strip())):
            now.files[normal_path(cat[1], now.directory)] = SeenFile(num_lines=0)
            now.file(cat[1]).set_text(printed[1] if printed[1] is not None else printed[2] + "\n")
    elif _DONE.search(answer[:200]) or not _FAILED.search(answer[:200]):
        for edit in edits:
            _edit(now.file(edit.path), edit)
        if edits:
            _show(now.file(edits[-1].path), answer, whole=False)


def _plain(arguments: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in arguments.items() if key not in IGNORED}


IGNORED = frozenset({"security_risk", "summary", "description", "thought", "explanation"})
"""Arguments of editing calls that describe the edit but do not affect it."""


def _edit(file: SeenFile, edit: Edit) -> None:
    if isinstance(edit, Write):
        file.num_lines = 0
        file.lines = {}
        file.is_stale = False
    try:
        made = apply(edit, file.text)
    except NotApplied:
        made = None
    if made is None or isinstance(edit, Delete):
        file.lines, file.num_lines = {}, None
    else:
        file.set_text(made)


def _show(file: SeenFile, answer: str, *, whole: bool) -> None:
    """Take over the numbered lines of a view."""
    if window := _WINDOW.search(answer):
        found = [(int(m[1]), m[2]) for m in map(_WINDOW_LINE.fullmatch, window[3].replace("\r", "").split("\n")) if m]
        total: int | None = int(window[2])
    else:
        found = [(int(m[1]), m[2]) for m in map(_NUMBERED.fullmatch, answer.split("\n")) if m]
        total = None
    block = [pair for index, pair in enumerate(found) if pair[0] == found[0][0] + index]
    if not block or len(block) != len(found) or block[-1][0] > _MAX_LINES:
        return
    lines = dict(block)
    if file.is_stale:
        file.lines, file.num_lines, file.is_stale = {}, None, False
    if total is None and whole and block[0][0] == 1 and not _CUT.search(answer):
        total = len(block)
        file.lines = {}
    if total is not None and file.num_lines not in (None, total):
        file.lines = {}
    if any(file.lines.get(number, line) != line for number, line in lines.items()) and not whole and total is None:
        file.lines = {}  # it was changed in a way that was not followed
        file.num_lines = None
    file.lines |= lines
    file.num_lines = total if total is not None else file.num_lines
    file.lines = {n: line for n, line in file.lines.items() if file.num_lines is None or n <= file.num_lines}
