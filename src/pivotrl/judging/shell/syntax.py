"""A shell command taken apart into operators and simple commands, by the bash grammar of tree-sitter.

The grammar tells words from operators and finds where expansions end. Its tree is not followed beyond that, since it
hangs redirections on the wrong command: every token is kept in its order, and simple commands are the runs between
operators. Each byte must be part of a token or a blank between tokens; else the command is not understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from pivotrl.judging.shell.words import NotUnderstood, Part, Word, literal, read_word, refuse_strange, text_word

MAX_BYTES = 32_768
"""Longest command that is parsed; a longer one is compared as text."""
_MAX_DEPTH = 50

_STRUCTURE = {
    *("program", "list", "pipeline", "redirected_statement", "command", "command_name", "negated_command"),
    *("subshell", "compound_statement", "if_statement", "elif_clause", "else_clause", "for_statement"),
    *("while_statement", "do_group", "declaration_command", "unset_command", "variable_assignments"),
}
_WORDS = {
    *("word", "string", "raw_string", "ansi_c_string", "concatenation", "number", "simple_expansion", "expansion"),
    *("command_substitution", "process_substitution", "arithmetic_expansion", "brace_expression", "variable_name"),
}
_EXPANSIONS = {"simple_expansion", "expansion", "command_substitution", "arithmetic_expansion", "process_substitution"}
_RESERVED = {*("for", "in", "do", "done", "if", "then", "elif", "else", "fi", "while", "until", "{", "}", "!")}
_OPERATORS = {"&&", "||", "|", "|&", ";", "&", "(", ")", "\n"} | _RESERVED
_DECLARATIONS = {"export", "declare", "typeset", "local", "readonly", "unset"}
_AFTER_RESERVED = {b"", b" ", b"\t", b"\n", b";", b"&", b"|", b"(", b")", b"<", b">"}
_NO_WORDS_BUT_VALUES = {"for", "in"}
"""After these, words are values and no command."""
_KEYWORDS = _RESERVED | {"time", "coproc", "case", "esac", "select", "function", "[["}
_CHANGES_MEANING = {"alias", "unalias", "eval", "shopt", "enable", "hash", "trap", "exec", "history", "fc", "bind"}
"""Commands after which words may mean something else."""

_BLANK = re.compile(rb"(?:[ \t]|\\\n)*")
_BLANK_LINES = re.compile(rb"(?:[ \t\n]|\\\n)*")
_ONLY_CONTINUATION = re.compile(rb"(?:\\\n)+")
_RUNS_ANOTHER = {"command", "builtin", "env", "time", "nohup"}
_DESCRIPTOR = re.compile(rb"(?:\A|[ \t\n;&|(])(?:\d+|\{\w+\})\Z")
_BRACED_NAME = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

_PARSER = Parser(Language(tree_sitter_bash.language()))


@dataclass
class Simple:
    """A simple command: assignments, words, redirections."""

    assignments: list[Word] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    redirections: list[Any] = field(default_factory=list)
    is_values: bool = False
    """The words are those that a loop runs over, not a command and its arguments."""


Token = str | Simple
"""An operator (``;`` also represents line breaks), or a simple command."""


def read_command(text: str) -> list[Token]:
    """The tokens of a command, comments dropped.

    Raises:
        NotUnderstood: it is not bash, too long, or uses an unsupported feature.
    """
    refuse_strange(text)
    source = text.encode()
    if len(source) > MAX_BYTES:
        raise NotUnderstood("too long")
    root = _PARSER.parse(source).root_node
    if root.has_error:
        raise NotUnderstood("not parsable")
    tokens = _Reading(source).read(root, 0, len(source))
    for token in tokens:
        names = map(literal, token.words) if isinstance(token, Simple) else ()
        if next((name for name in names if name not in _RUNS_ANOTHER), None) in _CHANGES_MEANING:
            raise NotUnderstood("changes what words mean")
    return tokens


class _Reading:
    """The tokens of one stretch of a command, from left to right."""

    def __init__(self, source: bytes, depth: int = 0) -> None:
        if depth > _MAX_DEPTH:
            raise NotUnderstood("nested too deep")
        self.source = source
        self.depth = depth
        self.tokens: list[Token] = []
        self.position = 0

    def read(self, root: Node, start: int, end: int, *, inside: bool = False) -> list[Token]:
        """The tokens of a node's children; ``inside`` leaves the first and the last, the brackets, out."""
        self.position = start
        children = root.children[1:-1] if inside else root.children
        if root.type in _STRUCTURE or inside:
            for child in children:
                self._visit(child, 0)
        self._gap(end, ends=True)
        while self.tokens and self.tokens[-1] == ";":
            self.tokens.pop()
        return self.tokens

    def _visit(self, node: Node, level: int) -> None:
        if level > _MAX_DEPTH:
            raise NotUnderstood("nested too deep")
        kind = node.type
        if kind == "comment":
            before = self.source[node.start_byte - 1 : node.start_byte]
            if before and before not in b" \t\n;&|()":
                raise NotUnderstood("a comment inside a word")
            self._gap(node.start_byte)
            self.position = node.end_byte
        elif kind in _STRUCTURE:
            for child in node.children:
                self._visit(child, level + 1)
        elif kind in _WORDS:
            self._add_word(node)
        elif kind == "variable_assignment":
            self._assignment(node)
        elif kind == "test_command":
            self._simple(*_span(node)).words.append((Part("raw", _text(node)),))
        elif kind == "file_redirect":
            self._redirection(node)
        elif kind == "herestring_redirect":
            operator, value = node.children[-2:]
            if len(node.children) != 2:
                raise NotUnderstood("a here-string with a descriptor")
            simple = self._simple(operator.start_byte, operator.end_byte)
            word, start = self._word(value)
            self._simple(start, value.end_byte)
            simple.redirections.append(("0", "<<<", word))
        elif kind == "heredoc_redirect":
            self._heredoc(node, level)
        elif not node.is_named and kind in _OPERATORS:
            self._operator(node)
        elif not node.is_named and kind in _DECLARATIONS:
            self._simple(*_span(node)).words.append(text_word(kind))
        else:
            raise NotUnderstood(f"{kind}")

    def _gap(self, start: int, *, ends: bool = False) -> None:
        """Checks that only blanks lie before the next token; a line break there ends a command."""
        between = self.source[self.position : start]
        if not _BLANK_LINES.fullmatch(between) or (_ONLY_CONTINUATION.fullmatch(between) and not ends):
            raise NotUnderstood("bytes that belong to no token")
        if not _BLANK.fullmatch(between) and self.tokens:
            last = self.tokens[-1]
            if isinstance(last, Simple) or last in (")", "}", "done", "fi"):
                self.tokens.append(";")
        self.position = start

    def _operator(self, node: Node) -> None:
        self._gap(node.start_byte)
        self.position = node.end_byte
        if node.type in _RESERVED and self.source[node.end_byte : node.end_byte + 1] not in _AFTER_RESERVED:
            raise NotUnderstood("a reserved word that touches another")
        kind = ";" if node.type == "\n" else node.type
        last = self.tokens[-1] if self.tokens else None
        if kind == ")" and last == ";":
            self.tokens.pop()
        if kind != ";" or last != ";":
            self.tokens.append(kind)

    def _simple(self, start: int, end: int) -> Simple:
        """The simple command that a token at this place belongs to."""
        touches = start == self.position and self.tokens and isinstance(self.tokens[-1], Simple)
        if touches and start != end and self.source[start : start + 1] not in b"<>&":
            before = self.source[start - 1 : start]
            if before not in b" \t\n<>&":
                raise NotUnderstood("words that touch")
        self._gap(start)
        self.position = max(end, self.position)
        last = self.tokens[-1] if self.tokens else None
        if isinstance(last, Simple):
            return last
        simple = Simple(is_values=last in _NO_WORDS_BUT_VALUES)
        self.tokens.append(simple)
        return simple

    def _add_word(self, node: Node) -> None:
        word, start = self._word(node)
        simple = self._simple(start, node.end_byte)
        name = literal(word)
        if not simple.words and not simple.is_values and name in _KEYWORDS and not simple.assignments:
            raise NotUnderstood("a reserved word, or one in quotes")
        simple.words.append(word)

    def _word(self, node: Node) -> tuple[Word, int]:
        """(the word, where it begins: the grammar counts blanks before ``${`` to the expansion)"""
        start, end = _span(node)
        while self.source[start : start + 1] in (b" ", b"\t", b"\n") and start < end:
            start += 1
        found: dict[int, tuple[int, Any]] = {}
        pending = [node]
        while pending:
            item = pending.pop()
            if item.type in _EXPANSIONS:
                place = item.start_byte
                while self.source[place : place + 1] in (b" ", b"\t", b"\n"):
                    place += 1
                found[place] = (item.end_byte, self._expansion(item, place))
            else:
                pending += item.children
        return read_word(self.source, start, end, found), start

    def _expansion(self, node: Node, start: int) -> Any:
        text = self.source[start : node.end_byte].decode()
        if node.type == "expansion":
            if not text.endswith("}"):
                raise NotUnderstood("an expansion that is not closed")
            return _BRACED_NAME.sub(r"$\1", text) if _BRACED_NAME.fullmatch(text) else text
        if node.type == "command_substitution" and "\\" not in text and text[0] in "$`":
            opening, closing = ("$(", ")") if text.startswith("$(") else ("`", "`")
            first, last = node.children[0], node.children[-1]
            if (first.type, last.type) == (opening, closing):
                inner = _Reading(self.source, self.depth + 1).read(node, first.end_byte, last.start_byte, inside=True)
                return tuple(inner)
        return text

    def _assignment(self, node: Node) -> None:
        simple = self._simple(*_span(node))
        name, operator, *values = node.children
        if name.type != "variable_name" or name.end_byte != operator.start_byte or len(values) > 1:
            raise NotUnderstood("an assignment of another kind")
        value = text_word("")
        if values:
            if values[0].type not in _WORDS or values[0].start_byte != operator.end_byte:
                raise NotUnderstood("an assignment of another kind")
            value, _ = self._word(values[0])
        word = (Part("assignment", f"{_text(name)}{operator.type}"), *value)
        (simple.words if simple.words else simple.assignments).append(word)

    def _redirection(self, node: Node) -> None:
        children = list(node.children)
        descriptor = children.pop(0) if children[0].type == "file_descriptor" else None
        operator, *targets = children
        start = descriptor.start_byte if descriptor else operator.start_byte
        before = self.source[start - 1 : start]
        if descriptor and (descriptor.end_byte != operator.start_byte or before not in b" \t\n"):
            raise NotUnderstood("a number that touches a word")
        if not descriptor and _DESCRIPTOR.search(self.source[max(0, start - 40) : start]):
            raise NotUnderstood("a descriptor that was taken for a word")
        simple = self._simple(start, operator.end_byte)
        if operator.is_named or not targets or targets[0].type not in _WORDS:
            raise NotUnderstood("a redirection of another kind")
        number = _text(descriptor) if descriptor else "0" if operator.type.startswith("<") else "1"
        for index, target in enumerate(targets):
            word, begin = self._word(target)
            if not _BLANK.fullmatch(self.source[self.position : begin]):
                raise NotUnderstood("a redirection over the end of a line")
            self._simple(begin, target.end_byte)
            if index == 0:
                simple.redirections.append((number, operator.type, word))
            else:
                simple.words.append(word)

    def _heredoc(self, node: Node, level: int) -> None:
        parts = {child.type: child for child in node.children}
        if "heredoc_redirect" in parts or not {"heredoc_start", "heredoc_body", "heredoc_end"} <= parts.keys():
            raise NotUnderstood("several here-documents, or an empty one")
        operator, mark, *rest = node.children
        if operator.type not in ("<<", "<<-") or mark.type != "heredoc_start":
            raise NotUnderstood("a here-document with a descriptor")
        end = parts["heredoc_end"]
        delimiter = literal(read_word(self.source, *_span(mark), {}))
        line_end = self.source.index(b"\n", mark.end_byte)
        text = self.source[line_end + 1 : end.start_byte].decode()
        lines = [line.lstrip("\t") if operator.type == "<<-" else line for line in text.split("\n")]
        if _text(end).strip("\t" if operator.type == "<<-" else "") != delimiter:
            raise NotUnderstood("a here-document that ends elsewhere")
        if delimiter in lines or self.source[end.end_byte : end.end_byte + 1] not in (b"", b"\n"):
            raise NotUnderstood("a here-document that ends elsewhere")
        is_literal = self.source[mark.start_byte : mark.end_byte] != (delimiter or "").encode()
        is_literal |= not any(char in text for char in "$`\\")
        simple = self._simple(operator.start_byte, operator.end_byte)
        simple.redirections.append(("0", operator.type, text, is_literal))
        self.position = mark.end_byte
        for child in rest:
            if child.end_byte <= line_end:
                self._visit(child, level + 1)
        if not _BLANK.fullmatch(self.source[self.position : line_end]):
            raise NotUnderstood("bytes that belong to no token")
        self.position = end.end_byte


def _span(node: Node) -> tuple[int, int]:
    return node.start_byte, node.end_byte


def _text(node: Node) -> str:
    return (node.text or b"").decode()
