"""Every flag of every command and every built-in plugin with its options. Fills docs/options.md.

python recipes/options_page.py            # writes the page, in seconds
"""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import re
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from pivotrl import plugins
from pivotrl.cli import COMMANDS
from pivotrl.cli.cluster.options import RayCluster
from pivotrl.plugins.meanings import arguments_of, meanings_of, texts_under_fields

DOCUMENT = Path(__file__).parents[1] / "docs" / "options.md"

HEAD = """# Options

`recipes/options_page.py` generates this page from the docstrings, and `tests/test_options_page.py` checks it.
`pivotrl COMMAND --help` and `pivotrl list` show the same on the command line.

"""

PLUGINS = """## Plugins

Name a plugin as text, with options as Python literals: `tool_call`, `tool_call(ignore_case=True)`. Your own is
`my_package.my_module:verify(limit=3)` ([plugins.md](plugins.md)).

"""


class Option(NamedTuple):
    """One flag or keyword."""

    name: str
    default: Any
    annotation: Any
    meaning: str
    is_positional: bool = False


def page() -> str:
    """The whole document."""
    groups: dict[str, type] = {}
    commands = [_command(name, function, groups) for name, function in COMMANDS.items()]
    shared = [f"### {title}\n\n{_summary(cls)}\n\n{_table(_fields(cls), _flag)}" for title, cls in groups.items()]
    kinds = [part for kind in plugins.EXPORTS for part in _kind(kind)]
    cluster = f"## Cluster\n\n### `ray`\n\nOf `--cluster`. {_summary(RayCluster)}\n\n{_table(_fields(RayCluster), str)}"
    parts = (HEAD + "## Commands\n", *commands, "## Shared options\n", *shared, cluster, PLUGINS + "\n".join(kinds))
    return "\n".join(parts)


def _command(name: str, function: Callable[..., Any], groups: dict[str, type]) -> str:
    """A command's section; the groups of flags that it takes are added to ``groups``."""
    types, meanings = typing.get_type_hints(function, include_extras=True), arguments_of(inspect.getdoc(function) or "")
    own, taken = [], []
    for key, parameter in inspect.signature(function).parameters.items():
        if dataclasses.is_dataclass(types[key]):
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", types[key].__name__.removesuffix("Options"))
            title = f"{words.capitalize()} options"
            groups.setdefault(title, types[key])
            taken.append(title)
        else:
            is_positional = "Positional" in repr(types[key])
            own.append(Option(key, parameter.default, types[key], meanings.get(key, ""), is_positional))
    lines = [f"### `pivotrl {name}`", "", _paragraph(function), "", _table(own, _flag)]
    if taken:
        links = ", ".join(f"[{title.lower()}](#{title.lower().replace(' ', '-')})" for title in taken)
        lines += [f"Also takes the {links}.", ""]
    return "\n".join(lines)


def _fields(cls: Any) -> Iterator[Option]:
    """The fields of a dataclass of options with the text under each; those of a nested one in its place."""
    types, meanings = typing.get_type_hints(cls, include_extras=True), texts_under_fields(cls)
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(types[field.name]):
            yield from _fields(types[field.name])
            continue
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        yield Option(field.name, default, types[field.name], meanings.get(field.name, ""))


def _kind(kind: str) -> Iterator[str]:
    yield f"### {kind.capitalize()}\n"
    room = import_module(f"pivotrl.{kind}")
    for name in sorted(module.name for module in pkgutil.iter_modules(room.__path__)):
        target = plugins.find(kind, name)
        meanings = meanings_of(target)
        options = [
            Option(key, parameter.default, parameter.annotation, meanings.get(key, ""))
            for key, parameter in plugins.options_of(target).items()
        ]
        yield f"**`{name}`**: {_first_sentence(inspect.getmodule(target))}\n"
        if options:
            yield _table(options, str)


def _table(options: Any, written: Callable[[str], str]) -> str:
    lines = ["| option | default | meaning |", "| --- | --- | --- |"]
    for option in options:
        name = option.name.upper() if option.is_positional else written(option.name)
        lines.append(
            f"| `{name}` | {_default(option.default)} | {_cell(_choices(option.annotation) + option.meaning)} |"
        )
    return "\n".join(lines) + "\n"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _default(value: Any) -> str:
    if value in (inspect.Parameter.empty, dataclasses.MISSING):
        return "required"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if callable(value):
        return f"`{value.__name__}`"
    return "none" if value is None else f"`{value}`" if value != "" else ""


def _choices(annotation: Any) -> str:
    """``One of a, b. `` for a type that lists its values; a string is an annotation that was never resolved."""
    if isinstance(annotation, str):
        inside = re.search(r"Literal\[(.+?)\]", annotation)
        values = re.findall(r"['\"](.*?)['\"]", inside[1]) if inside else []
    else:
        parts = (annotation, *typing.get_args(annotation))
        values = [v for part in parts if typing.get_origin(part) is typing.Literal for v in typing.get_args(part)]
    return f"One of {', '.join(f'`{value}`' for value in values)}. " if values else ""


def _cell(text: str) -> str:
    """On one line, with what Markdown would take for a tag or a column escaped; code is left as it is."""
    parts = _plain(" ".join(text.split())).replace("|", "\\|").split("`")
    return "`".join(part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(parts)).strip()


def _plain(text: str) -> str:
    """A docstring's roles and double quotes, as Markdown."""
    text = re.sub(r":\w+:`~?(.+?)`", lambda found: f"`{found[1].removeprefix('pivotrl.')}`", text)
    return re.sub(r"``(.+?)``", r"`\1`", text)


def _paragraph(target: Any) -> str:
    """What a docstring says before its sections."""
    text = (inspect.getdoc(target) or "").partition("\nArgs:")[0]
    return _plain(re.sub(r"\n(?!\n)(?<!\n\n)", " ", text).strip())


def _summary(target: Any) -> str:
    return _plain(" ".join((inspect.getdoc(target) or "").split("\n\n")[0].split()))


def _first_sentence(module: Any) -> str:
    return _summary(module).partition(". ")[0].rstrip(".") + "."


if __name__ == "__main__":
    DOCUMENT.write_text(page(), encoding="utf-8")
