"""Environments, one plugin per file, and access to their ``restore`` functions."""

from __future__ import annotations

from pivotrl import plugins
from pivotrl.protocols import Restore


def load_restore(spec: str) -> Restore:
    """``shell(root='tasks')`` -> the ``restore`` of the environment's module, with these options bound.

    Raises:
        InputError: the environment or option does not exist, or the module exports no ``restore``.
    """
    name, bracket, options = spec.strip().partition("(")
    module = plugins.find("environments", name.strip()).__module__
    found: Restore = plugins.load("environments", f"{module}:restore{bracket}{options}")
    return found
