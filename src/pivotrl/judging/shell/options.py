"""The options of common commands: which may come in any order, which take values, which operands are paths.

A command that is not in the table, or that is called with an option that is not, keeps every word in its place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pivotrl.judging.shell.words import Part, Word, is_fixed, is_one, literal, text_word

_TABLE: dict[str, tuple[str, str]] = {
    # name: (options, rules). An option is `short/long`, `short` or `long`; `:` after it takes a value, `?` may take one
    # that is attached. Rules: `=ab` options of which the last wins or whose order counts; `paths`, `folders`: operands
    # are paths; `skip` the first, unless one of `skip-ef` is given; `first`: options end at the first operand;
    # `#n`: `-5` means `-n 5`; `#first`: only as the first word, before one file at most; `strict--`: `--` means
    # something.
    "ls": (
        "a/all A/almost-all B/ignore-backups c C d/directory F/classify? g G/no-group h/human-readable i/inode k l L n "
        "r/reverse R/recursive s/size S t u v x X 1 color? group-directories-first",
        "=aA =lgnC1xm =tuScvX paths",
    ),
    "cat": ("A/show-all b/number-nonblank e E/show-ends n/number s/squeeze-blank t T/show-tabs v", "=bn paths"),
    "head": ("n/lines: c/bytes: q/quiet v/verbose", "=nc =qv paths #first"),
    "tail": ("n/lines: c/bytes: q/quiet v/verbose f F", "=nc =qv =fF paths #first"),
    "wc": ("c/bytes l/lines m/chars w/words L/max-line-length", "paths"),
    "grep": (
        "a/text A/after-context: B/before-context: C/context: c/count E/extended-regexp e/regexp: F/fixed-strings "
        "f/file: G/basic-regexp H/with-filename h/no-filename i/ignore-case I l/files-with-matches "
        "L/files-without-match m/max-count: n/line-number o/only-matching P/perl-regexp q/quiet r/recursive "
        "R/dereference-recursive s/no-messages v/invert-match w/word-regexp x/line-regexp color? include: exclude: "
        "exclude-dir:",
        "=EFGP =Hh =lLcqo =ABC =ef =rR =include,exclude =aI paths skip skip-ef",
    ),
    "rm": ("f/force i I r/R/recursive d/dir v/verbose", "=fiI paths"),
    "cp": (
        "a/archive f/force i/interactive n/no-clobber L/dereference P/no-dereference p r/R/recursive "
        "T/no-target-directory t/target-directory: u v/verbose",
        "=fin =LPadpT paths",
    ),
    "mv": (
        "f/force i/interactive n/no-clobber T/no-target-directory t/target-directory: u v/verbose",
        "=fin =Tt paths",
    ),
    "mkdir": ("p/parents m/mode: v/verbose", "folders"),
    "rmdir": ("p/parents v/verbose", "paths"),
    "touch": ("a c/no-create m", "paths"),
    "chmod": ("R/recursive v/verbose c/changes f/silent", "=vcf paths skip"),
    "cd": ("", "folders"),
    "sed": (
        "n/quiet e/expression: f/file: E/regexp-extended r i/in-place? s/separate z/null-data",
        "=ef =Er =is paths skip skip-ef",
    ),
    "sort": ("b d f g h i M n R r V k: t: u", "=gnhMVRbdfi paths"),
    "uniq": ("c/count d/repeated i/ignore-case u/unique", "paths"),
    "cut": (
        "b/bytes: c/characters: f/fields: d/delimiter: s/only-delimited complement output-delimiter:",
        "=bcf paths",
    ),
    "diff": ("u r/recursive q/brief N/new-file w/ignore-all-space b B U/unified:", "=uUq paths"),
    "python": ("B E I O s S u v W: X:", "=B =O first paths"),
    "python3": ("B E I O s S u v W: X:", "=B =O first paths"),
    "pytest": (
        "v/verbose q/quiet x/exitfirst s l/showlocals k: m: p: n: r: c: tb: maxfail: durations: lf/last-failed "
        "ff/failed-first collect-only co no-header disable-warnings no-cov timeout: cov-report:",
        "=vq =x,maxfail =lf,ff folders",
    ),
    "pip install": (
        "e/editable: r/requirement: c/constraint: U/upgrade q/quiet v/verbose no-deps pre user "
        "no-cache-dir no-build-isolation i/index-url: extra-index-url: f/find-links: force-reinstall",
        "=er =qv =index-url,extra-index-url",
    ),
    "make": ("C/directory: f/file: k/keep-going n/dry-run s/silent B/always-make", "=k =C,f"),
    "curl": (
        "s/silent S/show-error L/location f/fail i/include I/head k/insecure v/verbose o/output: O X/request: "
        "H/header: d/data: u/user: A/user-agent: m/max-time: compressed data-raw:",
        "=oO =d,data-raw =iI",
    ),
    "git add": ("A/all f/force n/dry-run u/update v/verbose N/intent-to-add", "=Au paths strict--"),
    "git status": ("s/short b/branch v/verbose z porcelain? long", "=s,porcelain,long strict--"),
    "git diff": (
        "p/patch s stat? name-only name-status cached staged w/ignore-all-space b no-color color? U/unified:",
        "=p,s,stat,name-only,name-status,U =color,no-color strict--",
    ),
    "git log": (
        "p/patch s n/max-count: oneline stat? name-only name-status graph all decorate? no-decorate no-merges "
        "merges reverse follow author: since: until: grep: S: G: format: pretty?",
        "=p,s,stat,name-only,name-status =oneline,format,pretty =S,G =decorate,no-decorate #n strict--",
    ),
    "git show": (
        "p/patch s stat? name-only name-status oneline format: pretty? no-color",
        "=p,s,stat,name-only,name-status =oneline,format,pretty strict--",
    ),
    "git commit": (
        "a/all m/message: q/quiet v/verbose n/no-verify s/signoff amend no-edit allow-empty author: date:",
        "strict--",
    ),
}
_BUILTINS = {"cd"}
EXTERNAL = {name.partition(" ")[0] for name in _TABLE} - _BUILTINS
"""Programs of the table; ``env`` runs the same ones."""

_NUMBER = re.compile(r"-[0-9]+\Z")
_SLASHES = re.compile(r"/(?:\.?/)+")


@dataclass(frozen=True)
class _Options:
    names: dict[str, tuple[str, Literal["", ":", "?"]]]
    """``-n`` or ``--lines`` -> (one name for both, whether it takes a value)"""
    groups: dict[str, str] = field(default_factory=dict)
    """Name -> the group in which order counts."""
    rules: frozenset[str] = frozenset()


def _read_options(options: str, rules: str) -> _Options:
    names: dict[str, tuple[str, Literal["", ":", "?"]]] = {}
    for item in options.split():
        arity: Literal["", ":", "?"] = ":" if item.endswith(":") else "?" if item.endswith("?") else ""
        written = item.rstrip(":?").split("/")
        for name in written:
            names["-" + name if len(name) == 1 else "--" + name] = (written[0], arity)
    groups: dict[str, str] = {}
    for rule in rules.split():
        if rule.startswith("="):
            members = rule[1:].split(",") if "," in rule else list(rule[1:])
            groups |= {names.get("--" + name, (name, ""))[0]: members[0] for name in members}
    return _Options(names, groups, frozenset(rule for rule in rules.split() if not rule.startswith("=")))


_OPTIONS = {name: _read_options(*row) for name, row in _TABLE.items()}


def normal_arguments(words: Sequence[Word], directory: str | None) -> tuple[Any, ...]:
    """The words of a simple command in one spelling: options sorted where their order does not matter.

    Args:
        directory: the absolute path that relative paths start from, when known.
    """
    name = literal(words[0]) if words else None
    if name and " " in name:
        return ("words", *words)
    if name in ("git", "pip", "pip3") and len(words) > 1 and literal(words[1]) is not None:
        name = f"{'pip' if name == 'pip3' else name} {literal(words[1])}"
    known = _OPTIONS.get(name or "")
    if known is None or name is None:
        return ("words", *words)
    head = 1 + (" " in name)
    read = _read_arguments(words[head:], known)
    if read is None:
        return ("words", *words)
    flags, operands, rest = read
    if "first" in known.rules:
        return (*words[:head], "options", flags, *_script([*operands, *rest], directory))
    is_path = "paths" in known.rules or "folders" in known.rules
    patterns = [flag for flag in flags if flag[0] in ("e", "f")] if "skip-ef" in known.rules else []
    if len(patterns) == 1 and patterns[0][0] == "e" and patterns[0][1]:  # -e before the only pattern changes nothing
        flags = tuple(flag for flag in flags if flag != patterns[0])
        operands = [patterns.pop()[1], *operands]
    has_pattern = bool(patterns)
    skipped = int("skip" in known.rules and not has_pattern)
    if is_path:
        folders = "folders" in known.rules
        operands = [
            word if index < skipped else normal_path(word, directory, folders=folders)
            for index, word in enumerate(operands)
        ]
    return (*words[:head], "options", flags, tuple(operands), rest)


def _script(operands: list[Word], directory: str | None) -> tuple[Any, ...]:
    """What follows the options of an interpreter: a script and its arguments, or a module and its own."""
    first = literal(operands[0]) if operands else None
    if first == "-m" and len(operands) > 1 and literal(operands[1]) in ("pytest", "pip"):
        return ("-m", normal_arguments(operands[1:], directory))
    if first is None or first.startswith("-"):
        return ("words", *operands)
    return ("script", normal_path(operands[0], directory), *operands[1:])


def _read_arguments(
    words: Sequence[Word], known: _Options
) -> tuple[tuple[Any, ...], list[Word], tuple[Word, ...]] | None:
    """(options in groups, operands, what keeps its place), None when an option is not known."""
    flags: list[tuple[str, Word | None]] = []
    operands: list[Word] = []
    index = 0
    while index < len(words):
        word = words[index]
        if not is_fixed(word) and word != text_word(""):
            return _sorted(flags, known), operands, tuple(words[index:])
        start = word[0].value
        index += 1
        if start == "--" and len(word) == 1:
            rest = words[index:]
            if "strict--" in known.rules or not all(is_fixed(w) and not w[0].value.startswith("-") for w in rest):
                return _sorted(flags, known), operands, tuple(words[index - 1 :])
            operands += rest
            break
        if not start.startswith("-") or (start == "-" and len(word) == 1):
            operands.append(word)
            if "first" in known.rules:
                operands += words[index:]
                break
            continue
        if "first" in known.rules and start in ("-m", "-c"):
            operands += words[index - 1 :]
            break
        if _NUMBER.match(start) and len(word) == 1:
            if not ("#n" in known.rules or ("#first" in known.rules and index == 1 and len(words) <= 2)):
                return None
            flags.append(("n", text_word(start[1:])))
            continue
        found = _read_flag(word, words[index] if index < len(words) else None, known)
        if found is None:
            return None
        flags += found[0]
        index += found[1]
    return _sorted(flags, known), operands, ()


def _read_flag(word: Word, following: Word | None, known: _Options) -> tuple[list[tuple[str, Word | None]], int] | None:
    """(options that a word holds, how many further words it takes), None when one is not known."""
    start, tail = word[0].value, word[1:]
    if start.startswith("--"):
        name, equals, value = start.partition("=")
        option, arity = known.names.get(name, (None, ""))
        if option is None or (tail and not equals) or (equals and not arity):
            return None
        if equals:
            return [(option, _joined(value, tail))], 0
        return _with_value(option, following) if arity == ":" else ([(option, None)], 0)
    flags: list[tuple[str, Word | None]] = []
    for place, letter in enumerate(start[1:], 2):
        option, arity = known.names.get("-" + letter, (None, ""))
        if option is None or (place == len(start) and tail and not arity):
            return None
        attached = start[place:]
        if not arity or (arity == "?" and not attached and not tail):
            flags.append((option, None))
        elif attached or tail:
            return [*flags, (option, _joined(attached, tail))], 0
        else:
            found = _with_value(option, following)
            return None if found is None else ([*flags, *found[0]], 1)
    return flags, 0


def _with_value(option: str, following: Word | None) -> tuple[list[tuple[str, Word | None]], int] | None:
    # An expansion without quotes may be no word or several, and a wildcard too.
    if following is None or not is_one(following) or any(part.kind == "wildcard" for part in following):
        return None
    return [(option, following)], 1


def _joined(text: str, tail: Word) -> Word:
    return ((Part("text", text),) if text or not tail else ()) + tail


def _sorted(flags: list[tuple[str, Word | None]], known: _Options) -> tuple[Any, ...]:
    # Stable: options of a group keep their order.
    return tuple(sorted(flags, key=lambda flag: known.groups.get(flag[0], flag[0])))


def normal_path(word: Word, directory: str | None, *, folders: bool = False) -> Word:
    """The path without what changes nothing. ``..`` stays, and a final slash except where only folders are named."""
    text = literal(word)
    if not text or text.startswith(("//", ":")):
        return word
    path, mark, rest = text.partition("::")
    path = _SLASHES.sub("/", path)
    if directory and directory != "/" and (path + "/").startswith(directory + "/"):
        path = "./" + path[len(directory) + 1 :]
    while path.startswith("./") and not path.startswith("./-"):
        path = path[2:] or "."
        if path.startswith("/"):
            return word
    if folders and len(path) > 1:
        path = path.removesuffix("/")
    return text_word(path + mark + rest)
