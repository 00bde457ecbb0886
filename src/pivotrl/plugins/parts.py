"""Whether an object has what it must have, and the words for what it lacks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pivotrl.plugins import describe
from pivotrl.plugins.faults import told
from pivotrl.protocols import InputError

SEE = "see docs/plugins.md"


def require_parts(plugin: Any, kind: str, parts: Mapping[str, int | None]) -> None:
    """Whether a plugin has each part, and whether those that are methods take so many arguments (None: no method).

    Raises:
        InputError: it lacks one, or a method cannot be called so; the message names it.
    """
    if hasattr(type(plugin), "__getattr__"):
        return  # it makes what it is asked for, such as a policy that is loaded late; looking would load it
    name = describe(plugin)
    with told(f"the {kind}, {name}, breaks when it is looked at"):
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
        fault = misfit(method, num_arguments) if callable(method) else "it is no method"
        if fault:
            raise InputError(f"the {kind}, {name}: {part} cannot be called with {num_arguments} arguments: {fault}")


def misfit(function: Any, num_arguments: int) -> str:
    """Why a function cannot be called with so many arguments; "" when it can."""
    try:
        inspect.signature(function).bind(*range(num_arguments))
    except TypeError as error:
        return str(error)
    except ValueError:  # of C code: it has no signature that can be read
        return ""
    return ""


def kind_of(value: Any) -> str:
    """``a list``, ``an int``, ``None``."""
    kind = type(value).__name__
    return "None" if value is None else f"{'an' if kind[:1] in 'aeiouAEIOU' else 'a'} {kind}"
