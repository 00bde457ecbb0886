"""Measures a policy on held-out turns, in held-out episodes and outside the task, with intervals and paired tests.

Every item is stored. :mod:`pivotrl.intervals` computes every number from the items, clustered by task.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivotrl.episodes import episodes_of, play_episodes
from pivotrl.intervals import Estimate, PairedDifference, clustered_mean, paired_difference
from pivotrl.options import AtLeast0, AtLeast1, NotNegative, check, flag, refuse
from pivotrl.protocols import Environments, InputError, Policy, Sampler, Turn, Verifier
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import EpisodeResult, RetentionResult, SampleGroup, Sampling, TurnResult
from pivotrl.rollouts import SampleFaults, continuation_turns, misfit, sample_groups
from pivotrl.storage.record_files import RecordFile
from pivotrl.strict_json import parse_json
from pivotrl.turns import whole_trajectories


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured before and after training."""

    heldout_turns: AtLeast0 | None = 200
    """Maximum number of held-out turns, drawn round-robin over tasks; None takes all, 0 none."""
    eval_temperature: NotNegative = 0.0
    """Temperature of episodes, and of turns unless turn_temperature is given; 0 is greedy."""
    turn_samples: AtLeast1 = 1
    """Actions sampled per held-out turn; the turn's result is the mean of their rewards."""
    turn_temperature: NotNegative | None = None
    """Temperature of held-out turns; None takes eval_temperature. 1 with several samples measures the training goal."""
    episodes_per_task: AtLeast1 = 1
    """Episodes per task of each environment; more than one needs an eval_temperature above 0."""
    eval_max_tokens: AtLeast1 = 256
    """Longest action, in tokens; a longer one is cut off and fails."""
    eval_seed: int = 0
    """Seed of the held-out turns that are drawn, and of all samples."""
    eval_batch: AtLeast1 = 64
    """Turns or episodes that run together; results are written after each batch."""

    def __post_init__(self) -> None:
        check(self)
        if self.turn_samples > 1 and self.turn_sampling.temperature == 0:
            refuse("turn_samples", self.turn_samples, "at temperature 0 are one sample; give --turn-temperature")
        if self.episodes_per_task > 1 and self.eval_temperature == 0:
            at_zero = "at temperature 0 are one episode; give --eval-temperature"
            refuse("episodes_per_task", self.episodes_per_task, at_zero)

    @property
    def sampling(self) -> Sampling:
        return Sampling(temperature=self.eval_temperature, max_tokens=self.eval_max_tokens, seed=self.eval_seed)

    @property
    def turn_sampling(self) -> Sampling:
        temperature = self.eval_temperature if self.turn_temperature is None else self.turn_temperature
        return self.sampling.model_copy(update={"temperature": temperature})


def evaluate_turns(
    sampler: Sampler,
    turns: Sequence[Turn],
    verifier: Verifier,
    path: Path,
    options: EvaluationOptions = EvaluationOptions(),
    observer: Observer = SILENT,
) -> list[TurnResult]:
    """Sample and verify ``turn_samples`` actions at each held-out turn. Turns already in the file are skipped."""
    file = RecordFile(path, TurnResult, key=lambda result: result.turn_id)
    fitting = [turn for turn in turns if misfit(sampler, turn, options.eval_max_tokens) is None]
    batches = whole_trajectories(fitting, options.eval_batch)
    open_batches = [batch for batch in batches if any(turn.id not in file for turn in batch)]
    done = len(fitting) - sum(map(len, open_batches))
    observer.progress("held-out turns", done, len(fitting))
    for batch in open_batches:
        groups = sample_groups(batch, sampler, verifier, options.turn_samples, options.turn_sampling)
        results = [_turn_result(turn, group) for turn, group in zip(batch, groups, strict=True)]
        file.append([result for result in results if result.turn_id not in file])
        done += len(batch)
        observer.progress("held-out turns", done, len(fitting))
    found = list(file)
    SampleFaults.of_results(found).warn(f"--eval-max-tokens (now {options.eval_max_tokens})")
    return found


def _turn_result(turn: Turn, group: SampleGroup) -> TurnResult:
    """The mean reward of the samples with a verdict; text, tokens and reason are those of the first sample."""
    return TurnResult(
        turn_id=turn.id,
        task_id=turn.trajectory.task_id,
        reward=group.mean,
        reason=group.verdicts_G[0].reason,
        text=group.completions_G[0].text,
        num_samples=len(group.completions_G),
        num_tokens=sum(len(completion.token_ids_T) for completion in group.completions_G),
        num_cut_off=group.num_cut_off,
        num_continuation_turns=continuation_turns([group]),
        prompt_sha256=group.prompt_sha256,
        token_ids_T=group.completions_G[0].token_ids_T,
        logprobs_T=group.completions_G[0].logprobs_T,
    )


def evaluate_episodes(
    sampler: Sampler,
    environments: Mapping[str, Environments],
    path: Path,
    options: EvaluationOptions = EvaluationOptions(),
    observer: Observer = SILENT,
) -> list[EpisodeResult]:
    """Play ``episodes_per_task`` whole episodes of every task. Episodes already in the file are skipped.

    Args:
        environments: by name, see :func:`pivotrl.plugins.environments.make_checked`.

    Raises:
        InputError: an older version, which did not name environments, began the file; or an environment fails.
    """
    file = RecordFile(path, EpisodeResult)
    if any(not result.environment for result in file):
        raise InputError(f"{path} was begun by an older version of pivotrl; evaluate again with --overwrite")
    episodes = episodes_of(environments, options.episodes_per_task)
    starts = range(0, len(episodes), options.eval_batch)
    batches = [episodes[start : start + options.eval_batch] for start in starts]
    open_batches = [batch for batch in batches if any(episode.key not in file for episode in batch)]
    done = len(episodes) - sum(map(len, open_batches))
    observer.progress("held-out episodes", done, len(episodes))
    for batch in open_batches:
        finished = []
        with contextlib.closing(play_episodes(batch, sampler, options.sampling)) as played:
            for result in played:
                finished.append(result)
                observer.progress("held-out episodes", done + len(finished), len(episodes))
        file.append([result for result in finished if result.key not in file])
        done += len(batch)
    return list(file)


def evaluate_retention(
    policy: Policy, texts: Sequence[dict[str, str]], path: Path, observer: Observer = SILENT
) -> list[RetentionResult]:
    """Teacher-forced likelihood of reference answers outside the task, and KL to the reference on the same tokens.

    Raises:
        InputError: the policy cannot score a text or gives it no finite likelihood; the message names the text.
    """
    file = RecordFile(path, RetentionResult, key=lambda result: result.item_id)
    open_texts = [text for text in texts if text["id"] not in file]
    done = len(texts) - len(open_texts)
    observer.progress("retention texts", done, len(texts))
    for number, text in enumerate(open_texts, start=done + 1):
        try:
            nll, kl, num_tokens = policy.score_text(text["prompt"], text["answer"])
        except InputError as error:
            raise InputError(f"reference text {text['id']!r}: {error}") from error
        if not (num_tokens and math.isfinite(nll) and math.isfinite(kl or 0.0)):
            raise InputError(
                f"reference text {text['id']!r}: its {num_tokens} answer tokens have no finite likelihood under "
                "this policy; remove the text or fix the weights"
            )
        result = RetentionResult(item_id=text["id"], source=text["source"], nll=nll, kl=kl, num_tokens=num_tokens)
        file.append([result])
        observer.progress("retention texts", number, len(texts))
    return list(file)


_TEXT_KEYS = ("id", "source", "prompt", "answer")


class ReferenceTexts(tuple[dict[str, str], ...]):
    """Texts outside the task, with the file they come from."""

    path: str | None = None


def load_retention(path: Path, max_texts: int | None = None) -> ReferenceTexts:
    """Reference texts, one JSON object per line with ``id``, ``source``, ``prompt`` and ``answer``. Only a line feed
    ends a line.

    Args:
        max_texts: how many to take, from the first.

    Raises:
        InputError: the file is missing, or a line is not such an object, has an empty text or a repeated id.
    """
    if max_texts is not None and max_texts < 1:
        raise InputError(f"{flag('retention_texts')} must be at least 1, not {max_texts}; leave it out to take all")
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a JSON Lines file with id, source, prompt and answer")
    texts: dict[str, dict[str, str]] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            text = _reference_text(parse_json(line))
            if text["id"] in texts:
                raise ValueError(f"the id {text['id']!r} occurs twice")
        except ValueError as error:  # covers JSON and UTF-8
            raise InputError(f"{path}:{number} is not a reference text: {error}. Fix or remove the line") from error
        texts[text["id"]] = text
    if not texts:
        raise InputError(f"{path} holds no reference text; give one JSON object per line")
    found = ReferenceTexts(list(texts.values())[:max_texts])
    found.path = str(path)
    return found


def _reference_text(entry: Any) -> dict[str, str]:
    if not isinstance(entry, dict):
        raise ValueError(f"not an object with {', '.join(_TEXT_KEYS)}")
    for key in _TEXT_KEYS:
        if key not in entry:
            raise ValueError(f"{key!r} is missing")
        if not isinstance(entry[key], str):
            raise ValueError(f"{key!r} is not a string")
        if not entry[key].strip():
            raise ValueError(f"{key!r} is empty")
    return {key: entry[key] for key in _TEXT_KEYS}


# --- numbers from items -------------------------------------------------------------------------------------------


def turn_accuracy(results: Sequence[TurnResult]) -> Estimate | None:
    """Mean reward over held-out turns with a verdict, clustered by task; None if there are none."""
    scored = [(result.reward, result.task_id) for result in results if result.reward is not None]
    return clustered_mean([r for r, _ in scored], [t for _, t in scored]) if scored else None


def episode_success(results: Sequence[EpisodeResult]) -> Estimate | None:
    """Mean reward over episodes with a reward, clustered by task; None if there are none."""
    scored = [(result.reward, result.cluster) for result in results if result.reward is not None]
    return clustered_mean([r for r, _ in scored], [t for _, t in scored]) if scored else None


def compare(
    before: Sequence[Any],
    after: Sequence[Any],
    key: Callable[[Any], str],
    value: Callable[[Any], float | None],
    cluster: Callable[[Any], str],
    bounded: bool = True,
) -> PairedDifference | None:
    """Paired difference over the items that both sides scored; None if there are none."""
    first = {key(item): value(item) for item in before}
    pairs = [
        (first[key(i)], value(i), cluster(i)) for i in after if first.get(key(i)) is not None and value(i) is not None
    ]
    if not pairs:
        return None
    old, new, clusters = zip(*pairs, strict=True)
    return paired_difference(list(old), list(new), list(clusters), bounded=bounded)


def compare_turns(before: Sequence[TurnResult], after: Sequence[TurnResult]) -> PairedDifference | None:
    return compare(before, after, lambda r: r.turn_id, lambda r: r.reward, lambda r: r.task_id)


def compare_episodes(before: Sequence[EpisodeResult], after: Sequence[EpisodeResult]) -> PairedDifference | None:
    """Paired by environment, task and number, or by task and number if an older version, which did not name
    environments, played one side."""
    if not all(result.environment for result in (*before, *after)):
        before, after = ([r.model_copy(update={"environment": ""}) for r in side] for side in (before, after))
    return compare(before, after, lambda r: r.key, lambda r: r.reward, lambda r: r.cluster)


def compare_retention(before: Sequence[RetentionResult], after: Sequence[RetentionResult]) -> PairedDifference | None:
    """Difference of the NLL per token in nats, paired by text; above 0 is forgetting."""
    if len(before) < 2:
        return None
    return compare(before, after, lambda r: r.item_id, lambda r: r.nll, lambda r: r.item_id, bounded=False)
