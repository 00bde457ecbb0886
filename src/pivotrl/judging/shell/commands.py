"""Whether two shell commands do the same, judged without running them.

Commands are equal if their tokens are the same up to quoting, blanks, comments, the order of options that do not depend
on each other, the spelling of paths and harmless prefixes. Operators, redirections, assignments, here-documents and
everything that is expanded must be the same. What is not understood is compared as text. Since each command is brought
to one form on its own, the relation is reflexive, symmetric and transitive.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from pivotrl.judging.shell.options import EXTERNAL, normal_arguments, normal_path
from pivotrl.judging.shell.syntax import Simple, Token, read_command
from pivotrl.judging.shell.words import NotUnderstood, Part, Word, literal

_MOVES = {"cd", "pushd", "popd", "source", ".", "builtin", "chroot"}
"""Commands after which relative paths may start elsewhere."""


_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")

_HERE = {"<<", "<<-", "<<<"}
"""Redirections that cannot fail, so that their place beside that of another descriptor does not matter."""


def same_command(expected: str, actual: str, *, directory: str | None = None) -> bool:
    """Whether both do the same.

    Args:
        directory: absolute path of the folder they run in, when known: ``cd`` to it first is harmless then, and paths
            in it may be absolute.
    """
    return normal_command(expected, directory) == normal_command(actual, directory)


@functools.lru_cache(maxsize=256)
def normal_command(text: str, directory: str | None = None) -> tuple[Any, ...]:
    """One form for all commands that do the same; it begins with ``text`` when the command is not understood."""
    try:
        tokens = read_command(text)
    except NotUnderstood as reason:
        trimmed = text.strip(" \t\n")
        return ("text", text if trimmed.endswith("\\") else trimmed, str(reason))
    directory = directory.rstrip("/") if directory and directory.startswith("/") else None
    while tokens[1:2] == ["&&"] and (_goes_to(tokens[0], ".") or (directory and _goes_to(tokens[0], directory))):
        del tokens[:2]
    if any(_may_move(token) for token in tokens):
        directory = None
    return ("tokens", *(_normal(token, directory) for token in tokens))


def is_empty(text: str) -> bool:
    """Whether nothing is run: no command, or comments alone."""
    return normal_command(text) == ("tokens",)


def _goes_to(token: Token, directory: str) -> bool:
    if not isinstance(token, Simple) or token.assignments or token.redirections or len(token.words) != 2:
        return False
    name, target = token.words
    path = literal(normal_path(target, None, folders=True))
    return literal(name) == "cd" and path == directory


def _may_move(token: Token) -> bool:
    if isinstance(token, str) or not token.words:
        return False
    name = literal(_without_prefix(token.words)[0])
    return name is None or name in _MOVES


def _without_prefix(words: list[Word]) -> list[Word]:
    """The words without ``command``, and without ``env`` before a program that it can run."""
    while len(words) > 1:
        first, second = literal(words[0]), literal(words[1])
        if second is None or second.startswith("-") or "=" in second:
            break
        if first != "command" and not (first == "env" and second in EXTERNAL):
            break
        words = words[1:]
    return words


def _normal(token: Token, directory: str | None) -> Any:
    if isinstance(token, str):
        return token
    words = _with_sorted_assignments([_normal_word(word) for word in token.words])
    arguments = ("values", *words) if token.is_values else normal_arguments(_without_prefix(words), directory)
    redirections = tuple(
        tuple(_normal_word(item) if isinstance(item, tuple) else item for item in redirection)
        for redirection in token.redirections
    )
    numbers = [redirection[0] for redirection in redirections]
    operators = [redirection[1] for redirection in redirections]
    if len(set(numbers)) == len(numbers) == 2 and set(operators) & _HERE and not any("&" in sign for sign in operators):
        redirections = tuple(sorted(redirections, key=lambda redirection: redirection[0]))
    return (_sorted_assignments([_normal_word(word) for word in token.assignments]), arguments, redirections)


def _sorted_assignments(words: list[Word]) -> tuple[Word, ...]:
    """Assignments of fixed values to different names in one order; others keep theirs."""
    names = [_assigned(word) for word in words]
    return tuple(sorted(words, key=str)) if None not in names and len(set(names)) == len(names) else tuple(words)


def _assigned(word: Word) -> str | None:
    """The name that a word assigns a fixed value to: nothing in it is expanded."""
    if word and word[0].kind == "assignment" and word[0].value.endswith("="):
        name = word[0].value.rstrip("=+")
        return name if len(word) == 1 or (len(word) == 2 and word[1].kind == "text") else None
    found = _ASSIGNMENT.match(literal(word) or "")
    return found[1] if found else None


def _with_sorted_assignments(words: list[Word]) -> list[Word]:
    """``export`` and ``env`` with their assignments in one order."""
    if len(words) < 3 or literal(words[0]) not in ("export", "env"):
        return words
    end = next((i for i, word in enumerate(words[1:], 1) if _assigned(word) is None), len(words))
    return [words[0], *_sorted_assignments(words[1:end]), *words[end:]]


def _normal_word(word: Word) -> Word:
    """The word with the commands inside it in their one form."""
    return tuple(
        Part(part.kind, tuple(_normal(token, None) for token in part.value)) if isinstance(part.value, tuple) else part
        for part in word
    )
