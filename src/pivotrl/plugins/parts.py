"""Checks that a plugin has the parts it needs, and names the missing ones."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pivotrl.plugins.describing import describe
from pivotrl.plugins.faults import told
from pivotrl.protocols import InputError

SEE = "see docs/plugins.md"


def require_parts(plugin: Any, kind: str, parts: Mapping[str, int | None]) -> None:
    """Check that a plugin has each part, and that its methods take the given number of arguments (None: no method).

    Raises:
        InputError: a part is missing or a method cannot be called; the message names it.
    """
    if hasattr(type(plugin), "__getattr__"):
        return  # looking would load a policy that is loaded on first use
    name = describe(plugin)
    with told(f"the {kind}, {name}, fails when its parts are read"):
        missing = [part for part in parts if not hasattr(plugin, part)]
    if isinstance(plugin, type):
        raise InputError(f"the {kind} is the class {name}, not an instance: call it; {SEE}")
    if missing:
        raise InputError(f"the {kind}, {name}, lacks {', '.join(missing)}; {SEE}")
    for part, num_arguments in parts.items():
        if num_arguments is None:
            if part.endswith("identity") and not isinstance(getattr(plugin, part), Mapping):
                raise InputError(f"the {kind}, {name}: {part} is {kind_of(getattr(plugin, part))}, not a dict; {SEE}")
            continue
        method = getattr(plugin, part)
        fault = misfit(method, num_arguments) if callable(method) else "it is not a method"
        if fault:
            raise InputError(f"the {kind}, {name}: {part} cannot be called with {num_arguments} arguments: {fault}")


def misfit(function: Any, num_arguments: int) -> str:
    """Why a function cannot be called with this number of arguments; "" if it can."""
    try:
        inspect.signature(function).bind(*range(num_arguments))
    except TypeError as error:
        return str(error)
    except ValueError:  # C code has no readable signature
        return ""
    return ""


def kind_of(value: Any) -> str:
    """``a list``, ``an int``, ``None``."""
    kind = type(value).__name__
    return "None" if value is None else f"{'an' if kind[:1] in 'aeiouAEIOU' else 'a'} {kind}"
