"""The one command in an agent's answer, whatever stands around it: a thought, JSON, backticks, a label."""

from __future__ import annotations

import re

from pivotrl.records.strict_json import parse_json

_MAX_CHARACTERS = 8_000
_MAX_COMMAND = 100
_OBJECT = re.compile(r"\{[^{}]*\}")
_QUOTED = re.compile(r"(?<!`)`++([^`\n]+)`")
_LABELLED = re.compile(
    r"^[ \t>*_#-]*(?:\w+ )?(?:action|command)[*_]*[ \t]*[:=][ \t*_]*(\S.*)$", re.IGNORECASE | re.MULTILINE
)
_BARE = re.compile(r"[A-Za-z0-9' -]+")
VERBS = frozenset(
    re.findall(
        r"\w+",
        "go walk run north south east west enter take get pick carry grab hold remove open close shut lock "
        "unlock insert put place drop discard throw eat look examine inspect inventory",
    )
)
"""First words of commands. Anything else might be an order to the interpreter, such as `restart` or `save`."""
_SEVERAL = frozenset({"all", "and", "both", "but", "each", "every", "everything", "except", "it", "them", "then"})
"""Words by which a command does several things at once, or means what an earlier one said."""


class NoCommand(ValueError):
    """The text is not one command; ``reason`` is a short code."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def find_command(text: str | None) -> str:
    """The command in an answer, its blanks reduced to one each, without a final full stop.

    It is the value of ``action`` or ``command`` in a JSON object, or a text between backticks, or what follows a label
    such as ``Command:``, or else the last line.

    Raises:
        NoCommand: ``no_command``; ``several_commands``: more than one is marked or stands on a line of its own, even
            the same one twice; ``too_long``.
    """
    text = text or ""
    if len(text) > _MAX_CHARACTERS:
        raise NoCommand("too_long")
    marked = _in_objects(text) or _QUOTED.findall(text) or _LABELLED.findall(text)
    if len(marked) > 1:
        raise NoCommand("several_commands")
    if marked:
        found = _tidy(marked[0])
    else:
        lines = [line.strip() for line in text.splitlines() if _tidy(line)]
        if any(_looks_bare(_tidy(line)) and line[-1] not in ".!?:;," for line in lines[:-1]):
            raise NoCommand("several_commands")
        found = _tidy(lines[-1]) if lines else ""
    if not _looks_bare(found):
        raise NoCommand("no_command")
    return found


def names_several(command: str) -> bool:
    """Whether a command does several things at once, or depends on what was said before."""
    return not _SEVERAL.isdisjoint(command.lower().split())


def _in_objects(text: str) -> list[str]:
    found = []
    for written in _OBJECT.findall(text):
        try:
            value = parse_json(written)
        except ValueError:
            continue
        if isinstance(value, dict):
            found += [str(value[key]) for key in ("action", "command") if key in value]
    return found


def _tidy(text: str) -> str:
    return " ".join(text.split()).strip('`*"> ').removesuffix(".").strip('`*" ')


def _looks_bare(text: str) -> bool:
    words = text.lower().split(maxsplit=1)
    return bool(words) and words[0] in VERBS and len(text) <= _MAX_COMMAND and bool(_BARE.fullmatch(text))
