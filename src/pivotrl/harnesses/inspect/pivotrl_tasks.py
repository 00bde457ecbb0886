"""A task of Inspect AI and its samples, for the scripts beside this one. Run by the interpreter of the harness."""

import inspect
from pathlib import Path

from inspect_ai._eval.loader import create_file_tasks, load_tasks
from inspect_ai._eval.task.util import task_run_dir
from inspect_ai._util.registry import registry_info, registry_lookup
from inspect_ai.util._sandbox.registry import registry_find_sandboxenv


class CannotLoad(Exception):
    """The task cannot be used; the text says why."""


def load(spec, arguments):
    """The one task that a spec of `inspect eval` names.

    Raises:
        CannotLoad: there is none, there are several, or it does not take the arguments.
    """
    is_file = "@" not in spec and Path(spec).suffix == ".py"  # load_tasks takes no absolute path without a name
    found = create_file_tasks(Path(spec).absolute(), None, arguments) if is_file else load_tasks([spec], arguments)
    if not found:
        raise CannotLoad(f"{spec} holds no task of Inspect; a task is a function with the decorator @task")
    if len(found) > 1:
        named = ", ".join(f"{spec.partition('@')[0]}@{one.name}" for one in found)
        raise CannotLoad(f"{spec} holds several tasks; name one of {named}")
    _require_arguments(found[0], spec, arguments)
    found[0].model = None  # the player plays, whatever model the task itself names
    return found[0]


def _require_arguments(task, spec, arguments):
    """Inspect leaves out what a task does not take."""
    taken = inspect.signature(registry_lookup("task", registry_info(task).name)).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in taken.values())
    if not takes_any and (unknown := sorted(set(arguments) - set(taken))):
        known = ", ".join(taken) or "none"
        raise CannotLoad(f"{spec} cannot be loaded with the argument {unknown[0]!r}; it takes {known}")


def samples_of(task):
    """Id as text -> sample, in the order of the data set. A sample without an id gets its number, as Inspect does it.

    Raises:
        CannotLoad: two have the same id.
    """
    samples = {}
    for number, sample in enumerate(task.dataset, start=1):
        name = str(number if sample.id is None else sample.id)
        if name in samples:
            raise CannotLoad(f"two samples of the task have the id {name!r}")
        samples[name] = sample
    return samples


def sandbox_of(task, sample):
    """Type and configuration of the sandbox that a sample wants, as two texts, or None."""
    wanted = task.sandbox or sample.sandbox
    if wanted is None:
        return None
    config = wanted.config or (sample.sandbox.config if sample.sandbox else None) or _file_beside(task, wanted.type)
    return [wanted.type, "" if config is None else str(config)]


def _file_beside(task, kind):
    """What Inspect takes for the sandbox's configuration, if there is one beside the task."""
    try:
        names = registry_find_sandboxenv(kind).config_files()
    except ValueError:  # a kind from a package that is not installed
        return None
    return next((name for name in names if Path(task_run_dir(task), name).is_file()), None)
