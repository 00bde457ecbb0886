"""The scores of each evaluation of a run, and their change since the one before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pivotrl.evaluation import (
    answer_accuracy,
    compare_answers,
    compare_episodes,
    compare_finer,
    compare_progress,
    compare_retention,
    compare_turns,
    episode_success,
    finer_score,
    own_history_progress,
    turn_accuracy,
)
from pivotrl.evaluation.answers import FINER
from pivotrl.intervals import Estimate, PairedDifference, clustered_mean
from pivotrl.records import AnswerResult, Manifest, RetentionResult
from pivotrl.runs.files import RunFiles
from pivotrl.runs.manifest import find_manifest


@dataclass(frozen=True)
class Score:
    """One measurement of one evaluation."""

    name: str
    """The kind, with the temperature where there are several."""
    kind: str
    unit: str
    temperature: float | None
    """None where nothing is sampled, and where an older version did not note it."""
    estimate: Estimate
    difference: PairedDifference | None
    """Since the evaluation before training, over the items that both scored."""
    higher_is_better: bool

    @property
    def told(self) -> str:
        """The kind with its temperature."""
        return with_temperature(self.kind, self.temperature)


@dataclass(frozen=True)
class Measure:
    """How the items of one kind become a score."""

    kind: str
    unit: str
    read: Callable[[RunFiles, str], Iterable[Any]]
    estimate: Callable[[Sequence[Any]], Estimate | None]
    compare: Callable[[Sequence[Any], Sequence[Any]], PairedDifference | None]
    value: Callable[[Any], tuple[float | None, str]]
    """item -> (value, cluster)."""
    higher_is_better: bool = True


def mean_kl(results: Sequence[RetentionResult]) -> Estimate | None:
    """Mean KL(policy || reference) per token on the retention texts, nats."""
    return _mean_of_texts([(r.kl, r.item_id) for r in results if r.kl is not None])


def _mean_nll(results: Sequence[RetentionResult]) -> Estimate | None:
    return _mean_of_texts([(r.nll, r.item_id) for r in results])


def _mean_of_texts(values: Sequence[tuple[float, str]]) -> Estimate | None:
    """None for fewer than two texts: one text gives no interval."""
    if len(values) < 2:
        return None
    return clustered_mean([value for value, _ in values], [item for _, item in values], bounded=False)


MEASURES = (
    Measure(
        "held-out turns",
        "share of actions passed",
        RunFiles.turn_results,
        turn_accuracy,
        compare_turns,
        lambda turn: (turn.reward, turn.task_id),
    ),
    Measure(
        "own-history progress",
        "share of turns done",
        RunFiles.progress_results,
        own_history_progress,
        compare_progress,
        lambda walk: (walk.progress, walk.task_id),
    ),
    Measure(
        "held-out episodes",
        "share solved",
        RunFiles.episode_results,
        episode_success,
        compare_episodes,
        lambda episode: (episode.reward, episode.cluster),
    ),
    Measure(
        "retention",
        "NLL per token, nats",
        RunFiles.retention_results,
        _mean_nll,
        compare_retention,
        lambda text: (text.nll, text.item_id),
        higher_is_better=False,
    ),
)
ANSWERS = Measure(
    "answers outside the task",
    "share right",
    RunFiles.answer_results,
    answer_accuracy,
    compare_answers,
    lambda answer: (answer.reward, answer.item_id),
)
DETAIL = "answers, "
"""Begins the kinds that tell the answers apart."""
IN_TASK = ("held-out turns", "own-history progress", "held-out episodes")
"""Kinds that measure the task itself; the others look for forgetting."""
_OPTIONS = {"held-out turns": ("turn_temperature", "eval_temperature"), "held-out episodes": ("eval_temperature",)}


def with_temperature(kind: str, temperature: float | None) -> str:
    """``held-out turns, greedy``, ``held-out turns at T = 1``."""
    if temperature is None:
        return kind
    return f"{kind}, greedy" if temperature == 0 else f"{kind} at T = {temperature:g}"


def scores_of(
    files: RunFiles, name: str, manifest: Manifest | None, before: Manifest | None = None
) -> tuple[Score, ...]:
    """Every score of an evaluation, with its change since ``before``.

    Args:
        manifest, before: of this evaluation and of the one before training, if they exist.
    """
    found = []
    for measure in MEASURES:
        new, old = _items(measure, files, name, manifest), _items(measure, files, "before", before)
        alone = len({_temperature(item) for item in (*new, *old)}) == 1
        for temperature in sorted({_temperature(item) for item in new}, key=lambda t: -1.0 if t is None else t):
            mine, its = ([i for i in side if _temperature(i) == temperature] for side in (new, old))
            estimate = measure.estimate(mine)
            if estimate is not None:
                found.append(
                    Score(
                        measure.kind if alone else with_temperature(measure.kind, temperature),
                        measure.kind,
                        measure.unit,
                        temperature,
                        estimate,
                        measure.compare(its, mine) if name != "before" else None,
                        measure.higher_is_better,
                    )
                )
    old_answers = list(files.answer_results("before")) if name != "before" else []
    found += answer_scores(list(files.answer_results(name)), old_answers)
    kl = mean_kl(list(files.retention_results(name)))
    if kl is not None and name != "before":
        found.append(Score("KL to the reference", "KL to the reference", "nats per token", None, kl, None, False))
    return tuple(found)


def answer_scores(answers: Sequence[AnswerResult], before: Sequence[AnswerResult]) -> list[Score]:
    """Accuracy on questions outside the task: of all, the finer measures, of each family (what a source has before its
    first ``/``), and of each source."""
    found = []

    def add(kind: str, unit: str, estimate: Estimate | None, change: PairedDifference | None) -> None:
        if estimate is not None:
            found.append(Score(kind, kind, unit, None, estimate, change, True))

    def add_source(kind: str, mine: Sequence[AnswerResult]) -> None:
        add(kind, ANSWERS.unit, answer_accuracy(mine), compare_answers(before, mine))

    if answers:
        add_source(ANSWERS.kind, answers)
    for name in sorted({name for answer in answers for name in answer.scores} & set(FINER), key=list(FINER).index):
        words, unit = FINER[name]
        add(f"{DETAIL}{words}", unit, finer_score(answers, name), compare_finer(before, answers, name))
    sources = sorted({answer.source for answer in answers})
    families = Counter(source.partition("/")[0] for source in sources)
    for family in sorted(family for family, count in families.items() if count > 1):
        add_source(f"{DETAIL}{family}", [answer for answer in answers if answer.source.partition("/")[0] == family])
    for source in sources:
        add_source(f"{DETAIL}{source}", [answer for answer in answers if answer.source == source])
    return found


def _items(measure: Measure, files: RunFiles, name: str, manifest: Manifest | None) -> list[Any]:
    """The items; those of older versions, which did not note the temperature, with that of the options."""
    items = list(measure.read(files, name))
    options = manifest.options if manifest else {}
    given = [options[key] for key in _OPTIONS.get(measure.kind, ()) if options.get(key) is not None]
    if not given:
        return items
    alone = {"temperature": float(given[0])}
    return [item if item.temperature is not None else item.model_copy(update=alone) for item in items]


def _temperature(item: Any) -> float | None:
    return getattr(item, "temperature", None)


def difference_between(first: RunFiles, second: RunFiles, score: Score) -> PairedDifference | None:
    """The second run's policy after training minus the first run's, over the items that both scored; None if there are
    none, or if this is no measurement of single items.

    Args:
        score: which measurement, at which temperature.
    """
    measure = next((one for one in (*MEASURES, ANSWERS) if one.kind == score.kind), None)
    if measure is None:
        return None
    sides = []
    for files in (first, second):
        items = _items(measure, files, "after", find_manifest(files.directory, "evaluations/after"))
        sides.append([item for item in items if _temperature(item) == score.temperature])
    return measure.compare(*sides)
