"""PivotRL without a profile: turns are tried just ahead of training, by the policy that is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pivotrl.advantages import have_spread
from pivotrl.options import AtLeast1
from pivotrl.protocols import ObjectiveName, Turn
from pivotrl.records import SampleGroup
from pivotrl.seeding import derive_seed
from pivotrl.training import Lesson, Step, TrainingOptions
from pivotrl.training_options import require_groups
from pivotrl.turns import in_rounds


@dataclass(frozen=True, kw_only=True)
class Method:
    """Acts G times at the turns that come next; those with mixed outcomes are the pivots of the moment and teach at
    once. It goes on until B groups are mixed, so every step has full size (dynamic sampling, DAPO, arXiv 2503.14476).

    A turn whose outcomes are all equal rests for 1 pass over the turns, then for 2, 4 and so on, until it is mixed
    again. So turns that the policy has mastered retire, impossible ones rest, and those that it has come to waver at
    are found: the profile is always that of the present policy. All of it counts as rollout turns of the training.

    Args:
        max_batches: in a step, at most this many times B turns are tried.
    """

    max_batches: AtLeast1 = 4

    title: ClassVar[str] = "PivotRL, lazy profile"
    objective: ClassVar[ObjectiveName] = "policy_gradient"
    verifies: ClassVar[bool] = True
    plays: ClassVar[bool] = False
    needs_pivots: ClassVar[bool] = False

    def check(self, options: TrainingOptions) -> None:
        require_groups(options)

    def lesson(self, step: Step) -> Lesson:
        walk = step.memory.get("walk")
        if walk is None:
            walk = step.memory["walk"] = _Walk(step.pool, step.options)
            for number in range(step.number):  # a resumed training
                self._tried(walk, dataclasses.replace(step, number=number))
        visited, samples = self._tried(walk, step)
        _, metrics = step.weigh(samples, visited)
        mixed = [place for place, group in enumerate(samples) if have_spread(group.rewards)]
        lesson = step.practise([samples[place] for place in mixed], [visited[place] for place in mixed])
        return dataclasses.replace(lesson, metrics=metrics | walk.metrics())

    def _tried(self, walk: _Walk, step: Step) -> tuple[list[Turn], list[SampleGroup]]:
        """The turns that the step tries, and their groups."""
        visited, samples = list[Turn](), list[SampleGroup]()
        missing = step.options.turns_per_step
        left = self.max_batches * missing
        while batch := walk.next(min(missing, left), {turn.id for turn in visited}):
            groups = step.sample(batch)
            walk.note(groups)
            visited += batch
            samples += groups
            missing -= sum(have_spread(group.rewards) for group in groups)
            left -= len(batch)
        return visited, samples


class _Walk:
    """Over the turns again and again, in a new order each time; turns without signal rest. It depends on nothing but
    the options and the groups so far."""

    def __init__(self, pool: Sequence[Turn], options: TrainingOptions) -> None:
        self._pool, self._options = pool, options
        self._pass = 0
        self._ahead = self._order()
        self._in_a_row: dict[str, int] = {}
        """How often a turn was without signal since it was mixed last."""
        self._rests_until: dict[str, int] = {}

    def next(self, count: int, visited: set[str]) -> list[Turn]:
        """The next turns that do not rest; fewer if there are no more than those visited in this step already."""
        found: dict[str, Turn] = {}
        while len(found) < count:
            turn = next(self._ahead, None)
            if turn is None:
                left = [turn.id for turn in self._pool if turn.id not in visited and turn.id not in found]
                if not left:
                    break
                self._pass = max(self._pass + 1, min(self._rests_until.get(name, 0) for name in left))
                self._ahead = self._order()
            elif turn.id not in visited and turn.id not in found and self._rests_until.get(turn.id, 0) <= self._pass:
                found[turn.id] = turn
        return list(found.values())

    def note(self, groups: Sequence[SampleGroup]) -> None:
        for group in groups:
            if have_spread(group.rewards):
                self._in_a_row[group.turn_id] = 0
            else:
                so_far = self._in_a_row.get(group.turn_id, 0)
                self._in_a_row[group.turn_id] = so_far + 1
                self._rests_until[group.turn_id] = self._pass + 1 + 2**so_far

    def metrics(self) -> dict[str, float]:
        resting = sum(until > self._pass for until in self._rests_until.values())
        return {
            "turns/tried": float(len(self._in_a_row)),
            "turns/resting": float(resting),
            "turns/passes": float(self._pass),
        }

    def _order(self) -> Iterator[Turn]:
        seed = derive_seed(self._options.train_seed, "pass", self._pass)
        return iter(in_rounds(self._pool, seed, together=self._options.turns_per_trajectory))
