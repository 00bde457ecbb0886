"""Finds a plugin by its name: ``tool_call(ignore_case=True)`` -> the callable.

A name with a colon is an attribute of an importable module; any other is a built-in module of that kind or an entry
point of group ``pivotrl.<kind>``. Options are Python literals and are checked against the signature. Only the command
line and manifests use names; in Python you pass the object.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Collection, Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pivotrl.options import check_arguments
from pivotrl.plugins.extras import EXTRAS, install_hint
from pivotrl.plugins.faults import told_of
from pivotrl.protocols import InputError

EXPORTS = {
    "readers": "read",
    "verifiers": "verify",
    "samplers": "Sampler",
    "policies": "Policy",
    "environments": "make_environments",
    "exporters": "export",
    "methods": "Method",
    "trackers": "Tracker",
    "harnesses": "Harness",
}
"""Each kind of plugin and the name that its module exports."""


def names(kind: str) -> list[str]:
    """Every plugin of a kind that can be named without an import path, sorted."""
    room = importlib.import_module(f"pivotrl.{kind}")
    built_in = {module.name for module in pkgutil.iter_modules(room.__path__)}
    return sorted(built_in | {point.name for point in entry_points(group=f"pivotrl.{kind}")})


def parse_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """``name(option=literal, ...)`` -> (name, options).

    Raises:
        InputError: the text has another form.
    """
    name, bracket, rest = spec.strip().partition("(")
    if not bracket:
        return name, {}
    try:
        call = ast.parse(f"f({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(word.arg is None for word in call.keywords):
            raise ValueError
        options = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        if len(options) < len(call.keywords):
            raise ValueError
        return name.strip(), options
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise InputError(
            f"cannot read {spec!r}; write a name with literal options, each once, such as tool_call(ignore_case=True)"
        ) from error


def find(kind: str, name: str) -> Callable[..., Any]:
    """The callable that the plugin exports, without options.

    Raises:
        InputError: the plugin does not exist, needs a package that is not installed, or exports nothing usable.
    """
    export = EXPORTS[kind]
    singular = {"policies": "policy", "harnesses": "harness"}.get(kind, kind[:-1])
    try:
        if ":" in name:
            path, _, export = name.partition(":")
            module = importlib.import_module(path)
        elif name in {
            module.name for module in pkgutil.iter_modules(importlib.import_module(f"pivotrl.{kind}").__path__)
        }:
            module = importlib.import_module(f"pivotrl.{kind}.{name}")
        elif points := entry_points(group=f"pivotrl.{kind}", name=name):
            loaded = next(iter(points)).load()
            return loaded if callable(loaded) else getattr(loaded, export)  # type: ignore[no-any-return]
        else:
            own = [f"{name}:{export}"] if _is_module(name) else []
            raise InputError(
                f"{unknown(f'no {singular} called {name!r}', name, names(kind), unlisted=own)}, "
                f"or give an import path such as 'my_package.my_module:{export}'"
            )
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in EXTRAS:
            raise InputError(f"the {singular} {name!r} needs {package}: {install_hint(EXTRAS[package])}") from error
        raise InputError(f"cannot import {error.name!r} for the {singular} {name!r}; is it installed?") from error
    except InputError:
        raise
    except Exception as error:  # a user's module may raise anything
        raise InputError(
            f"cannot import the {singular} {name!r}: {type(error).__name__}: {error}; fix the module"
        ) from error
    if not callable(getattr(module, export, None)):
        raise InputError(f"{module.__name__} exports no callable {export!r}, which the {singular} {name!r} needs")
    return getattr(module, export)  # type: ignore[no-any-return]


def unknown(
    fault: str, word: str, known: Iterable[str], listing: str = "there are", unlisted: Sequence[str] = ()
) -> str:
    """``no verifier called 'tool_cal'; did you mean 'tool_call'? There are all_of, ...``

    Args:
        unlisted: suggestions if no known word is near.
    """
    listed = list(known)
    near = (difflib.get_close_matches(word, listed, n=1) or [*unlisted])[:1]
    if near:
        fault, listing = f"{fault}; did you mean {near[0]!r}?", listing[:1].upper() + listing[1:]
    return f"{fault}{'' if near else ';'} {listing} {', '.join(listed) or 'none'}"


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def options_of(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters of a plugin: its options."""
    parameters = inspect.signature(target).parameters
    return {name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def require_options(kind: str, spec: str, **extra: Any) -> None:
    """Check the names of a plugin's options. Plugins of this package are not imported, since some import torch, which
    is slow.

    Raises:
        InputError: as :func:`load`, as far as the names show it.
    """
    name, options = parse_spec(spec)
    found = None if ":" in name else importlib.util.find_spec(f"pivotrl.{kind}.{name}")
    if found is None or found.origin is None:
        known = list(options_of(find(kind, name)))
    else:
        known = _written_options(ast.parse(Path(found.origin).read_text("utf-8")).body, EXPORTS[kind])
    _require_known(name, [*options, *extra], known)


def _written_options(body: Sequence[ast.stmt], export: str) -> list[str]:
    """The keyword-only parameters of a function, or of a class's ``__init__``, read from its source."""
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name == export:
            return _written_options(node.body, "__init__")
        if isinstance(node, ast.FunctionDef) and node.name == export:
            return [argument.arg for argument in node.args.kwonlyargs]
    return []


def _require_known(name: str, options: Sequence[str], known: Collection[str]) -> None:
    for option in options:
        if option not in known:
            raise InputError(unknown(f"{name} has no option {option!r}", option, known, "its options are"))


def load(kind: str, spec: str, **extra: Any) -> Any:
    """The plugin with its options bound. Classes are instantiated, functions partially applied.

    Args:
        kind: one of :data:`EXPORTS`.
        spec: ``name`` or ``name(option=literal)``.
        extra: options given by the program, not by the text.

    Raises:
        InputError: the plugin or an option is unknown, or an option is missing, has the wrong type or is out of range.
    """
    name, options = parse_spec(spec)
    target = find(kind, name)
    known = options_of(target)
    _require_known(name, [*options, *extra], known)
    options = {**extra, **options}
    if missing := [n for n, p in known.items() if p.default is inspect.Parameter.empty and n not in options]:
        raise InputError(f"{name} needs the option {missing[0]!r}: {name}({missing[0]}=...)")
    check_arguments(target, options)
    if inspect.isclass(target):
        with told_of(target, f"{spec!r} cannot be made"):
            return target(**options)
    return functools.partial(target, **options) if options else target


def load_each(kind: str, given: Sequence[Any]) -> tuple[Any, ...]:
    """The parts of a combined plugin, each given as a spec or as the object itself.

    Raises:
        InputError: as :func:`load`, or there are no parts.
    """
    listed = given if isinstance(given, (list, tuple)) else ()
    parts = tuple(load(kind, p) if isinstance(p, str) else p for p in listed)
    if not parts or not all(map(callable, parts)):
        raise InputError(f"{given!r} must be a list of {kind}, such as ('tool_call', 'exact(compare_text=False)')")
    return parts
