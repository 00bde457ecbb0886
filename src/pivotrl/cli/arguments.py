"""Arguments of the command line to the call that they ask for."""

from __future__ import annotations

import contextlib
import functools
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tyro

from pivotrl.protocols import InputError


def parse(commands: Mapping[str, Callable[..., None]], arguments: Sequence[str] | None) -> Callable[[], None]:
    """The command, ready to be run.

    Raises:
        InputError: an argument is empty, or an option refused its value (:mod:`pivotrl.options`), where tyro would draw
            a box around it.
        SystemExit: help was asked for, or tyro refused the arguments and said why on stderr.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _refuse_empty(arguments)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            chosen: Callable[[], None] = tyro.extras.subcommand_cli_from_dict(
                {name: _later(command) for name, command in commands.items()},
                prog="pivotrl",
                description="Train agents at the turns that matter.",
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes,),
            )
            return chosen
    except SystemExit as stop:
        for cause in _causes(stop):
            if isinstance(cause, InputError):
                raise cause from None
        sys.stderr.write(said.getvalue())
        raise


def _refuse_empty(arguments: Sequence[str]) -> None:
    """No option has a meaning when it is empty, and an empty path would be the current directory."""
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if argument and not (name.startswith("-") and equals and not value):
            continue
        before = arguments[number - 1] if number else ""
        place = name or (before if before.startswith("-") else f"argument {number + 1}")
        raise InputError(f"{place} is empty; give a value, or leave it out (a variable of your shell may be unset)")


def _later(command: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    @functools.wraps(command)
    def bind(*values: Any, **named: Any) -> Callable[[], None]:
        return functools.partial(command, *values, **named)

    return bind


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause = error.__context__
    while cause is not None:
        yield cause
        cause = cause.__context__
