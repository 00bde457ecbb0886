"""Environments, one plugin per file, and access to their ``restore`` and ``render_view`` functions."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol

from pivotrl import plugins
from pivotrl.protocols import InputError, Restore
from pivotrl.records import Message


class RenderView(Protocol):
    """An environment module's optional ``render_view``: what the pivot browser draws beside messages.

    Returns:
        message index -> view, a dict of JSON with a ``kind``; docs/plugins.md lists the kinds.
    """

    def __call__(self, messages: Sequence[Message], metadata: dict[str, Any]) -> dict[int, dict[str, Any]]: ...


def load_restore(spec: str) -> Restore:
    """``shell(root='tasks')`` -> the ``restore`` of the environment's module, with these options bound.

    Raises:
        InputError: the environment or option does not exist, or the module exports no ``restore``.
    """
    name, bracket, options = spec.strip().partition("(")
    module = plugins.find("environments", name.strip()).__module__
    found: Restore = plugins.load("environments", f"{module}:restore{bracket}{options}")
    return found


def load_view(spec: str) -> RenderView | None:
    """The ``render_view`` of an environment's module; None if it exports none. Options do not matter.

    Raises:
        InputError: the environment does not exist.
    """
    name, _ = plugins.parse_spec(spec)
    module = importlib.import_module(plugins.find("environments", name).__module__)
    found = getattr(module, "render_view", None)
    if found is not None and not callable(found):
        raise InputError(f"render_view of {module.__name__} is not a function; export one, or rename it")
    return found
