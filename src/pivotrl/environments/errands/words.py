"""The wordings of the moves of `errands`: from text to a move, and back."""

from __future__ import annotations

import re
from typing import NamedTuple

from pivotrl.records.strict_json import parse_json

ROOMS = ("attic", "cellar", "garden", "hall", "kitchen", "porch", "shed", "study")
THINGS = ("bell", "book", "coin", "cup", "drum", "hat", "key", "lamp", "ring", "rope", "shoe", "vase")

WORDINGS = {
    "go": ("go {}", "go to {}", "walk to {}", "move to {}", "head to {}"),
    "take": ("take {}", "get {}", "grab {}", "pick up {}", "fetch {}"),
    "put": ("put {}", "drop {}", "leave {}", "put down {}", "set down {}"),
    "ask": ("ask {}", "ask about {}", "ask for {}", "where is {}", "locate {}"),
    "look": ("look", "look around", "wait"),
}
"""The first wording of each verb is the canonical one."""

_MAX_TEXT = 4000
_WHAT = {"go": ROOMS, "take": THINGS, "put": THINGS, "ask": THINGS}


class Move(NamedTuple):
    """``verb`` is a key of :data:`WORDINGS`; ``what`` is a room after ``go``, nothing after ``look``, else a thing."""

    verb: str
    what: str = ""

    @property
    def text(self) -> str:
        """The canonical wording."""
        return WORDINGS[self.verb][0].format(self.what)


class Command(NamedTuple):
    """The command in an agent's text."""

    move: Move
    wording: str
    """As the agent wrote it, in lower case, without its thought."""


class NoCommand(ValueError):
    """The text holds no command, or several; its text is ``no_command``, ``two_commands`` or ``too_long``."""


def _pattern(verb: str) -> re.Pattern[str]:
    what = f"(?:the )?(?P<what>{'|'.join(_WHAT[verb])})" if verb in _WHAT else ""
    forms = "|".join(re.escape(form.removesuffix(" {}")) for form in sorted(WORDINGS[verb], key=len, reverse=True))
    return re.compile(rf"(?:please |i |i will |let me )?(?:{forms}){' ' + what if what else ''}(?: now| please)?")


_PATTERNS = {verb: _pattern(verb) for verb in WORDINGS}
_SENTENCE_ENDS = re.compile(r"[\n.!?;]|\b(?:do|action|command):")


def parse_sentence(text: str) -> Move | None:
    """The move that one sentence says, and nothing else; None if it says none."""
    words = " ".join(text.lower().split())
    for verb, pattern in _PATTERNS.items():
        if found := pattern.fullmatch(words):
            return Move(verb, found["what"] if verb in _WHAT else "")
    return None


def read_command(text: str) -> Command:
    """The command in a text.

    A command is a sentence that says one move in any wording: ``take lamp``, ``Please pick up the lamp.`` A thought
    may stand before it. So the last sentence must be a command, and no sentence before it may be one. Sentences end at
    ``. ! ? ;``, at a line break, and before the command after ``do:``, ``action:`` or ``command:``. A last line that
    is a JSON object says its move in ``command``, or as ``action`` (a verb) and ``object``; other keys are a thought.

    Raises:
        NoCommand: there is no command, or more than one.
    """
    if len(text) > _MAX_TEXT:
        raise NoCommand("too_long")
    text = text.strip()
    before, last = "", text
    if text.endswith("}"):
        if not text.startswith("{"):
            before, _, last = text.rpartition("\n")
        before, last = _from_json(before, last.strip())
    sentences = [" ".join(part.split()) for part in _SENTENCE_ENDS.split(last.lower())]
    *thoughts, command = [sentence for sentence in sentences if sentence] or [""]
    move = parse_sentence(command)
    if move is None:
        raise NoCommand("no_command")
    if any(parse_sentence(sentence) for sentence in (*thoughts, *_SENTENCE_ENDS.split(before.lower()))):
        raise NoCommand("two_commands")
    return Command(move, command)


def _from_json(before: str, text: str) -> tuple[str, str]:
    """(thought, command) of a JSON object."""
    try:
        fields = parse_json(text)
    except (ValueError, RecursionError):
        raise NoCommand("no_command") from None
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        raise NoCommand("no_command")
    if "command" in fields and "action" in fields:
        raise NoCommand("two_commands")
    parts = [fields.pop(key, "") for key in ("command", "action", "object")]
    command = " ".join(part for part in parts if part)
    if _SENTENCE_ENDS.search(command.rstrip(".!? ")):
        raise NoCommand("two_commands" if len(list(_commands(command))) > 1 else "no_command")
    return "\n".join((before, *fields.values())), command


def _commands(text: str) -> list[Move]:
    return [move for part in _SENTENCE_ENDS.split(text.lower()) if (move := parse_sentence(part))]
