"""Whether the command line takes a command, without running it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

import pytest
import tyro

from pivotrl import cli


def require_parses(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Args:
    words: without `pivotrl` itself.
    """
    called = []
    stubs = {}
    for name, function in cli.COMMANDS.items():

        def stub(*arguments: object, _name: str = name, **options: object) -> None:
            called.append(_name)

        stub.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
        stub.__annotations__ = {n: p.annotation for n, p in stub.__signature__.parameters.items()}  # type: ignore[attr-defined]
        stub.__doc__ = function.__doc__
        stubs[name] = stub
    monkeypatch.setattr(cli, "COMMANDS", stubs)
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "plugins"))  # a method is loaded while its options are read
    tyro.extras.subcommand_cli_from_dict(stubs, prog="pivotrl", args=list(words), config=(tyro.conf.OmitArgPrefixes,))
    assert called == [words[0]]
