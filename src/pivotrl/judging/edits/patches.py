"""Patches as edits: unified diffs, and the format of Codex's ``apply_patch``."""

from __future__ import annotations

import re

from pivotrl.judging.edits.edits import Delete, Edit, Hunk, Patch, Write

_RANGE = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_FILE = re.compile(r"\*\*\* (Add|Update|Delete) File: (.+)")
_BOOKKEEPING = ("diff --git ", "index ", "old mode ", "new mode ", "similarity index ")


def read_patch(text: str) -> list[Edit]:
    """The edits of a patch, in its order.

    Raises:
        ValueError: it is in neither format, or moves files. The message is a short stable reason code.
    """
    lines = text.strip("\n").split("\n")
    return _read_codex(lines) if lines[0].strip() == "*** Begin Patch" else _read_unified(lines)


def _read_codex(lines: list[str]) -> list[Edit]:
    if lines[-1].strip() != "*** End Patch":
        raise ValueError("patch_not_closed")
    edits: list[Edit] = []
    body: list[str] = []
    kind = path = ""

    def finish() -> None:
        if kind == "Add":
            if not all(line.startswith("+") for line in body):
                raise ValueError("patch_not_readable")
            edits.append(Write(path, "".join(line[1:] + "\n" for line in body)))
        elif kind == "Delete":
            if body:
                raise ValueError("patch_not_readable")
            edits.append(Delete(path))
        elif kind:
            edits.append(Patch(path, _codex_hunks(body)))
        elif body:
            raise ValueError("patch_not_readable")
        body.clear()

    for line in lines[1:-1]:
        if header := _FILE.fullmatch(line):
            finish()
            kind, path = header[1], header[2].strip()
        elif line.startswith("*** "):
            if line.strip() != "*** End of File":
                raise ValueError("patch_not_readable")
        else:
            body.append(line)
    finish()
    if not edits:
        raise ValueError("patch_empty")
    return edits


def _codex_hunks(lines: list[str]) -> tuple[Hunk, ...]:
    hunks: list[Hunk] = []
    anchor, body = "", list[str]()
    for line in [*lines, "@@"]:
        if line.startswith("@@"):
            if body:
                hunks.append(Hunk(*_sides(body), anchor=anchor))
            elif anchor:
                raise ValueError("patch_not_readable")
            anchor, body = line[2:].strip(), []
        else:
            body.append(line)
    if not hunks:
        raise ValueError("patch_empty")
    return tuple(hunks)


def _sides(body: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if any(line and line[0] not in " +-" for line in body):
        raise ValueError("patch_not_readable")
    old = tuple(line[1:] for line in body if not line.startswith("+"))
    new = tuple(line[1:] for line in body if not line.startswith("-"))
    if old == new:
        raise ValueError("patch_changes_nothing")
    return old, new


def _read_unified(lines: list[str]) -> list[Edit]:
    edits: list[Edit] = []
    index = 0
    while index < len(lines):
        if lines[index].startswith(_BOOKKEEPING) or not lines[index].strip():
            index += 1
            continue
        if not lines[index].startswith("--- ") or not lines[index + 1 : index + 2] or lines[index + 1][:4] != "+++ ":
            raise ValueError("patch_not_readable")
        before, after = (_name(line) for line in lines[index : index + 2])
        index += 2
        hunks: list[Hunk] = []
        while index < len(lines) and (header := _RANGE.match(lines[index])):
            num_old, num_new = (int(count or "1") for count in header.group(2, 4))
            body: list[str] = []
            index += 1
            while index < len(lines) and (num_old > 0 or num_new > 0):
                mark = lines[index][:1] or " "
                num_old -= mark in " -"
                num_new -= mark in " +"
                body.append(lines[index])
                index += 1
            if num_old or num_new:
                raise ValueError("patch_not_readable")
            if index < len(lines) and lines[index].startswith("\\"):
                index += 1
            hunks.append(Hunk(*_sides(body), line=int(header[1])))
        if not hunks or before is None is after:
            raise ValueError("patch_empty")
        if before is None and after is not None:
            edits.append(Write(after, "\n".join(hunks[0].new) + "\n"))
        elif after is None and before is not None:
            edits.append(Delete(before))
        elif before is not None and before == after:
            edits.append(Patch(before, tuple(hunks)))
        else:
            raise ValueError("patch_moves_files")
    if not edits:
        raise ValueError("patch_empty")
    return edits


def _name(line: str) -> str | None:
    name = line[4:].partition("\t")[0].strip()
    if name == "/dev/null":
        return None
    return name[2:] if name.startswith(("a/", "b/")) else name
