"""Where the samples of a run come from: its profile, each evaluation at each temperature, each training.

Record files are read by key, so that no more than one turn's samples are in memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pivotrl.parsing import parse_completion
from pivotrl.plugins import unknown
from pivotrl.protocols import InputError, Turn
from pivotrl.records import Completion, EpisodeResult, SampleGroup, TurnResult, Verdict
from pivotrl.report.browser.samples import Drawn, Draws
from pivotrl.report.evaluations import with_temperature
from pivotrl.report.sentences import stage_words
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import known_stages
from pivotrl.runs.manifest import find_manifest
from pivotrl.storage.record_files import RecordFile

Kind = Literal["profile", "evaluation", "training"]

NOT_KEPT = "outcome_not_kept"
"""The reason of a sample whose verdict is not in the files."""
_GROUP = re.compile(r"(.*#\d+)(?:~(\d+))?\Z", re.DOTALL)
"""A key of :class:`SampleGroup` without its step: turn id, number of the first sample."""


@dataclass(frozen=True)
class Source:
    """Samples of one policy at some turns."""

    name: str
    title: str
    kind: Kind
    draws: Callable[[Turn], Draws | None]
    """None for a turn without samples here."""
    temperature: float | None = None
    stage: str = ""
    episodes: Sequence[str] = ()
    """Keys of the episodes that it is made of; empty for turns of logs."""
    episode: Callable[[str], EpisodeResult] | None = None
    trained: Mapping[str, int] = field(default_factory=dict)
    """Turn id -> steps that used it, of a training."""
    old: bool = False
    """Made by a version that kept the first sample of each turn alone."""
    run: str = ""
    """Its name, where two runs are on the page."""
    policy: str = ""
    draw: str = ""
    """In a comparison: who was sampled, and how."""

    @property
    def full_title(self) -> str:
        return f"{self.run}: {self.title}" if self.run else self.title

    def as_json(self) -> dict[str, Any]:
        found = {"name": self.name, "title": self.full_title, "kind": self.kind}
        return found | ({"policy": self.policy, "draw": self.draw} if self.policy else {})


def sources_of(files: RunFiles, evaluations: Sequence[str] | None = None) -> list[Source]:
    """Every source of a run, in the order of the stages; files without rows are left out.

    Args:
        evaluations: names of those to keep; None keeps all.

    Raises:
        InputError: there is no such evaluation.
    """
    found: list[Source] = []
    stages = known_stages(files.directory)
    names = [stage.partition("/")[2] for stage in stages if stage.startswith("evaluations/")]
    for name in evaluations or ():
        if name not in names:
            raise InputError(unknown(f"{files.directory} has no evaluation called {name!r}", name, names))
    if "profile" in stages:
        found += _groups(files.profile_groups(), "profile", "Reference policy (profile)", "profile", "profile")
    for stage in stages:
        folder, _, name = stage.partition("/")
        title = stage_words(stage)
        title = title[:1].upper() + title[1:]
        if folder == "evaluations" and (evaluations is None or name in evaluations):
            found += _evaluated(files, stage, name, title)
        elif stage == "train" or folder == "trainings":
            label = f"training/{name or 'train'}"
            found += _groups(files.trained(stage), label, title, "training", stage)
            found += _played(files.episodes_trained(stage), label, title, "training", stage, None)
    return found


def _groups(file: RecordFile[SampleGroup], name: str, title: str, kind: Kind, stage: str) -> Iterator[Source]:
    keys: dict[str, list[tuple[int, int, str]]] = {}
    for key in file.keys():  # noqa: SIM118
        step, _, rest = key.partition("/") if kind == "training" else ("0", "", key)
        if match := _GROUP.match(rest):
            keys.setdefault(match[1], []).append((int(step), int(match[2] or 0), key))
    if not keys:
        return

    def draws(turn: Turn) -> Draws | None:
        if turn.id not in keys:
            return None
        groups = [file.get(key) for _, _, key in sorted(keys[turn.id])]
        return Draws([one for group in groups for one in _drawn(group)], prompt_sha256=groups[0].prompt_sha256)

    steps = {turn: len({step for step, _, _ in parts}) for turn, parts in keys.items()} if kind == "training" else {}
    yield Source(name, title, kind, draws, stage=stage, trained=steps)


def _drawn(group: SampleGroup) -> Iterator[Drawn]:
    for number, completion in enumerate(group.completions_G):
        verdict = group.verdicts_G[number] if number < len(group.verdicts_G) else Verdict.unknown("not_judged")
        yield Drawn(completion, verdict, group.first + number, group.step)


def _evaluated(files: RunFiles, stage: str, name: str, title: str) -> Iterator[Source]:
    manifest = find_manifest(files.directory, stage)
    options = manifest.options if manifest else {}
    file = files.turn_results(name)
    by_temperature: dict[float | None, dict[str, str]] = {}
    old: set[float | None] = set()
    for result in file:
        given = options.get("turn_temperature", options.get("eval_temperature"))
        temperature = result.temperature if result.temperature is not None or given is None else float(given)
        by_temperature.setdefault(temperature, {})[result.turn_id] = result.key
        if result.num_samples > 1 and not result.completions_G:
            old.add(temperature)
    for temperature, keys in by_temperature.items():

        def draws(turn: Turn, keys: Mapping[str, str] = keys) -> Draws | None:
            return judged(turn, file.get(keys[turn.id])) if turn.id in keys else None

        yield Source(
            f"evaluation/{name}{_at(temperature)}",
            with_temperature(title, temperature),
            "evaluation",
            draws,
            temperature,
            stage,
            old=temperature in old,
        )
    yield from _played(files.episode_results(name), f"evaluation/{name}", title, "evaluation", stage, options)


def _at(temperature: float | None) -> str:
    return "" if temperature is None else f"@{temperature:g}"


def judged(turn: Turn, result: TurnResult) -> Draws:
    """Of a result that kept its first sample alone, the counts follow from the mean where every sample was right or
    wrong, with as few samples without a verdict as fit the mean."""
    if result.completions_G:
        pairs = enumerate(zip(result.completions_G, result.verdicts_G, strict=True))
        samples = [Drawn(completion, verdict, number) for number, (completion, verdict) in pairs]
        return Draws(samples, prompt_sha256=result.prompt_sha256)
    action, error = parse_completion(result.text, tools=turn.trajectory.tools)
    completion = Completion(
        action=action,
        text=result.text,
        token_ids_T=result.token_ids_T,
        logprobs_T=result.logprobs_T,
        finish_reason="length" if result.num_cut_off == result.num_samples else "stop",
        parse_error=error,
    )
    return Draws(
        [Drawn(completion, _verdict(result), 0)],
        _counts(result),
        result.reward,
        result.num_cut_off,
        result.prompt_sha256,
    )


def _verdict(result: TurnResult) -> Verdict:
    if result.reward is not None and (result.num_samples == 1 or result.reward in (0.0, 1.0)):
        made = Verdict.passed if result.reward > 0 else Verdict.failed
        return made(result.reason, reward=result.reward)
    return Verdict.unknown(result.reason if result.reward is None else NOT_KEPT, first_reason=result.reason)


def _counts(result: TurnResult) -> tuple[int, int, int]:
    if result.reward is None:
        return 0, 0, result.num_samples
    for judged in range(result.num_samples, 0, -1):
        passed = round(result.reward * judged)
        if abs(passed - result.reward * judged) < 1e-6:
            return passed, judged - passed, result.num_samples - judged
    return 0, 0, result.num_samples  # rewards between 0 and 1


def _played(
    file: RecordFile[EpisodeResult], name: str, title: str, kind: Kind, stage: str, options: Any
) -> Iterator[Source]:
    by_temperature: dict[float | None, list[str]] = {}
    for result in file:
        temperature = result.temperature
        if temperature is None and options and options.get("eval_temperature") is not None:
            temperature = float(options["eval_temperature"])
        by_temperature.setdefault(temperature, []).append(result.key)
    for temperature, keys in by_temperature.items():
        told = with_temperature(f"{title}, episodes", temperature)
        yield Source(
            f"{name} episodes{_at(temperature)}", told, kind, lambda turn: None, temperature, stage, keys, file.get
        )
