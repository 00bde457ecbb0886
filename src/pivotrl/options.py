"""Options check themselves: every value has the type and range that its annotation states.

    @dataclass(frozen=True)
    class TrainingOptions:
        num_steps: AtLeast1 = 100

        def __post_init__(self) -> None:
            check(self)

Infinite numbers and NaN are never allowed.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

AtLeast0 = Annotated[int, Field(ge=0)]
AtLeast1 = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class InputError(ValueError):
    """A file or option from the user is invalid; the message gives place, fault and remedy."""


def check(options: Any) -> None:
    """Check a dataclass of options; call it in ``__post_init__``.

    Raises:
        InputError: a value has the wrong type or is out of range; the message names the flag.
    """
    kind: Any = type(options)
    _validate(_model(kind), vars(options), flag)


def check_arguments(target: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Check the keyword options of a plugin: numbers, booleans, strings and choices.

    A plugin checks all other types itself.

    Raises:
        InputError: as :func:`check`; the message names the option.
    """
    fields = _kinds_of_arguments(target)
    asked: dict[str, Any] = {name: (fields[name], ...) for name in given if name in fields}
    if asked:
        model = create_model("Arguments", __config__=_STRICT, **asked)
        _validate(model, {name: given[name] for name in asked}, lambda name: f"the option {name}")


def flag(name: str) -> str:
    """A field name as its command-line flag."""
    return f"--{name.replace('_', '-')}"


def refuse(name: str, value: object, reason: str) -> NoReturn:
    """Refuse a combination of options.

    Raises:
        InputError: always.
    """
    raise InputError(f"{flag(name)} {value} {reason}")


def options_dict(options: object) -> dict[str, object]:
    """A dataclass of options as JSON for a manifest."""
    assert dataclasses.is_dataclass(options) and not isinstance(options, type)
    return dataclasses.asdict(options)


_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True, protected_namespaces=())


@functools.cache
def _model(kind: Any) -> type[BaseModel]:
    hints = get_type_hints(kind, include_extras=True)
    fields: dict[str, Any] = {field.name: (hints[field.name], ...) for field in dataclasses.fields(kind)}
    return create_model(kind.__name__, __config__=_STRICT, **fields)


@functools.cache
def _kinds_of_arguments(target: Callable[..., Any]) -> dict[str, Any]:
    function = target.__init__ if inspect.isclass(target) else target
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception:  # a user's annotations may use names imported only for type checkers
        return {}
    return {name: hint for name, hint in hints.items() if _is_simple(hint)}


def _is_simple(hint: Any) -> bool:
    """Whether the type consists only of numbers, booleans, strings, None and choices."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _is_simple(parts[0])
    if origin in (Union, types.UnionType):
        return all(map(_is_simple, parts))
    return origin is Literal or hint in (int, float, bool, str, types.NoneType)


def _validate(model: type[BaseModel], values: Mapping[str, Any], write: Callable[[str], str]) -> None:
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        shown = repr(values[name])
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        raise InputError(f"{write(name)} {first['msg'].replace('Input should be', 'must be')}, not {shown}") from None
