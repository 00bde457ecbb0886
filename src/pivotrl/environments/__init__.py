"""Environments, one plugin a file, and how the states of their turns are had again."""

from __future__ import annotations

from pivotrl import plugins
from pivotrl.protocols import Restore


def load_restore(spec: str) -> Restore:
    """``shell(root='tasks')`` -> the ``restore`` that the environment's module exports, its options bound.

    Raises:
        InputError: there is no such environment or option, or its module exports no ``restore``.
    """
    name, bracket, options = spec.strip().partition("(")
    module = plugins.find("environments", name.strip()).__module__
    found: Restore = plugins.load("environments", f"{module}:restore{bracket}{options}")
    return found
