"""Whether two texts are one program: the same syntax tree, so that layout and comments do not count.

Python by its own parser; other languages by tree-sitter, where the grammar's package is installed. Strings, docstrings,
documentation comments and comments that tools act on do count.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
import warnings

from tree_sitter import Language, Node, Parser

MAX_CHARS = 100_000
"""Longest Python text that is parsed."""
_MAX_CHARS_OF_OTHERS = 40_000
"""Longest other text: tree-sitter cannot be stopped, and recovers from errors in more than linear time."""
_MAX_NODES = 400_000
_MAX_DEPTH = 2_000

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

_EFFECTIVE_COMMENT = re.compile(r"///|//!|/\*[*!#]|//#|//go:|//\s?\+build|//export|(?://|/\*)\s*[@#]|#!")
"""How a comment begins that is documentation or that a tool acts on."""
_ONE_LEAF = re.compile(r"string|char_literal|template|regex|text|raw|heredoc|content")
"""Kinds of nodes in which every blank counts."""
_PYTHON_HEAD = re.compile(r"#!.*|#.*coding[:=].*")


def has_grammar(path: str) -> bool:
    """Whether programs in files of this name can be compared."""
    return path.endswith((".py", ".pyi")) or _parser(_ending(path)) is not None


def same_tree(path: str, one: str, other: str) -> bool:
    """Whether both texts are the same program; False also where that cannot be told."""
    if len(one) > MAX_CHARS or len(other) > MAX_CHARS:
        return False
    if path.endswith((".py", ".pyi")):
        first = _python_tree(one)
        return first is not None and first == _python_tree(other)
    parser = _parser(_ending(path))
    if parser is None or max(len(one), len(other)) > _MAX_CHARS_OF_OTHERS:
        return False
    leaves = _leaves(parser, one)
    return leaves is not None and leaves == _leaves(parser, other)


def python_fault(text: str) -> bool:
    """Whether a text is surely no Python."""
    return len(text) <= MAX_CHARS and _python_tree(text) is None


def _python_tree(text: str) -> str | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            heads = [
                line
                for number, line in enumerate(text.split("\n", 2)[:2])
                if _PYTHON_HEAD.fullmatch(line) and (number == 0 or "coding" in line)  # a shebang stands first
            ]
            return "\n".join([*heads, ast.dump(tree)])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


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


def _leaves(parser: Parser, text: str) -> list[str] | None:
    """The tree as a list of brackets, kinds and texts; None when the text is no program."""
    source = text.encode()
    root = parser.parse(source).root_node
    if root.has_error:
        return None
    made: list[str] = []
    position = 0
    pending: list[tuple[Node | None, int]] = [(root, 0)]
    for _ in range(_MAX_NODES):
        if not pending:
            break
        node, depth = pending.pop()
        if node is None:
            made.append(")")
            continue
        if depth > _MAX_DEPTH:
            return None
        is_comment = "comment" in node.type
        is_leaf = node.child_count == 0 or is_comment or _ONE_LEAF.search(node.type) is not None
        if not is_leaf:
            made.append(f"({node.type}")
            pending.append((None, depth))
            pending += [(child, depth + 1) for child in reversed(node.children)]
            continue
        if source[position : node.start_byte].strip(b" \t\r\n\f"):
            made.append(source[position : node.start_byte].decode())  # what the grammar gives no node
        position = max(position, node.end_byte)
        shown = source[node.start_byte : node.end_byte].decode()
        is_effective = (
            is_comment and _EFFECTIVE_COMMENT.match(shown) and (not shown.startswith("#!") or not node.start_byte)
        )
        if not is_comment or is_effective:
            # A line break that ends a statement is a leaf of blanks in some grammars.
            made.append(f"{node.type} {shown}" if shown.strip() else node.type)
    else:
        return None
    if 'import "C"' in text:
        made.append(text)  # cgo: the comment before it is C source
    return made
