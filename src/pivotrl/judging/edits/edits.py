"""Edits of files as values, and applying them to a text.

A text is the lines of a file joined by line feeds. Lines of a file that were never seen are stand-ins that no edit can
match (:mod:`pivotrl.judging.edits.files`).
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_BYTES = 1_000_000
"""Largest text that is edited or compared."""


class NotApplied(ValueError):
    """An edit does not fit the text; the message is a short stable reason code."""


@dataclass(frozen=True)
class Replace:
    """One occurrence of ``old``, or every one, becomes ``new``."""

    path: str
    old: str
    new: str
    every: bool = False


@dataclass(frozen=True)
class Insert:
    """Text after line ``line``; 0 is before the first."""

    path: str
    line: int
    text: str


@dataclass(frozen=True)
class ReplaceLines:
    """Lines ``first`` to ``last``, counted from 1, both included, become ``text``."""

    path: str
    first: int
    last: int
    text: str


@dataclass(frozen=True)
class Write:
    """The whole file; ``is_new`` when the tool refuses to write over one."""

    path: str
    text: str
    is_new: bool = False


@dataclass(frozen=True)
class Delete:
    """The file is gone."""

    path: str


@dataclass(frozen=True)
class Hunk:
    """Lines of a patch: those before (context and removed) and those after (context and added)."""

    old: tuple[str, ...]
    new: tuple[str, ...]
    line: int | None = None
    """Where it begins in the old file, counted from 1, when the patch says so."""
    anchor: str = ""
    """A line that must come before, as in Codex's patches."""


@dataclass(frozen=True)
class Patch:
    """Hunks in order."""

    path: str
    hunks: tuple[Hunk, ...]


Edit = Replace | Insert | ReplaceLines | Write | Delete | Patch


def apply(edit: Edit, text: str | None) -> str | None:
    """The text after the edit; None means that the file does not exist.

    Raises:
        NotApplied: reasons ``file_missing``, ``file_exists``, ``old_not_found``, ``old_not_unique``, ``no_change``,
            ``line_out_of_range``, ``hunk_not_found``, ``hunk_not_unique``, ``too_large``.
    """
    if isinstance(edit, Write):
        if edit.is_new and text is not None:
            raise NotApplied("file_exists")
        return edit.text
    if text is None:
        raise NotApplied("file_missing")
    if isinstance(edit, Delete):
        return None
    made = _edited(edit, text)
    if len(made) > MAX_BYTES:
        raise NotApplied("too_large")
    return made


def _edited(edit: Replace | Insert | ReplaceLines | Patch, text: str) -> str:
    if isinstance(edit, Replace):
        return _replaced(edit, text)
    lines = text.split("\n")
    if isinstance(edit, Insert):
        if not 0 <= edit.line <= len(lines):
            raise NotApplied("line_out_of_range")
        return "\n".join([*lines[: edit.line], *edit.text.split("\n"), *lines[edit.line :]])
    if isinstance(edit, ReplaceLines):
        if not 1 <= edit.first <= edit.last <= len(lines):
            raise NotApplied("line_out_of_range")
        return "\n".join([*lines[: edit.first - 1], *edit.text.split("\n"), *lines[edit.last :]])
    return "\n".join(_patched(edit.hunks, lines))


def _replaced(edit: Replace, text: str) -> str:
    if not edit.old:
        if text:
            raise NotApplied("old_not_unique")
        return edit.new
    if edit.old == edit.new:
        raise NotApplied("no_change")
    count = text.count(edit.old)
    if count == 0:
        raise NotApplied("old_not_found")
    # Overlapping occurrences are not unique either: the second begins inside the first.
    if not edit.every and text.find(edit.old, text.find(edit.old) + 1) >= 0:
        raise NotApplied("old_not_unique")
    if len(text) + count * (len(edit.new) - len(edit.old)) > MAX_BYTES:
        raise NotApplied("too_large")
    return text.replace(edit.old, edit.new)


def _patched(hunks: tuple[Hunk, ...], lines: list[str]) -> list[str]:
    made: list[str] = []
    cursor = 0
    for hunk in hunks:
        if hunk.anchor:
            found = next((i for i in range(cursor, len(lines)) if lines[i].strip() == hunk.anchor.strip()), None)
            if found is None:
                raise NotApplied("hunk_not_found")
            made += lines[cursor : found + 1]
            cursor = found + 1
        place = _place(hunk, lines, cursor)
        made += lines[cursor:place]
        made += hunk.new
        cursor = place + len(hunk.old)
    return made + lines[cursor:]


def _place(hunk: Hunk, lines: list[str], cursor: int) -> int:
    """Where the hunk's old lines are: at its line number, else at their only occurrence."""
    size, old = len(hunk.old), list(hunk.old)
    if not size:
        place = len(lines) if hunk.line is None else hunk.line
        if not cursor <= place <= len(lines):
            raise NotApplied("line_out_of_range")
        return place
    if hunk.line is not None and cursor <= hunk.line - 1 and lines[hunk.line - 1 : hunk.line - 1 + size] == old:
        return hunk.line - 1
    places = [i for i in range(cursor, len(lines) - size + 1) if lines[i] == old[0] and lines[i : i + size] == old]
    if not places:
        raise NotApplied("hunk_not_found")
    if len(places) > 1 and hunk.line is not None:
        raise NotApplied("hunk_not_unique")
    return places[0]
