"""Success in whole held-out episodes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from pivotrl.episodes import Episode, episodes_of, play_episodes
from pivotrl.evaluation.options import Draw, EvaluationOptions
from pivotrl.protocols import Environments, InputError, Sampler
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import EpisodeResult, at_temperature
from pivotrl.storage.record_files import RecordFile


def evaluate_episodes(
    sampler: Sampler,
    environments: Mapping[str, Environments],
    path: Path,
    options: EvaluationOptions = EvaluationOptions(),
    observer: Observer = SILENT,
) -> list[EpisodeResult]:
    """Play whole episodes of every task, as many and at the temperatures that ``options.episode_draws`` says. Each is
    stored as soon as it ends; episodes already in the file are skipped.

    Args:
        environments: by name, see :func:`pivotrl.plugins.environments.make_checked`.

    Raises:
        InputError: an older version, which did not name environments, began the file; or an environment fails.
    """
    draws = options.episode_draws
    file = RecordFile(path, EpisodeResult, key=lambda result: _key(result, draws[0]))
    if any(not result.environment for result in file):
        raise InputError(f"{path} was begun by an older version of pivotrl; evaluate again with --overwrite")
    batches: list[tuple[Draw, list[Episode]]] = []
    for draw in draws:
        episodes = episodes_of(environments, draw.num_samples)
        starts = range(0, len(episodes), options.eval_batch)
        batches += [(draw, episodes[start : start + options.eval_batch]) for start in starts]
    total, done = sum(len(batch) for _, batch in batches), len(file)
    observer.progress("held-out episodes", done, total)
    for draw, batch in batches:
        missing = [one for one in batch if at_temperature(one.key, draw.temperature) not in file]
        if not missing:
            continue
        with contextlib.closing(play_episodes(missing, sampler, options.sampling(draw.temperature))) as played:
            for result in played:
                file.append([result.model_copy(update={"temperature": draw.temperature})])
                done += 1
                observer.progress("held-out episodes", done, total)
    return list(file)


def _key(result: EpisodeResult, alone: Draw) -> str:
    """Of a result. Older versions played at one temperature and did not note it."""
    return result.key if result.temperature is not None else at_temperature(result.key, alone.temperature)
