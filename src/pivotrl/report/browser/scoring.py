"""The stored samples of some pivots, scored again by the run's policy before and after its training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pivotrl.evaluation.divergence import action_logprobs
from pivotrl.protocols import InputError, Policy, Turn
from pivotrl.records import SampleGroup
from pivotrl.runs.checkpoints import restore
from pivotrl.runs.files import RunFiles

_BATCH = 16

Channels = dict[str, list[float | None]]
Scores = dict[tuple[str, tuple[int, ...]], Channels]
"""(turn id, token ids) -> ``reference``: log-probability of each token before training, at temperature 1; ``entropy``:
of the distribution that it was chosen from, before training, in nats, if the policy tells; ``ratio``: its probability
after training over that before."""


def score_pivots(
    directory: Path,
    policy: Policy,
    number: int,
    selection: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Scores of the profile's samples at the first pivots.

    Args:
        policy: as the training began; the weights of the run's training are loaded into it.
        number: pivots to score, the first of the selection.

    Raises:
        InputError: there are no pivots, the training left no checkpoint, or the policy cannot score actions.
        ValueError: a prompt is rendered differently now.
    """
    files = RunFiles(Path(directory))
    chosen = [row.turn_id for row in files.selected(selection) if row.selected][:number]
    if not chosen:
        raise InputError(f"{directory} has no pivots to score; leave out --score-pivots")
    cases = [(turn, group) for name in chosen for turn, group in _cases(files, name)]
    before = _logprobs(policy, cases, lambda done: progress(done, 2 * len(cases)))
    entropies = _entropies(policy, cases)
    if restore(policy, Path(directory) / "train" / "checkpoints") == 0:
        raise InputError(f"{directory} has no checkpoint of a training to score with; leave out --score-pivots")
    after = _logprobs(policy, cases, lambda done: progress(len(cases) + done, 2 * len(cases)))
    found: Scores = {}
    for (turn, group), old_G, new_G, entropy_G in zip(cases, before, after, entropies, strict=True):
        for number, completion in enumerate(group.completions_G):
            pairs = zip(old_G[number], new_G[number], strict=True)
            found[turn.id, completion.token_ids_T] = {
                "reference": [round(value, 3) for value in old_G[number]],
                **({"entropy": [round(value, 3) for value in entropy_G[number]]} if entropy_G else {}),
                "ratio": [_ratio(old, new) for old, new in pairs],
            }
    return found


def _cases(files: RunFiles, turn_id: str) -> Iterator[tuple[Turn, SampleGroup]]:
    turn, groups = files.find_turn(turn_id), files.profile_groups()
    if turn is not None and turn_id in groups:
        group = groups.get(turn_id)
        kept = tuple(completion for completion in group.completions_G if completion.token_ids_T)
        if kept:
            yield turn, group.model_copy(update={"completions_G": kept})


def _logprobs(policy: Policy, cases: Sequence[tuple[Turn, SampleGroup]], progress: Callable[[int], None]) -> list[Any]:
    found: list[Any] = []
    for start in range(0, len(cases), _BATCH):
        part = cases[start : start + _BATCH]
        found += action_logprobs(policy, [turn for turn, _ in part], [group for _, group in part])
        progress(len(found))
    return found


def _entropies(policy: Policy, cases: Sequence[tuple[Turn, SampleGroup]]) -> list[Any]:
    """Of each token; nothing where the policy does not tell."""
    acting: Any = getattr(policy, "loaded", policy)
    if not hasattr(getattr(acting, "learner", None), "token_entropies"):
        return [()] * len(cases)
    found: list[Any] = []
    for start in range(0, len(cases), _BATCH):
        part = cases[start : start + _BATCH]
        found += acting.action_entropies([turn for turn, _ in part], [group for _, group in part])
    return found


def _ratio(old: float, new: float) -> float | None:
    """None where it is not finite."""
    ratio = math.exp(min(new - old, 50.0))
    return round(ratio, 4) if math.isfinite(ratio) else None
