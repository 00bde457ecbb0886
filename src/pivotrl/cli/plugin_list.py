"""`pivotrl list`: the plugins, one line each, or one plugin with its options."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable
from typing import Any

from rich.padding import Padding

from pivotrl import plugins
from pivotrl.cli.tables import out, plain
from pivotrl.plugins.meanings import first_line, meanings_of
from pivotrl.protocols import InputError


def print_plugins(kind: str | None, name: str | None, as_json: bool) -> None:
    """Print every plugin, those of one kind, or one with its options.

    Raises:
        InputError: the kind or the plugin does not exist.
    """
    if kind is not None and kind not in plugins.EXPORTS:
        raise InputError(plugins.unknown(f"no kind of plugin called {kind!r}", kind, plugins.EXPORTS))
    kinds = [kind] if kind else list(plugins.EXPORTS)
    if name is not None:
        plugins.find(kinds[0], name)  # says what is wrong with it
        _print_one(kinds[0], name, as_json)
    elif as_json:
        print(json.dumps([_described(group, one) for group in kinds for one in plugins.names(group)], indent=2))
    else:
        _print_lines(kinds)


def _print_lines(kinds: Iterable[str]) -> None:
    listed = {kind: plugins.names(kind) for kind in kinds}
    width = max(len(name) for names in listed.values() for name in names)
    for kind, names in listed.items():
        out.print(f"[bold]{kind}[/] ({len(names)})")
        for name in names:
            about = _readable(_about(kind, name))
            room = max(20, out.width - width - 4)
            out.print(f"  [cyan]{plain(name.ljust(width))}[/]  {plain(_short(about, room))}", soft_wrap=True)
    kind = next(iter(listed))
    out.print(f"options of one: pivotrl list {kind} {listed[kind][0]}; of all: docs/options.md")


def _about(kind: str, name: str) -> str:
    try:
        return first_line(kind, name)
    except InputError as error:
        return f"unusable: {error}"


def _print_one(kind: str, name: str, as_json: bool) -> None:
    row = _described(kind, name)
    if as_json:
        print(json.dumps(row, indent=2))
        return
    out.print(f"[cyan]{plain(name)}[/]  {plain(_readable(row['about']))}")
    if not row["options"]:
        out.print("no options")
    meanings = meanings_of(plugins.find(kind, name))
    for option, default in row["options"].items():
        out.print(f"  [bold]{option}[/] = {plain(default)}")
        if text := _readable(meanings.get(option, "")):
            out.print(Padding(plain(text), (0, 0, 0, 6)))


def _described(kind: str, name: str) -> dict[str, Any]:
    try:
        known = plugins.options_of(plugins.find(kind, name)).items()
        empty = inspect.Parameter.empty
        options = {n: "(required)" if p.default is empty else _default(p.default) for n, p in known}
        about = first_line(kind, name)
    except InputError as error:
        options, about = {}, f"unusable: {error}"
    return {"kind": kind, "name": name, "options": options, "about": about}


def _default(value: Any) -> str:
    return str(getattr(value, "__name__", None) or repr(value))


def _readable(text: str) -> str:
    """Without the marks of reStructuredText, on one line."""
    text = re.sub(r":\w+:`~?(.+?)`", r"\1", " ".join(text.split()))
    return text.replace("``", "")


def _short(text: str, width: int) -> str:
    """As many whole words as fit."""
    if len(text) <= width:
        return text
    return f"{text[: width - 1].rpartition(' ')[0].rstrip(',;:.')} …"
