"""The leaves of a syntax tree of tree-sitter, in one spelling, and the comments between them."""

from __future__ import annotations

import json
import re

from tree_sitter import Node, Parser

from pivotrl.judging.edits.code_comments import Comment

_MAX_NODES = 400_000
_MAX_DEPTH = 2_000

_ONE_LEAF = re.compile(r"string|char_literal|template|regex|text|raw|heredoc|content")
"""Kinds of nodes in which every blank counts."""
_LISTS = frozenset(
    [
        *("array", "object", "arguments", "formal_parameters", "array_pattern", "object_pattern", "named_imports"),
        *("export_clause", "enum_body", "type_arguments", "type_parameters", "tuple_type"),  # JavaScript, TypeScript
        *("argument_list", "parameter_list", "literal_value"),  # Go
        *("parameters", "array_expression", "field_initializer_list", "use_list", "enum_variant_list"),  # Rust
        *("field_declaration_list", "initializer_list", "enumerator_list"),
    ]
)
"""Nodes in which a comma behind the last item means nothing."""
_SCRIPT_ENDS = re.compile(r"(?:_statement|_declaration|_signature|class_body|interface_body|object_type|program)\Z")
"""Nodes of JavaScript in which a semicolon only ends something; the tree shows where that is."""
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}


def read_leaves(
    parser: Parser, text: str, *, is_script: bool, is_json: bool = False
) -> tuple[list[str], list[Comment]] | None:
    """(the tree as brackets, kinds and texts; the comments); None if the text is not a program, or too large.

    A comma behind the last item of a list is left out; in JavaScript and TypeScript (``is_script``) also semicolons at
    the ends of statements, brackets around an expression, and how strings are quoted; in JSON, escapes.
    """
    source = text.encode()
    root = parser.parse(source).root_node
    if root.has_error:
        return None
    made: list[str] = []
    comments: list[Comment] = []
    position = num_leaves = 0
    pending: list[tuple[Node | str, int]] = [(root, 0)]
    for _ in range(_MAX_NODES):
        if not pending:
            break
        node, depth = pending.pop()
        if isinstance(node, str):
            made.append(node)
            continue
        if depth > _MAX_DEPTH:
            return None
        kind = node.type
        is_comment = "comment" in kind
        if not is_comment and node.child_count and not _ONE_LEAF.search(kind):
            children = _children(node, is_script)
            if is_script and kind == "arrow_function":
                children = [
                    _without_brackets(child) if child.type == "formal_parameters" else child for child in children
                ]
            inner: list[Node | str] = [*children]
            if is_script and kind == "parenthesized_expression" and _is_plain(node):
                inner = inner[1:-1]
            else:
                made.append(f"({kind}")
                inner.append(")")
            pending += [(child, depth + 1) for child in reversed(inner)]
            continue
        shown = source[node.start_byte : node.end_byte].decode()
        if is_comment:
            comments.append((num_leaves, " ".join(shown.split()) if shown.startswith("/*") else shown.rstrip()))
            position = max(position, node.end_byte)
            continue
        between = source[position : node.start_byte].strip(b" \t\r\n\f;,()" if is_script else b" \t\r\n\f,")
        if between:
            made.append(between.decode())  # what the grammar gives no node
        position = max(position, node.end_byte)
        if is_script and kind == "string":
            is_markup = node.parent is not None and node.parent.type == "jsx_attribute"  # which knows no escapes
            shown = f"markup {shown[1:-1]}" if is_markup else _string_value(shown)
        if is_json and kind == "string":
            shown = json.dumps(json.loads(shown))
        # A line break that ends a statement is a leaf of blanks in some grammars.
        made.append(f"{kind} {shown}" if shown.strip() else kind)
        num_leaves += kind[0].isalpha() or kind[0] in "\"'"
    else:
        return None
    if 'import "C"' in text:
        made.append(text)  # cgo: the comment before it is C source
    return made, comments


def _children(node: Node, is_script: bool) -> list[Node]:
    """The children without commas and semicolons that mean nothing."""
    children = node.children
    if node.type in _LISTS:
        code = [child for child in children if "comment" not in child.type]
        if len(code) > 2 and code[-2].type == "," and code[-3].is_named:
            children = [child for child in children if child.id != code[-2].id]
    if is_script and _SCRIPT_ENDS.search(node.type) and node.type not in ("for_statement", "empty_statement"):
        ends = (";", ",") if node.type in ("interface_body", "object_type") else (";",)
        children = [child for child in children if child.type not in ends]
    return children


def _is_plain(node: Node) -> bool:
    """Whether brackets around an expression change nothing: not around a chain that they would end, nor a string that
    would become a directive, nor a comma."""
    inner = [child for child in node.children if child.is_named and "comment" not in child.type]
    if len(inner) != 1 or inner[0].type in ("string", "sequence_expression"):
        return False
    return b"?." not in (inner[0].text or b"")


def _without_brackets(parameters: Node) -> Node:
    """``(x) => 1`` is ``x => 1``: the one plain name that brackets hold, else the node itself."""
    inner = parameters
    while inner.type in ("formal_parameters", "required_parameter"):
        named = inner.named_children
        if len(named) != 1:
            return parameters
        inner = named[0]
    return inner if inner.type == "identifier" else parameters


def _string_value(shown: str) -> str:
    """A string of JavaScript without its quotes, if it has only plain escapes; else as written."""
    inner = shown[1:-1]
    if any(found[1] not in _ESCAPED for found in _ESCAPE.finditer(inner)):
        return shown
    return _ESCAPE.sub(lambda found: _ESCAPED[found[1]], inner)
