"""Shell commands that are known to only read: after any other, files may no longer be as they were seen."""

from __future__ import annotations

import functools
import re
import shlex
from typing import Any

from pivotrl.judging.shell.syntax import Token, read_command
from pivotrl.judging.shell.words import NotUnderstood, Word, literal

_READERS = frozenset(
    [
        *("cat", "head", "tail", "more", "less", "nl", "wc", "ls", "dir", "tree", "pwd", "cd", "pushd", "popd", "echo"),
        *(
            "grep",
            "egrep",
            "fgrep",
            "zgrep",
            "rg",
            "ag",
            "ack",
            "cut",
            "tr",
            "comm",
            "cmp",
            "diff",
            "stat",
            "file",
            "du",
        ),
        *("df", "which", "type", "whereis", "whoami", "id", "uname", "hostname", "realpath", "readlink", "dirname"),
        *(
            "basename",
            "test",
            "[",
            "true",
            "false",
            "sleep",
            "ps",
            "md5sum",
            "sha1sum",
            "sha256sum",
            "cksum",
            "xxd",
            "od",
        ),
        *(
            "hexdump",
            "strings",
            "column",
            "fold",
            "seq",
            "jobs",
            "exit",
            "clear",
            "printenv",
            "locale",
            "nproc",
            "free",
        ),
        *("uptime", "history", "man", "tac", "rev", "paste", "join", "exa", "eza", "bat", "fd", ":", "return", "wait"),
    ]
)
_GIT_READERS = frozenset(
    [
        "status",
        "diff",
        "log",
        "show",
        "blame",
        "grep",
        "ls-files",
        "ls-tree",
        "rev-parse",
        "describe",
        "shortlog",
        "cat-file",
    ]
)
_SPOILING = {
    "find": re.compile(r"-(?:delete|exec|execdir|ok|okdir|fprint\w*|fls)\Z"),
    "fd": re.compile(r"-(?:x|X|-exec\S*)\Z"),
    "sort": re.compile(r"-\w*o|--output"),
    "tree": re.compile(r"-\w*o\Z"),
    "git": re.compile(r"--output|--ext-diff|-O|--open-files"),
    "rg": re.compile(r"--pre\b"),
    "less": re.compile(r"-[oO]|--log-file"),
    "jq": re.compile(r"--in-?place|-i\Z"),
}
"""Options with which a program that reads does more."""
_SED_PRINTS = re.compile(r"(?:[0-9$]+|/(?:[^/\\]|\\.)*/)?(?:[,~+][0-9$+]+|,/(?:[^/\\]|\\.)*/)?[pq=](?:;|\Z)")
_VERSIONS = frozenset({"--version", "-V", "--help", "-h", "version"})
_NOWHERE = frozenset({"/dev/null", "/dev/stdout", "/dev/stderr", "1", "2"})


def only_reads(command: Any) -> bool:
    """Whether a command, as text or as a list of words, is known to change no file."""
    if isinstance(command, list) and all(isinstance(word, str) for word in command):
        is_script = (
            len(command) == 3 and command[1] in ("-c", "-lc") and command[0].rpartition("/")[2] in ("bash", "sh")
        )
        command = command[2] if is_script else shlex.join(command)
    return isinstance(command, str) and _only_reads(command)


@functools.lru_cache(maxsize=4096)
def _only_reads(command: str) -> bool:
    try:
        return all(map(_reads, read_command(command)))
    except NotUnderstood:
        return False


def _reads(token: Token) -> bool:
    if isinstance(token, str):
        return True
    for redirection in token.redirections:
        target = redirection[2]
        if ">" in redirection[1] and (not isinstance(target, tuple) or literal(target) not in _NOWHERE):
            return False
    words = [*token.assignments, *token.words]
    if not all(_expands_to_nothing_written(word) for word in words):
        return False
    return token.is_values or not token.words or _is_reader([literal(word) for word in token.words])


def _expands_to_nothing_written(word: Word) -> bool:
    return all(
        all(map(_reads, part.value))
        if isinstance(part.value, tuple)
        else not str(part.value).startswith(("<(", ">(", "`", "$("))
        for part in word
    )


def _is_reader(words: list[str | None]) -> bool:
    name, arguments = words[0], words[1:]
    if name in ("command", "time", "xargs", "timeout", "nohup", "sudo"):
        rest = [word for word in arguments if word is None or not re.fullmatch(r"-\S*|[0-9]+[smh]?|\{\}", word)]
        return bool(rest) and _is_reader(rest)
    if name is None:
        return False
    spoiling = _SPOILING.get(name)
    if spoiling and any(word is None or spoiling.match(word) for word in arguments):
        return False
    if name in _READERS or name in ("find", "sort"):
        return True
    given = [word for word in arguments if word is not None]
    if len(given) == len(arguments) == 1 and given[0] in _VERSIONS:
        return True
    if name == "git":
        while given[:1] == ["-C"] or given[:1] == ["-c"] or given[:1] == ["--no-pager"]:
            given = given[1:] if given[0] == "--no-pager" else given[2:]
        return bool(given) and given[0] in _GIT_READERS
    if name == "sed":
        scripts = [word for word in given if not word.startswith("-")]
        return (
            set(given) & {"-n", "--quiet"} != set()
            and not any(word.startswith(("-i", "--in-place")) or re.fullmatch(r"-\w*i\w*", word) for word in given)
            and bool(scripts)
            and not _SED_PRINTS.sub("", scripts[0].replace(" ", ""))
        )
    if name == "uniq":
        return len([word for word in arguments if word is None or not word.startswith("-")]) <= 1
    if name in ("pip", "pip3"):
        return given[:1] in (["list"], ["show"], ["freeze"])
    return name == "jq"
