"""Plugins as text: in manifests, and as the command line names them."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pivotrl.plugins import EXPORTS, options_of


def describe(plugin: Any) -> str:
    """A plugin as text for a manifest: import path and bound options.

    For a dataclass these are the fields in its ``repr``: a field that does not change what the plugin does, such as a
    time limit, has ``repr=False``.
    """
    if isinstance(plugin, functools.partial):
        return f"{describe(plugin.func)}({_options(plugin.keywords)})"
    if dataclasses.is_dataclass(plugin) and not isinstance(plugin, type):
        shown = {field.name: getattr(plugin, field.name) for field in dataclasses.fields(plugin) if field.repr}
        return f"{describe(type(plugin))}({_options(shown)})"
    target = plugin if hasattr(plugin, "__qualname__") else type(plugin)
    return f"{target.__module__}:{target.__qualname__}"


def spec_of(plugin: Any) -> str | None:
    """The text from which :func:`load` makes this plugin; None if it cannot be named, such as a lambda."""
    if isinstance(plugin, functools.partial):
        target, given = plugin.func, dict(plugin.keywords)
    elif dataclasses.is_dataclass(plugin) and not isinstance(plugin, type):
        target = type(plugin)
        given = {name: getattr(plugin, name) for name in options_of(target) if hasattr(plugin, name)}
    else:
        target, given = plugin, {}
    module, name = getattr(target, "__module__", "__main__"), getattr(target, "__qualname__", "<nameless>")
    kind, _, short = module.removeprefix("pivotrl.").partition(".")
    if module.startswith("pivotrl.") and getattr(sys.modules[module], EXPORTS.get(kind, ""), None) is target:
        name = short
    elif module == "__main__" or "<" in name:
        return None
    else:
        name = f"{module}:{name}"
    try:
        return spec_text(name, target, {option: _respelled(value) for option, value in given.items()})
    except LookupError:
        return None


def _respelled(value: Any) -> Any:
    """An option's value as a literal, with plugins replaced by their specs.

    Raises:
        LookupError: a plugin cannot be named, or the value is not a literal.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(map(_respelled, value))
    if not callable(value):
        try:
            ast.literal_eval(repr(value))
        except (ValueError, SyntaxError):
            raise LookupError(value) from None
        return value
    if (spec := spec_of(value)) is None:
        raise LookupError(value)
    return spec


def source_sha256(plugin: Any) -> str:
    """Hash of the source files of a plugin and its parts, except those of this package; "" if there are none.

    Two versions of a module share a name, and findings about one say nothing about the other.
    """
    digest, files = hashlib.sha256(), sorted(set(_own_files(plugin)))
    for file in files:
        digest.update(Path(file).read_bytes())
    return digest.hexdigest() if files else ""


def own_code(plugin: Any) -> dict[str, str]:
    """The hash of a verifier's code for the inputs of a manifest; empty for plugins of this package."""
    found = source_sha256(plugin)
    return {"verifier code": found} if found else {}


def _own_files(plugin: Any) -> Iterator[str]:
    if isinstance(plugin, functools.partial):
        plugin = plugin.func
    if isinstance(plugin, (list, tuple)):
        for part in plugin:
            yield from _own_files(part)
        return
    if dataclasses.is_dataclass(plugin) and not isinstance(plugin, type):
        for field in dataclasses.fields(plugin):
            yield from _own_files(getattr(plugin, field.name))
    target = plugin if hasattr(plugin, "__qualname__") else type(plugin)
    if str(getattr(target, "__module__", "")).partition(".")[0] in ("pivotrl", "builtins"):
        return
    with contextlib.suppress(TypeError, OSError):  # C code, or typed interactively
        if (file := inspect.getsourcefile(target)) and Path(file).is_file():
            yield file


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in sorted(options.items()))


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        brackets = "[]" if isinstance(value, list) else ("(", ",)" if len(value) == 1 else ")")
        return brackets[0] + ", ".join(map(_text, value)) + brackets[1]
    return describe(value) if callable(value) else repr(value)


def spec_text(name: str, target: Callable[..., Any], given: Mapping[str, Any]) -> str:
    """``name(option=literal)``, as :func:`load` reads it, with the options that differ from their defaults."""
    defaults = {option: parameter.default for option, parameter in options_of(target).items()}
    changed = {option: value for option, value in given.items() if value != defaults.get(option)}
    return f"{name}({_options(changed)})" if changed else name
