"""Comments of programs: which ones tools act on, and which ones only people read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal

Comment = tuple[int, str]
"""(number of the program's leaves before it, text)"""

_DOCUMENTATION = re.compile(r"///|//!|/\*[*!#]|//#|(?://|/\*)\s*[@#]|#!|#:")
"""How a comment begins that is part of the documentation, or marked for a tool."""
_DIRECTIVES = re.compile(
    r"""^(?:\#|//|/\*)[ \t]*(?:
        go:|\+build|export\b|line\b|(?:unordered[ ])?output:|nolint|fallthrough|lint:|clang-|nolintnext
        |no(?:sec|qa|cover|sonar|inspection|pep8|dist|lint)\b|type:|pragma\b|py(?:lint|right|re|type|refly)\b|mypy:|ruff:
        |flake8[:\[]?|isort:|yapf:|fmt:|autopep8:|black:|coverage:|ty:|cython:|doctest:|skipcq|codespell:|-\*-|vim?:|%%
        |e?s(?:lint|hint)|[jt]slint|jscs|prettier|biome|deno-|istanbul|[cv]8[ ]ignore|webpack|vite|rollup|turbopack
        |sourcemappingurl|sourceurl|globals?[ ]|exported[ ]|eslint-env|@|\#|noinspection|swiftlint|rubocop|shellcheck
        |region\b|endregion\b|///|!
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_MAY_ACT = re.compile(
    r"^\W*(?:[\w./@-]+[ \t]+){0,2}[\w./@-]+[ \t]*[:=]"
    r"|^\W*(?:[\w./@]*[-:_=@/.][\w./@:=-]*|[Nn]o\w{3,}|skip\w*|(?-i:[a-z]+[A-Z]\w*))\W*$"
    r"|ignore|disable|enable|suppress|skip|exclude|lint|pragma|directive|coverage|pure|inline|generated|spdx|license|copyright"
    r"|do not edit|todo|fixme|safety|unsafe|format|check",
    re.IGNORECASE,
)
"""A word and a colon at the start, a single word that is none of English, or a word of those that tools look for."""


def compare_comments(one: Iterable[Comment], other: Iterable[Comment]) -> Literal["same", "different", "open"]:
    """Whether the comments of two programs that are otherwise the same may differ.

    ``same``: those that differ are prose. ``different``: one is documentation, or one that a known tool acts on.
    ``open``: one may be of a tool that is not known here.
    """
    mine, theirs = Counter(one), Counter(other)
    differing = [text for _, text in (mine - theirs) + (theirs - mine)]
    if any(_DOCUMENTATION.match(text) or _DIRECTIVES.match(text) for text in differing):
        return "different"
    return "open" if any(map(_MAY_ACT.search, differing)) else "same"
