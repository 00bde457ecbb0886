"""Whether two texts are one program: the same syntax tree, so that layout and comments for people do not count.

Python by its own parser; other languages by tree-sitter, where the grammar's package is installed. Strings, docstrings,
documentation comments and comments that tools act on do count.
"""

from __future__ import annotations

import ast
import functools
import importlib
import io
import re
import tokenize
import warnings
from typing import Literal

from tree_sitter import Language, Parser

from pivotrl.judging.edits.code_comments import Comment, compare_comments
from pivotrl.judging.edits.tree_leaves import read_leaves

Likeness = Literal["same", "different", "open"]

MAX_CHARS = 100_000
"""Longest Python text that is parsed."""
_MAX_CHARS_OF_OTHERS = 40_000
"""Longest other text: tree-sitter cannot be stopped, and recovers from errors in more than linear time."""

_SCRIPTS = frozenset({".js", ".jsx", ".mjs", ".cjs", ".ts", ".tsx"})
_GRAMMARS = {
    ".js": ("tree_sitter_javascript", "language"),
    ".jsx": ("tree_sitter_javascript", "language"),
    ".mjs": ("tree_sitter_javascript", "language"),
    ".cjs": ("tree_sitter_javascript", "language"),
    ".ts": ("tree_sitter_typescript", "language_typescript"),
    ".tsx": ("tree_sitter_typescript", "language_tsx"),
    ".json": ("tree_sitter_json", "language"),
    ".go": ("tree_sitter_go", "language"),
    ".rs": ("tree_sitter_rust", "language"),
    ".c": ("tree_sitter_c", "language"),
    ".h": ("tree_sitter_c", "language"),
}
"""Ending of a file -> (module, function that gives the grammar). Java is missing: a few kilobytes of ``a<a<a<`` keep
its parser busy for minutes."""
_PYTHON_HEAD = re.compile(r"#!.*|#.*coding[:=].*")


def has_grammar(path: str) -> bool:
    """Whether programs in files of this name can be compared."""
    return path.endswith((".py", ".pyi")) or _parser(_ending(path)) is not None


def compare_programs(path: str, one: str, other: str) -> Likeness:
    """``same`` program; ``different``, also where that cannot be told; ``open``: they differ in comments alone, and
    one of these may be of a tool."""
    first, second = _program(path, one), _program(path, other)
    if first is None or second is None or first[0] != second[0]:
        return "different"
    return compare_comments(first[1], second[1])


def same_code(path: str, one: str, other: str) -> bool:
    """Whether both texts are the same program, whatever their comments."""
    first, second = _program(path, one), _program(path, other)
    return first is not None and second is not None and first[0] == second[0]


def python_fault(text: str) -> bool:
    """Whether a text is surely no Python."""
    return len(text) <= MAX_CHARS and _python_program(text) is None


@functools.lru_cache(maxsize=64)
def _program(path: str, text: str) -> tuple[str, tuple[Comment, ...]] | None:
    """(the program without comments, the comments); None if the text is not a readable program."""
    if len(text) > MAX_CHARS:
        return None
    if path.endswith((".py", ".pyi")):
        return _python_program(text)
    ending = _ending(path)
    parser = _parser(ending)
    if parser is None or len(text) > _MAX_CHARS_OF_OTHERS:
        return None
    found = read_leaves(parser, text, is_script=ending in _SCRIPTS, is_json=ending == ".json")
    return None if found is None else ("\n".join(found[0]), tuple(found[1]))


def _python_program(text: str) -> tuple[str, tuple[Comment, ...]] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant):
                    node.kind = None  # u"x" is "x"
            heads = [
                line
                for number, line in enumerate(text.split("\n", 2)[:2])
                if _PYTHON_HEAD.fullmatch(line) and (number == 0 or "coding" in line)  # a shebang comes first
            ]
            return "\n".join([*heads, ast.dump(tree)]), tuple(_python_comments(text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _python_comments(text: str) -> list[Comment]:
    """Each comment with the number of words before it, which layout and brackets do not change."""
    found: list[Comment] = []
    if "#" not in text:
        return found
    num_words = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            found.append((num_words, token.string.rstrip()))
        elif token.type in (tokenize.NAME, tokenize.NUMBER, tokenize.STRING):
            num_words += 1
    return found


def _ending(path: str) -> str:
    name = path.rpartition("/")[2]
    return "." + name.rpartition(".")[2] if "." in name else ""


@functools.cache
def _parser(ending: str) -> Parser | None:
    if ending not in _GRAMMARS:
        return None
    module, function = _GRAMMARS[ending]
    try:
        return Parser(Language(getattr(importlib.import_module(module), function)()))
    except ModuleNotFoundError:
        return None
