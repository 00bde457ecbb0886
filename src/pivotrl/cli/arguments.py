"""Turns command-line arguments into a call.

Options that are not given come from ``--config``, then from the run in the directory, then from their defaults.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import tyro
from pydantic import TypeAdapter, ValidationError

from pivotrl import plugins
from pivotrl.cli.configuration import NAME, read_config
from pivotrl.options import flag
from pivotrl.protocols import InputError, Notice
from pivotrl.runs.layout import PILOT, evaluation_stage, of_seed, training_stage
from pivotrl.runs.manifest import manifest_path
from pivotrl.runs.memory import SHARED, as_text, differing, remembered, unnamed_verifier

_STAGES: dict[str, Callable[[str | None], str]] = {
    "run": lambda name: "run",
    "profile": lambda name: "profile",
    "check": lambda name: "profile",
    "prompts": lambda name: "profile",
    "plan": lambda name: PILOT,
    "train": training_stage,
    "evaluate": lambda name: evaluation_stage(name or "after"),
}
"""Commands that take missing options from the run, and the stage that each performs."""
_WHO_ACTS = ("policy", "model", "adapter")
_REPLACES = {
    "--policy": _WHO_ACTS,
    "--model": ("adapter",),
    "--sampler": (*_WHO_ACTS, "retention", "retention_texts", "samples", "judge_again"),  # a sampler scores no texts
    "--samples": ("judge_again", "num_samples", "temperature", "top_p", "top_k", "max_tokens"),  # they say how
    "--judge-again": ("samples",),
}
"""Given option -> remembered options that it replaces: an adapter belongs to its model, a model to its policy."""


def parse(commands: Mapping[str, Callable[..., None]], arguments: Sequence[str] | None) -> Callable[[], None]:
    """The command, ready to run.

    Raises:
        InputError: an argument is empty, an option refused its value (:mod:`pivotrl.options`), or ``--config`` is
            unusable. One line replaces the box that tyro would draw.
        SystemExit: the user asked for help, or tyro refused the arguments and printed the reason to stderr.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _refuse_empty(arguments)
    chosen = arguments[0] if arguments else ""
    arguments, config = _without_config(arguments)
    if chosen not in commands:
        return _bound(commands, chosen, arguments, {})
    if _given(arguments, "--sampler") and (other := [o for o in map(flag, _WHO_ACTS) if _given(arguments, o)]):
        raise InputError(f"{other[0]} belongs to a policy, but --sampler replaces the policy; leave one out")
    configured = _read_config(config, commands) if config else {}
    guess = _directory(chosen, arguments)
    known = _memory(commands, chosen, arguments, guess)
    bound = _bound(commands, chosen, arguments, known | configured)
    directory = getattr(bound, "keywords", {}).get("directory")
    if guess is not None and directory not in (None, guess):  # an option's value is the name of another run
        known = _memory(commands, chosen, arguments, directory if _holds_run(directory) else None)
        bound = _bound(commands, chosen, arguments, known | configured)
    if chosen != "run":
        if directory is not None and known and "verifier" not in known:
            _tell_of_unnamed_verifier(directory, arguments)
        _tell_what_differs(known, bound)
        _tell_what_is_taken(known, bound, _options_of_default(commands[chosen]))
    return bound


def _bound(
    commands: Mapping[str, Callable[..., None]], chosen: str, arguments: Sequence[str], defaults: Mapping[str, Any]
) -> Callable[[], None]:
    """The command with its arguments; these values become the defaults of its options."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            bound: Callable[[], None] = tyro.extras.subcommand_cli_from_dict(
                {name: _later(command, defaults if name == chosen else {}) for name, command in commands.items()},
                prog="pivotrl",
                description="Train agents at the turns that matter.",
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as stop:
        for cause in _causes(stop):
            if isinstance(cause, InputError):
                raise cause from None
        sys.stderr.write(said.getvalue())
        raise
    return bound


def options_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Option -> value for the arguments of a command, including the fields of its option groups."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            found |= {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        else:
            found[name] = value
    return found


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse empty values: no option accepts one, and an empty path would mean the current directory."""
    for number, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if argument and not (name.startswith("-") and equals and not value):
            continue
        before = arguments[number - 1] if number else ""
        place = name or (before if before.startswith("-") else f"argument {number + 1}")
        raise InputError(f"{place} is empty; give a value or leave it out (a shell variable may be unset)")


def _without_config(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    """The arguments without ``--config FILE``, and the file."""
    rest, files, left = list[str](), list[Path](), iter(arguments)
    for argument in left:
        if argument.startswith("--config="):
            files.append(Path(argument.partition("=")[2]))
        elif argument == "--config":
            file = next(left, None)
            if file is None:
                raise InputError("--config needs a file, such as run.toml")
            files.append(Path(file))
        else:
            rest.append(argument)
    if len(files) > 1:
        raise InputError("--config is given twice; put all options into one file")
    return rest, files[0] if files else None


def _read_config(path: Path, commands: Mapping[str, Callable[..., None]]) -> dict[str, Any]:
    return read_config(path, sorted({name for command in commands.values() for name in _options(command)}))


def _memory(
    commands: Mapping[str, Callable[..., None]], command: str, arguments: Sequence[str], directory: Path | None
) -> dict[str, Any]:
    """The run's values for options that the arguments leave out."""
    if command not in _STAGES or directory is None:
        return {}
    training = _given(arguments, "--training")
    name, seed = _given(arguments, "--name"), _given(arguments, "--seeds")
    if seed is not None and seed.lstrip("-").isdecimal():  # the first of several trainings speaks for all
        name = of_seed(name, int(seed))
    known = remembered(directory, _STAGES[command](name), training_stage(training) if training else None)
    if command == "run" and (directory / NAME).is_file():  # it also knows options of stages that have not begun
        known = _read_config(directory / NAME, commands) | known
    if "--overwrite" in arguments:  # the stage starts again, with options of its own
        known = {option: value for option, value in known.items() if option in SHARED}
    for given, replaced in _REPLACES.items():
        if given in arguments or _given(arguments, given):
            known = {option: value for option, value in known.items() if option not in replaced}
    method = _given(arguments, "--method")
    if method and "train_environments" in known and not getattr(plugins.load("methods", method), "plays", True):
        del known["train_environments"]  # they belong to the method of the run
    return known


def _directory(command: str, arguments: Sequence[str]) -> Path | None:
    """The run that a command works on, found before its arguments are parsed."""
    if command == "run":
        given = _given(arguments, "--out") or _given(arguments, "-o") if "--resume" in arguments else None
        places = [given] if given else []
    else:
        places = [argument for argument in arguments[1:] if not argument.startswith("-")]
    return next((Path(place) for place in places if _holds_run(Path(place))), None)


def _holds_run(path: Path) -> bool:
    try:
        return manifest_path(path, "read").is_file()
    except OSError:  # the command itself says what is wrong with it
        return False


def _given(arguments: Sequence[str], option: str) -> str | None:
    for number, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
        if argument == option and number + 1 < len(arguments):
            return arguments[number + 1]
    return None


def _options(command: Callable[..., Any]) -> dict[str, Any]:
    """Option -> type, including the fields of option groups."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(command).items():
        if dataclasses.is_dataclass(hint):
            hints = get_type_hints(hint)
            found |= {field.name: hints[field.name] for field in dataclasses.fields(hint)}
        elif name != "return":
            found[name] = hint
    return found


def _later(command: Callable[..., None], values: Mapping[str, Any]) -> Callable[..., Callable[[], None]]:
    """The command as a function that binds its arguments; these values become the defaults of its options."""

    @functools.wraps(command)
    def bind(*positional: Any, **named: Any) -> Callable[[], None]:
        signature = inspect.signature(command)
        return functools.partial(command, **signature.bind(*positional, **named).arguments)

    if values:
        hints, signature = get_type_hints(command), inspect.signature(command)
        parameters = [
            # keyword-only, since a parameter without a default may now follow one with a default
            parameter.replace(default=_default(hints[name], parameter, values), kind=parameter.KEYWORD_ONLY)
            for name, parameter in signature.parameters.items()
        ]
        bind.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return bind


def _default(hint: Any, parameter: inspect.Parameter, values: Mapping[str, Any]) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint, include_extras=False)
        given = {
            field.name: _converted(field.name, values[field.name], hints[field.name])
            for field in dataclasses.fields(hint)
            if field.name in values
        }
        return hint(**given)
    name = parameter.name
    return _converted(name, values[name], hint) if name in values else parameter.default


def _converted(name: str, value: Any, hint: Any) -> Any:
    """A JSON or TOML value converted to the type of its option. One string may replace a list of strings."""
    if isinstance(value, str) and any(get_origin(part) is tuple for part in (hint, *get_args(hint))):
        value = (value,)
    try:
        # true is 1 for pydantic, but nobody means that
        return TypeAdapter(hint).validate_python(value, strict=True if isinstance(value, bool) else None)
    except ValidationError as error:
        told = error.errors()[0]["msg"].replace("Input should be", "must be")
        raise InputError(f"{flag(name)} {told}, not {value!r}") from None


def _tell_of_unnamed_verifier(directory: Path, arguments: Sequence[str]) -> None:
    was = None if _given(arguments, "--verifier") else unnamed_verifier(directory)
    if was is not None:
        told = f"this run was made with the verifier {was}, which has no name here; --verifier says what judges instead"
        warnings.warn(told, Notice, stacklevel=3)


def _tell_what_differs(known: Mapping[str, Any], bound: Any) -> None:
    for option, (was, now) in differing(known, options_of(bound.keywords)).items():
        warnings.warn(f"{flag(option)} {as_text(now)}: this run was made with {as_text(was)}", Notice, stacklevel=3)


def _tell_what_is_taken(known: Mapping[str, Any], bound: Any, defaults: Mapping[str, Any]) -> None:
    given = options_of(bound.keywords)
    taken = [
        f"{flag(option)} {as_text(value)}"
        for option, value in known.items()
        if option in given and as_text(given[option]) == as_text(value) != as_text(defaults.get(option))
    ]
    if taken:
        warnings.warn(f"taken from this run: {', '.join(taken)}", Notice, stacklevel=3)


def _options_of_default(command: Callable[..., Any]) -> dict[str, Any]:
    """Option -> its default."""
    hints = get_type_hints(command)
    given = {
        name: hints[name]() if dataclasses.is_dataclass(hints[name]) else parameter.default
        for name, parameter in inspect.signature(command).parameters.items()
    }
    return options_of(given)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
