"""The same samples as a policy or another sampler gives, drawn by the workers of a Ray cluster (docs/cluster.md).

Each worker is a process of Ray's that holds one local model, or a client of one server. Whole trajectories are dealt to
the workers, longest first. This process stays the only writer: workers send their samples back and touch no file.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pivotrl import plugins
from pivotrl.options import AtLeast0, AtLeast1, NotNegative, Positive, check_arguments
from pivotrl.protocols import InputError, Notice, NotRenderable, Turn
from pivotrl.records import Action, Completion, SampleGroup, Sampling, Trajectory
from pivotrl.samplers.ray.cluster import Cluster, Needs, require_ray
from pivotrl.samplers.ray.pool import Job, Pool
from pivotrl.storage.record_files import counted
from pivotrl.turns import whole_trajectories


class Sampler:
    """Samples of a policy or a sampler that works in several processes.

    Its identity is that of the policy or sampler: neither the number of workers nor the cluster changes what is drawn.

    Args:
        policy: policy plugin with options, such as ``hf(model='smollm2-135m-instruct')``; each worker loads it once.
        sampler: sampler plugin with options in place of a policy, such as an ``openai(...)`` client; or a list of them
            that the workers share out, such as one for each server.
        workers: how many; None: one for each sampler of the list.
        address: of a running cluster, ``host:port`` or ``auto``. None starts one on this machine, reachable from here
            alone, and stops it afterwards.
        cpus: processors of a worker, which is also the number of threads of its model.
        gpus: GPUs of a worker; 0.5 puts two on one GPU.
        turns_per_call: about how many turns a worker samples together; those of one trajectory always are. With few,
            the work is dealt evenly; with more, a GPU or a server is better used.
        max_restarts: how often in a row a worker that dies is started again, and how many more workers may die of the
            same turns.
        timeout_seconds: a worker that takes longer for a call counts as dead; None waits for ever.
        start_seconds: how long a worker may take to be placed in the cluster and to load its model.

    Raises:
        InputError: an option is wrong, ray is not installed, the cluster cannot be reached or has no room, or a
            worker cannot load its policy or sampler.
    """

    def __init__(
        self,
        *,
        policy: str | None = None,
        sampler: str | Sequence[str] | None = None,
        workers: AtLeast1 | None = None,
        address: str | None = None,
        cpus: NotNegative = 1,
        gpus: NotNegative = 0,
        turns_per_call: AtLeast1 = 1,
        max_restarts: AtLeast0 = 3,
        timeout_seconds: Positive | None = None,
        start_seconds: Positive = 600.0,
    ) -> None:
        check_arguments(Sampler, locals())
        kind, specs = _checked_specs(policy, sampler)
        number = workers or len(specs)
        if number < len(specs):
            raise InputError(
                f"workers={number} leaves out some of the {len(specs)} samplers; give workers={len(specs)}"
            )
        require_ray("the sampler 'ray'")
        self._turns_per_call, self._has_warned = turns_per_call, False
        needs = Needs(number, cpus, gpus)
        self._cluster = Cluster(address, needs)
        try:
            given = [specs[place % len(specs)] for place in range(number)]
            self._pool = Pool(self._cluster, needs, kind, given, max_restarts, timeout_seconds, start_seconds)
        except BaseException:
            self._cluster.close()
            raise
        facts = self._pool.facts
        self.identity: dict[str, Any] = facts["identity"]
        self.is_paid: bool = facts["is_paid"]
        self.description: dict[str, Any] = facts["description"]
        if facts["can_score"]:
            self.action_logprobs = self._action_logprobs
        self._fits = _Ahead(self._ask_fits)
        self._encoded = _Ahead(self._ask_encoded)

    def close(self) -> None:
        """Stop the workers, and the cluster if it was started here. At the end of the process this happens anyway."""
        self._pool.close()
        self._cluster.close()

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        found = self._fits.at(turn, max_tokens)
        if isinstance(found, str):
            raise NotRenderable(found)
        return bool(found)

    def sample(
        self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
    ) -> Iterator[SampleGroup]:
        """See :class:`pivotrl.protocols.Sampler`.

        Raises:
            InputError: no worker is left, or the same turns ended several workers.
        """
        units = whole_trajectories(turns, self._turns_per_call)
        self._tell_of_idle_workers(len(units))
        asked = (num_samples, sampling.model_dump_json(), first)
        jobs = [Job("sample", (_packed(unit), *asked), _named(unit), _size(unit)) for unit in units]
        for answer in self._pool.run(jobs):
            yield from map(SampleGroup.model_validate_json, answer)

    def encode_action(self, turn: Turn, action: Action) -> Completion:
        """See :class:`pivotrl.protocols.Policy`; only where the workers hold a policy."""
        if turn.index < len(turn.trajectory.messages) and action == turn.expected_action:
            found = self._encoded.at(turn, None)
        else:
            found = self._encode(turn.trajectory, [turn.index], [action.model_dump_json()])[0]
        is_written, text = found
        if not is_written:
            raise NotRenderable(text)
        return Completion.model_validate_json(text)

    def _action_logprobs(self, turns: Sequence[Turn], groups: Sequence[SampleGroup]) -> list[list[list[float]]]:
        """See :class:`pivotrl.protocols.ScoresActions`."""
        rest, jobs = iter(groups), []
        for unit in whole_trajectories(turns, self._turns_per_call):
            given = [next(rest).model_dump_json() for _ in unit]
            jobs.append(Job("score", (_packed(unit), given), _named(unit), _size(unit)))
        return [row for answer in self._pool.run(jobs) for row in answer]

    def _ask_fits(self, trajectory: Trajectory, indices: Sequence[int], max_tokens: Any) -> Sequence[Any]:
        job = Job("fits", (trajectory.model_dump_json(), list(indices), max_tokens), trajectory.id)
        return self._pool.run([job])[0]  # type: ignore[no-any-return]

    def _ask_encoded(self, trajectory: Trajectory, indices: Sequence[int], _: Any) -> Sequence[Any]:
        actions = [Turn(trajectory, index).expected_action.model_dump_json() for index in indices]
        return self._encode(trajectory, indices, actions)

    def _encode(self, trajectory: Trajectory, indices: Sequence[int], actions: Sequence[str]) -> Sequence[Any]:
        job = Job("encode", (trajectory.model_dump_json(), list(indices), list(actions)), trajectory.id)
        return self._pool.run([job])[0]  # type: ignore[no-any-return]

    def _tell_of_idle_workers(self, num_units: int) -> None:
        if not self._has_warned and num_units < self._pool.num_workers:
            warnings.warn(
                f"a batch makes only {counted(num_units, 'part')} for {self._pool.num_workers} workers: raise "
                "--batch-turns (of profile) or --eval-batch (of evaluate)",
                Notice,
                stacklevel=3,
            )
        self._has_warned = True


class _Ahead:
    """What a worker says of the turns of a trajectory: it is asked for all turns from the first one on, because one
    question a turn would take too long.

    Args:
        ask: (trajectory, indices, what is asked with) -> an answer for each index.
    """

    def __init__(self, ask: Callable[[Trajectory, Sequence[int], Any], Sequence[Any]]) -> None:
        self._ask = ask
        self._trajectory: Trajectory | None = None
        self._given: Any = None
        self._known: dict[int, Any] = {}

    def at(self, turn: Turn, given: Any) -> Any:
        is_same = turn.trajectory is self._trajectory and given == self._given
        if not is_same or turn.index not in self._known:
            later = enumerate(turn.trajectory.messages[turn.index + 1 :], turn.index + 1)
            indices = [turn.index, *(place for place, message in later if message.role == "assistant")]
            answers = self._ask(turn.trajectory, indices, given)
            self._trajectory, self._given = turn.trajectory, given
            self._known = dict(zip(indices, answers, strict=True))
        return self._known[turn.index]


def _checked_specs(policy: str | None, sampler: str | Sequence[str] | None) -> tuple[str, list[str]]:
    """(kind of plugin, specs)

    Raises:
        InputError: there is not exactly one kind, or a plugin or its option does not exist.
    """
    if (policy is None) == (sampler is None):
        raise InputError("ray needs either a policy or a sampler: ray(policy=\"hf(model='my-model')\", workers=2)")
    kind, given = ("policies", policy) if sampler is None else ("samplers", sampler)
    specs = [given] if isinstance(given, str) else list(given) if isinstance(given, (list, tuple)) else []
    if not specs or not all(isinstance(spec, str) for spec in specs):
        raise InputError(f"the option sampler is a plugin as text, or a list of them, not {sampler!r:.80}")
    for spec in specs:
        if plugins.parse_spec(spec)[0] == "ray":
            raise InputError("the workers of ray cannot hold ray again; name the policy or sampler that draws")
        plugins.require_options(kind, spec)
    return kind, specs


def _packed(unit: Sequence[Turn]) -> list[tuple[str, list[int]]]:
    """(trajectory as JSON, indices of its turns) of each trajectory, in order."""
    packed: list[tuple[Trajectory, list[int]]] = []
    for turn in unit:
        if not packed or packed[-1][0] is not turn.trajectory:
            packed.append((turn.trajectory, []))
        packed[-1][1].append(turn.index)
    return [(trajectory.model_dump_json(), indices) for trajectory, indices in packed]


def _named(unit: Sequence[Turn]) -> str:
    return unit[0].id if len(unit) == 1 else f"{unit[0].id} to {unit[-1].id}"


def _size(unit: Sequence[Turn]) -> tuple[int, int]:
    """By which the longest is dealt first: turns, then messages before them."""
    return len(unit), sum(turn.index for turn in unit)
