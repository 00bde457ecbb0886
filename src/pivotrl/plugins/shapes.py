"""Whether a plugin is what its kind must be, asked before anything is bought with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pivotrl.plugins import describe
from pivotrl.plugins.faults import told, told_of
from pivotrl.protocols import Environment, InputError, Observation, Policy, Reader, Sampler, Turn, Verifier
from pivotrl.records import Message, Refusal, SampleGroup, Sampling, Trajectory

_SEE = "see docs/plugins.md"
_SAMPLER = {"identity": None, "fits": 2, "sample": 3}
_POLICY = {
    **{**_SAMPLER, "training_identity": None, "reference": None, "encode_action": 2, "update": 3},
    **{"save": 1, "load": 1, "export": 1, "score_text": 2},
}
"""What each must have; with the number of arguments where it is a method."""
_ENVIRONMENT = {"task_id": None, "tags": None, "context_window": None, "reset": 0, "step": 1}


def require_reader(reader: Reader) -> None:
    """Raises:
    InputError: it cannot be called with a path.
    """
    _require_call(reader, "reader", 1, "a path")


def require_verifier(verifier: Verifier) -> None:
    """Raises:
    InputError: it cannot be called with a turn and an action.
    """
    _require_call(verifier, "verifier", 2, "a turn and an action")


def require_sampler(sampler: Sampler) -> None:
    """Raises:
    InputError: something that samples must have is missing; the message names it.
    """
    _require_parts(sampler, "sampler", _SAMPLER)


def require_policy(policy: Policy) -> None:
    """Raises:
    InputError: something that a policy must have is missing; the message names it.
    """
    _require_parts(policy, "policy", _POLICY)


def make_checked(factory: Callable[[], Sequence[Environment]]) -> list[Environment]:
    """The environments that a factory makes.

    Raises:
        InputError: it breaks, makes something else, an attribute is missing or of another kind, or two of them bear
            one task's id.
    """
    name = describe(factory)
    with told(f"the environments of {name} cannot be made"):
        made: Any = factory()
        if isinstance(made, (str, bytes, dict)) or not hasattr(made, "__iter__"):
            raise InputError(f"{name} made {_kind(made)}, not a list of environments; {_SEE}")
        environments = list(made)
    if not environments:
        raise InputError(f"{name} made no environment: there is nothing to play; {_SEE}")
    seen: set[str] = set()
    for environment in environments:
        _require_parts(environment, f"environment that {name} makes", _ENVIRONMENT)
        faults = [
            (isinstance(environment.task_id, str) and environment.task_id != "", "task_id must be a text"),
            (_is_tags(environment.tags), "tags must be a dict of texts"),
            (_is_window(environment.context_window), "context_window must be a whole number from 0, or None"),
            (environment.task_id not in seen, f"two of them have the task_id {environment.task_id!r}"),
        ]
        for is_well, fault in faults:
            if not is_well:
                raise InputError(f"the environments of {name}: {fault}; {_SEE}")
        seen.add(environment.task_id)
    return environments


def require_environments(factory: Callable[[], Sequence[Environment]]) -> None:
    """Make them and begin an episode of the first, which is closed again.

    Raises:
        InputError: as :func:`make_checked`, or the episode cannot be begun.
    """
    first: Any = make_checked(factory)[0]
    begun(first)
    if hasattr(first, "close"):
        first.close()


def begun(environment: Environment) -> list[Message]:
    """The first messages of an episode.

    Raises:
        InputError: the environment breaks, or returns something else.
    """
    name = f"the environment {describe(environment)} (task {environment.task_id})"
    with told(f"{name} breaks in reset"):
        messages: Any = environment.reset()
        if isinstance(messages, (list, tuple)) and messages and all(isinstance(m, Message) for m in messages):
            return list(messages)
        raise InputError(f"{name}: reset returned {_kind(messages)}, not the first messages; {_SEE}")


def stepped(environment: Environment, action: Any) -> Observation:
    """The environment's answer to an action.

    Raises:
        InputError: the environment breaks, or returns something else.
    """
    name = f"the environment {describe(environment)} (task {environment.task_id})"
    with told(f"{name} breaks in step"):
        observation: Any = environment.step(action)
        if isinstance(observation, Observation):
            return observation
        raise InputError(f"{name}: step returned {_kind(observation)}, not an Observation; {_SEE}")


def trajectories(reader: Reader, path: Path) -> Iterator[Trajectory | Refusal]:
    """What the reader yields.

    Raises:
        InputError: it breaks, or yields something else.
    """
    name = f"the reader {describe(reader)}"
    with told(f"{name} breaks at {path}"):
        found: Any = reader(path)
        if not hasattr(found, "__iter__"):
            raise InputError(f"{name} returned {_kind(found)}, not an iterator of trajectories; {_SEE}")
        for item in found:
            if not isinstance(item, Trajectory | Refusal):
                raise InputError(f"{name} yielded {_kind(item)}, not a Trajectory or a Refusal; {_SEE}")
            yield item


def sampled(
    sampler: Sampler, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
) -> Iterator[SampleGroup]:
    """What the sampler draws: at each turn a group of ``num_samples``, in order, numbered from ``first``.

    Raises:
        InputError: it returns something else, or one of the user's own breaks.
    """
    acting: Any = getattr(sampler, "loaded", sampler)
    name, expected = f"the sampler {describe(acting)}", iter(turns)
    with told_of(acting, f"{name} breaks in sample"):
        later = (first,) if first else ()  # a sampler that draws once need not know of it
        found: Any = sampler.sample(turns, num_samples, sampling, *later)
        if not hasattr(found, "__iter__"):
            raise InputError(f"{name} returned {_kind(found)}, not an iterator of groups; {_SEE}")
        for group in found:
            turn = next(expected, None)
            if not isinstance(group, SampleGroup):
                raise InputError(f"{name} yielded {_kind(group)}, not a SampleGroup; {_SEE}")
            if turn is None or group.turn_id != turn.id:
                place = turn.id if turn else "no turn"
                raise InputError(f"{name} yielded a group of {group.turn_id!r} where {place} was due; {_SEE}")
            if len(group.completions_G) != num_samples:
                got = f"{len(group.completions_G)} of {num_samples} samples"
                raise InputError(f"{name} returned {got} at {turn.id}; {_SEE}")
            if group.first != first:
                raise InputError(f"{name} returned samples from {group.first} on where {first} was asked for; {_SEE}")
            yield group
        if (turn := next(expected, None)) is not None:
            raise InputError(f"{name} returned no group for {turn.id}; {_SEE}")


def _require_call(plugin: Any, kind: str, num_arguments: int, arguments: str) -> None:
    if not callable(plugin):
        raise InputError(f"a {kind} must be callable with {arguments}; {plugin!r:.80} is not; {_SEE}")
    if fault := _misfit(plugin, num_arguments):
        raise InputError(f"the {kind} {describe(plugin)} cannot be called with {arguments}: {fault}; {_SEE}")


def _require_parts(plugin: Any, kind: str, parts: dict[str, int | None]) -> None:
    if hasattr(type(plugin), "__getattr__"):
        return  # it makes what it is asked for, such as a policy that is loaded late; looking would load it
    name = describe(plugin)
    with told(f"the {kind}, {name}, breaks when it is looked at"):
        missing = [part for part in parts if not hasattr(plugin, part)]
    if isinstance(plugin, type):
        raise InputError(f"the {kind} is the class {name}, not an instance: call it; {_SEE}")
    if missing:
        raise InputError(f"the {kind}, {name}, lacks {', '.join(missing)}; {_SEE}")
    for part, num_arguments in parts.items():
        if num_arguments is None:
            if part.endswith("identity") and not isinstance(getattr(plugin, part), Mapping):
                raise InputError(f"the {kind}, {name}: {part} is {_kind(getattr(plugin, part))}, not a dict; {_SEE}")
            continue
        method = getattr(plugin, part)
        fault = _misfit(method, num_arguments) if callable(method) else "it is no method"
        if fault:
            raise InputError(f"the {kind}, {name}: {part} cannot be called with {num_arguments} arguments: {fault}")


def _misfit(function: Any, num_arguments: int) -> str:
    try:
        inspect.signature(function).bind(*range(num_arguments))
    except TypeError as error:
        return str(error)
    except ValueError:  # of C code: it has no signature that can be read
        return ""
    return ""


def _is_tags(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)


def _is_window(value: Any) -> bool:
    return value is None or (type(value) is int and value >= 0)


def _kind(value: Any) -> str:
    kind = type(value).__name__
    return "None" if value is None else f"{'an' if kind[:1] in 'aeiouAEIOU' else 'a'} {kind}"
