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
        InputError: an option refused its value (:mod:`pivotrl.options`), where tyro would draw a box around it.
        SystemExit: help was asked for, or tyro refused the arguments and said why on stderr.
    """
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
