"""`--help` of every command shows every option with its own text.

What the text should be is read from the source (recipes/options_page.py); tyro finds it in a way of its own.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

from pivotrl import cli
from pivotrl.plugins.meanings import arguments_of

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

import options_page


def options_of(command: Callable[..., object]) -> dict[str, str]:
    """Option -> text, positional arguments left out."""
    hints = typing.get_type_hints(command, include_extras=True)
    meanings, found = arguments_of(inspect.getdoc(command) or ""), {}
    for name in inspect.signature(command).parameters:
        if dataclasses.is_dataclass(hints[name]):
            found |= {option.name: option.meaning for option in options_page._fields(hints[name])}
        elif "Positional" not in repr(hints[name]):
            found[name] = meanings.get(name, "")
    return found


def squeezed(text: str) -> str:
    return re.sub(r"[\s│]", "", text)


def shown(page: str) -> dict[str, str]:
    """Option -> what the help says of it, without spaces."""
    parts = re.split(r"^[│ ] (?:-\w(?: \S+)?, )?--([a-z][a-z-]*)", page, flags=re.MULTILINE)
    return {flag.replace("-", "_"): squeezed(text) for flag, text in zip(parts[1::2], parts[2::2], strict=True)}


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_of_every_command_shows_every_option_with_its_own_text(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    page = capsys.readouterr().out
    assert stopped.value.code == 0
    expected, told = options_of(cli.COMMANDS[command]), shown(page)
    assert expected.keys() == told.keys() - {"help"}
    about = options_page._paragraph(cli.COMMANDS[command])
    assert squeezed(about) in squeezed(page)
    for name, text in expected.items():
        assert squeezed(text) in told[name], name
        assert text, f"{name} has no text"


def test_help_lists_every_command_with_what_it_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    page = squeezed(capsys.readouterr().out)
    for name, function in cli.COMMANDS.items():
        about = squeezed((inspect.getdoc(function) or "").partition("\n")[0])
        assert name + about in page, name
