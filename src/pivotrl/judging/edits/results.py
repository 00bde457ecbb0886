"""Whether two edits make the same file."""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pivotrl.judging.edits.edits import Edit, Insert, NotApplied, Patch, Replace, ReplaceLines, Write, apply
from pivotrl.judging.edits.files import SeenFile, Surroundings
from pivotrl.judging.edits.syntax_trees import compare_programs, has_grammar, python_fault, same_code

_NO_BLANKS_COUNT = (".css", ".scss", ".less", ".java", ".ini", ".cfg")
"""Endings of files in which blanks at the ends of lines mean nothing; text blocks of Java lose theirs."""
_BLANKS_COUNT = re.compile(
    r"(?:\.(?:py|pyi|pyx|ya?ml|mk|md|markdown|diff|patch|tsv|csv|sh|bash|zsh|properties|env)|(?:^|/)[^./]+|(?:^|/)\.env)\Z"
)
"""Files in which they mean something; scripts without an ending among them."""
_SKELETON = re.compile(r"#[^\n]*|//[^\n]*|/\*.*?(?:\*/|\Z)|[\s\"'(),;{}\\]+", re.DOTALL)
_DEFINITION = re.compile(r"([ \t]*)(?:async\s+def|def|class)\b")


@dataclass(frozen=True)
class Comparison:
    """Whether two edits make the same file, and how that was seen or why not."""

    outcome: Literal["same", "different", "not_known"]
    reason: str


def compare_edits(expected: Sequence[Edit], actual: Sequence[Edit], now: Surroundings) -> Comparison:
    """Compare what two lists of edits make of the files as they were seen.

    Reasons, same: same_edit, same_result, same_tree, same_but_blanks; different: different_path, different_result,
    different_edit, not_python, and those of :func:`pivotrl.judging.edits.edits.apply`; not known: file_not_seen,
    only_comments_differ (one may be of a tool, or the expected edit is about comments), only_blanks_differ.
    """
    if list(expected) == list(actual):
        return Comparison("same", "same_edit")
    paths = {edit.path for edit in expected}
    if paths != {edit.path for edit in actual}:
        return Comparison("different", "different_path")
    found = [
        _compare_file(
            path,
            [edit for edit in expected if edit.path == path],
            [edit for edit in actual if edit.path == path],
            now.files.get(path),
        )
        for path in sorted(paths)
    ]
    ranks = {"different": 0, "not_known": 1, "same": 2}
    order = ["same_but_blanks", "same_tree", "same_result", "same_edit"]
    return min(found, key=lambda c: (ranks[c.outcome], order.index(c.reason) if c.reason in order else 0))


def _compare_file(path: str, expected: list[Edit], actual: list[Edit], seen: SeenFile | None) -> Comparison:
    if expected == actual:
        return Comparison("same", "same_edit")
    if seen is not None and seen.is_stale and not _same_places(expected, actual):
        seen = None
    text = seen.text if seen is not None and seen.lines else None
    try:
        wanted = _apply_all(expected, text)
    except NotApplied:  # the file is not as it was seen
        text, seen = None, None
        if not isinstance(expected[0], Write):
            return _compare_unseen(expected, actual)
        wanted = _apply_all(expected, None)  # written over in some other way since
    is_whole = isinstance(expected[0], Write) or (seen is not None and seen.is_whole)
    try:
        made = _apply_all(actual, text)
    except NotApplied as error:
        is_new = isinstance(expected[0], Write) and expected[0].is_new
        if (text is None and not is_new) or (not is_whole and _same_skeleton(expected, actual)):
            return Comparison("not_known", "file_not_seen")
        return Comparison("different", str(error))
    if wanted is None or made is None:
        return Comparison("same", "same_result") if wanted is made else Comparison("different", "different_result")
    if wanted == made:
        is_sure = is_whole or (len(expected) == len(actual) and all(map(_fits_once_more, expected, actual)))
        return Comparison("same", "same_result") if is_sure else Comparison("not_known", "file_not_seen")
    return _compare_texts(path, text or "", wanted, made, is_whole=is_whole)


def _same_places(expected: Sequence[Edit], actual: Sequence[Edit]) -> bool:
    """Whether the edits change the same text, which the expected ones show, or the same lines: then each fits where the
    other does, whatever else stands in the file now."""
    return len(expected) == len(actual) and all(map(_same_place, expected, actual))


def _same_place(expected: Edit, actual: Edit) -> bool:
    if isinstance(expected, Replace) and isinstance(actual, Replace):
        return (expected.old, expected.every) == (actual.old, actual.every)
    if isinstance(expected, Insert) and isinstance(actual, Insert):
        return expected.line == actual.line
    if isinstance(expected, ReplaceLines) and isinstance(actual, ReplaceLines):
        return (expected.first, expected.last) == (actual.first, actual.last)
    return isinstance(expected, Write) and isinstance(actual, Write)


def _apply_all(edits: Sequence[Edit], text: str | None) -> str | None:
    for edit in edits:
        text = apply(edit, text)
    return text


def _fits_once_more(expected: Edit, actual: Edit) -> bool:
    """Whether the actual edit surely fits wherever the expected one did, in a file that is seen in part."""
    if isinstance(expected, Replace) and isinstance(actual, Replace):
        return expected.every == actual.every and expected.old in actual.old
    return not isinstance(actual, Replace | Patch)


def _compare_unseen(expected: list[Edit], actual: list[Edit]) -> Comparison:
    if isinstance(actual[0], Write) and actual[0].is_new:
        return Comparison("different", "file_exists")
    if _same_skeleton(expected, actual):
        return Comparison("not_known", "file_not_seen")
    return Comparison("different", "different_edit")


def _same_skeleton(expected: Sequence[Edit], actual: Sequence[Edit]) -> bool:
    """Whether the edits could make the same of some file: whole files, or the same change within other context."""
    if any(not isinstance(edit, Replace) for edit in [*expected, *actual]):
        return True
    return _core(expected) == _core(actual)


def _core(edits: Sequence[Edit]) -> list[tuple[str, str]]:
    """What each replacement takes out and puts in, without what both have and without layout."""
    cores = []
    for edit in edits:
        assert isinstance(edit, Replace)
        old, new = (_SKELETON.sub("", text) for text in (edit.old, edit.new))
        start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        old, new = old[start:], new[start:]
        tail = 0
        while tail < min(len(old), len(new)) and old[-1 - tail] == new[-1 - tail]:
            tail += 1
        cores.append((old[: len(old) - tail], new[: len(new) - tail]))
    return cores


def _compare_texts(path: str, before: str, wanted: str, made: str, *, is_whole: bool) -> Comparison:
    if is_whole:
        likeness = compare_programs(path, wanted, made)
        if likeness == "same" and same_code(path, before, wanted) and _trimmed(wanted) != _trimmed(made):
            likeness = "open"  # comments, or layout, are all that the expected edit changes
        if likeness != "different":
            return Comparison("same", "same_tree") if likeness == "same" else _OPEN_COMMENTS
        if has_grammar(path) or _trimmed(wanted) != _trimmed(made) or _BLANKS_COUNT.search(path):
            return Comparison("different", "different_result")
        if wanted.startswith("#!"):
            return Comparison("different", "different_result")
        if path.endswith(_NO_BLANKS_COUNT) or (path.endswith(".toml") and _same_toml(wanted, made)):
            return Comparison("same", "same_but_blanks")
        return Comparison("not_known", "only_blanks_differ")
    if _SKELETON.sub("", wanted) != _SKELETON.sub("", made):
        return Comparison("different", "different_result")
    if path.endswith((".py", ".pyi")):
        definitions = _definitions(wanted, made)
        if definitions is not None and not python_fault(definitions[0]) and python_fault(definitions[1]):
            return Comparison("different", "not_python")
        if definitions is not None and compare_programs(path, *definitions) == "different":
            return Comparison("different", "different_result")
    return Comparison("not_known", "file_not_seen")


_OPEN_COMMENTS = Comparison("not_known", "only_comments_differ")


def _same_toml(one: str, other: str) -> bool:
    try:
        return tomllib.loads(one) == tomllib.loads(other)
    except (ValueError, RecursionError):
        return False


def _trimmed(text: str) -> list[str]:
    lines = [line.rstrip(" \t\r") for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _definitions(wanted: str, made: str) -> tuple[str, str] | None:
    """The function or class around the place where two texts differ, of each; None when it was not seen whole."""
    one, other = wanted.split("\n"), made.split("\n")
    start = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    after = 0
    while after < min(len(one), len(other)) - start and one[-1 - after] == other[-1 - after]:
        after += 1
    for head in range(start, -1, -1):
        if one[head].startswith("\0"):
            return None
        if (found := _DEFINITION.match(one[head])) and one[head] == other[head]:
            indent = len(found[1])
            tail = next((i for i in range(after, 0, -1) if (line := one[-i]).strip() and _indent(line) <= indent), None)
            if tail is None or any(line.startswith("\0") for line in one[head : len(one) - tail]):
                return None
            return (
                textwrap.dedent("\n".join(one[head : len(one) - tail])),
                textwrap.dedent("\n".join(other[head : len(other) - tail])),
            )
    return None


def _indent(line: str) -> int:
    return 0 if line.startswith("\0") else len(line) - len(line.lstrip(" \t"))
