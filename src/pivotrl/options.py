"""Options check themselves: every value has the type and lies in the range that its annotation states.

    @dataclass(frozen=True)
    class TrainingOptions:
        num_steps: AtLeast1 = 100

        def __post_init__(self) -> None:
            check(self)

A number that is not finite is never an option.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NoReturn, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

AtLeast0 = Annotated[int, Field(ge=0)]
AtLeast1 = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class InputError(ValueError):
    """What a user gave, a file or an option, is not what it should be: place, fault and remedy in the message."""


def check(options: object) -> None:
    """To be called by a dataclass of options when it is made.

    Raises:
        InputError: a value is not of its type or out of its range; the message names the flag.
    """
    assert dataclasses.is_dataclass(options)
    _validate(_model(type(options)), vars(options), flag)


def check_arguments(target: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """The same for the keyword options of a plugin, as far as their annotations state a range.

    Raises:
        InputError: as :func:`check`; the message names the option.
    """
    model = _model_of_arguments(target)
    _validate(model, {name: value for name, value in given.items() if name in model.model_fields}, str)


def flag(name: str) -> str:
    """How a field is written on the command line."""
    return f"--{name.replace('_', '-')}"


def refuse(name: str, value: object, reason: str) -> NoReturn:
    """For what several options must be together.

    Raises:
        InputError: always.
    """
    raise InputError(f"{flag(name)} {value} {reason}")


_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True, protected_namespaces=())


@functools.cache
def _model(kind: type) -> type[BaseModel]:
    hints = get_type_hints(kind, include_extras=True)
    fields: dict[str, Any] = {field.name: (hints[field.name], ...) for field in dataclasses.fields(kind)}
    return create_model(kind.__name__, __config__=_STRICT, **fields)


@functools.cache
def _model_of_arguments(target: Callable[..., Any]) -> type[BaseModel]:
    function = target.__init__ if inspect.isclass(target) else target
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(target).parameters
    fields: dict[str, Any] = {name: (hints[name], None) for name in parameters if "FieldInfo(" in repr(hints.get(name))}
    return create_model("Arguments", __config__=_STRICT, **fields)


def _validate(model: type[BaseModel], values: Mapping[str, Any], write: Callable[[str], str]) -> None:
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        shown = repr(values[name])
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        raise InputError(f"{write(name)} {first['msg'].replace('Input should be', 'must be')}, not {shown}") from None
