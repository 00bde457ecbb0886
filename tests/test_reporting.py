"""The report says what the files say, in words a reader can trust, and nothing in the files can take it over."""

from __future__ import annotations

import html
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest

from pivotrl import wording
from pivotrl.evaluation import EvaluationOptions
from pivotrl.profiling import ProfileOptions, outcome_counts
from pivotrl.protocols import InputError
from pivotrl.records import (
    Action,
    Completion,
    EpisodeResult,
    Message,
    RetentionResult,
    SampleGroup,
    Selection,
    SkippedTurn,
    StepMetrics,
    Trajectory,
    TurnResult,
    Verdict,
)
from pivotrl.reporting import write_report
from pivotrl.selection import SelectionOptions, select
from pivotrl.stages import ReadOptions
from pivotrl.store import RecordFile, Stage
from pivotrl.summary import STAGES, summarise
from pivotrl.training import TrainingOptions, options_dict
from pivotrl.turns import TurnOptions

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

NUM_SAMPLES = 8
HOSTILE = "<script>alert('x')</script> </pre><img src=http://evil.example/x onerror=alert(1)> \u202e\x1b[31m {{ 7 * 7 }} $x^2$"


def trajectory(side: str, number: int, text: str) -> Trajectory:
    messages = []
    for index in range(4):
        messages += [
            Message(role="user", content=f"Craft an oak_door. Inventory: {index + 2} oak_planks. {text}"),
            Message(role="assistant", content=f"move: from [I{index + 1}] to [A{index + 1}] with quantity 1"),
        ]
    return Trajectory(id=f"{side}-{number}", task_id=f"{side}-{number}", messages=tuple(messages), reward=1.0)


def completion(text: str, num_tokens: int = 16) -> Completion:
    return Completion(
        action=Action(content=text),
        text=text,
        token_ids_T=tuple(range(num_tokens)),
        logprobs_T=(-0.5,) * num_tokens,
        finish_reason="stop",
    )


def group(turn_id: str, rate: float, generator: random.Random, step: int | None = None, text: str = "") -> SampleGroup:
    """Samples that pass with the given probability; one in a hundred gets no verdict."""
    completions, verdicts = [], []
    for _ in range(NUM_SAMPLES):
        draw, slot = generator.random(), generator.randint(1, 3)
        passed = draw < rate
        completions.append(completion(f"move: from [I{slot}] to [{'A' if passed else 'C'}{slot}] with quantity 1{text}"))
        verdict = Verdict.passed("nearer") if passed else Verdict.failed(generator.choice(["not_nearer", "no_effect"]))
        verdicts.append(Verdict.unknown("no_plan_from_state") if 0.0 < rate < 1.0 and draw > 0.99 else verdict)
    return SampleGroup(
        turn_id=turn_id, completions_G=tuple(completions), verdicts_G=tuple(verdicts), num_prompt_tokens=200, step=step
    )


def records(path: Path, model: Any, key: Any, rows: list[Any]) -> None:
    RecordFile(path, model, key).append(rows)


def make_run(
    directory: Path,
    *,
    gain: float = 0.25,
    episode_gain: float = 0.15,
    stages: tuple[str, ...] = STAGES,
    heldout: bool = True,
    episodes: bool = True,
    retention: bool = True,
    text: str = "",
    num_tasks: int = 40,
    num_steps: int = 40,
) -> Path:
    """A small plausible run directory, the same every time. ``text`` is put into every untrusted place."""
    generator = random.Random(0)
    train = [trajectory("train", number, text) for number in range(num_tasks)]
    held = [trajectory("held", number, text) for number in range(num_tasks)] if heldout else []
    turn_ids = [f"{t.id}#{index}" for t in train for index in (1, 3, 5, 7)]
    skipped = [SkippedTurn(turn_id=turn_id, reason="context_too_long") for turn_id in turn_ids[:5]]
    rates = {turn_id: generator.choice([0.0, 0.0, 0.1, 0.3, 0.5, 0.8, 1.0, 1.0]) for turn_id in turn_ids[5:]}
    profiles = [group(turn_id, rate, generator, text=text) for turn_id, rate in rates.items()]
    selections = select(profiles, SelectionOptions())
    pivots = [row.turn_id for row in selections if row.selected]

    def finish(name: str, options: dict[str, Any], counts: dict[str, Any], bought: int = 0) -> None:
        folder, _, stem = name.rpartition("/")
        with Stage(directory / folder, stem, options, {"input": f"hash of {name}"}) as stage:
            stage.finish(counts, bought)

    if "read" in stages:
        records(directory / "trajectories.jsonl", Trajectory, lambda t: t.id, train)
        records(directory / "heldout.jsonl", Trajectory, lambda t: t.id, held)
        source = {"reader": "pivotrl.readers.plancraft:read", "source": f"val{text}", "heldout": None}
        counts = {"read": 2 * num_tasks + 7, "dropped_low_reward": 7, "reward_unknown": 0}
        counts |= {"train_trajectories": num_tasks, "heldout_trajectories": len(held), "train_tasks": num_tasks}
        finish("read", {**options_dict(ReadOptions()), **source}, {**counts, "lost": {f"reasoning is encrypted{text}": 3}})
    if "profile" in stages:
        records(directory / "profiles.jsonl", SampleGroup, lambda g: g.turn_id, profiles)
        records(directory / "skipped.jsonl", SkippedTurn, lambda row: row.turn_id, skipped)
        options = {**options_dict(TurnOptions()), **options_dict(ProfileOptions(num_samples=NUM_SAMPLES))}
        counts = {"candidate_turns": len(turn_ids), "profiled_turns": len(profiles), "skipped": {"context_too_long": 5}}
        finish(
            "profile",
            {**options, "verifier": "pivotrl.verifiers.plancraft:verify"},
            {**counts, **outcome_counts(profiles)},
            len(profiles) * NUM_SAMPLES,
        )
    if "select" in stages:
        records(directory / "selection.jsonl", Selection, lambda row: row.turn_id, selections)
        finish("select", options_dict(SelectionOptions()), {"pivots": len(pivots)})
    for side in ("before", "after"):
        if f"evaluations/{side}" in stages:
            evaluate(directory, side, held, gain, episode_gain, episodes, retention, text, finish)
    if "train" in stages:
        groups, rows = [], []
        for step in range(num_steps):
            progress = step / num_steps
            batch = [group(t, min(1.0, rates[t] + gain * progress), generator, step) for t in generator.sample(pivots, 8)]
            groups += batch
            rows.append(step_metrics(step, batch, progress, generator))
        records(directory / "train" / "groups.jsonl", SampleGroup, lambda g: f"{g.step}/{g.turn_id}", groups)
        records(directory / "train" / "metrics.jsonl", StepMetrics, lambda row: str(row.step), rows)
        options = TrainingOptions(num_steps=num_steps, turns_per_step=8, group_size=NUM_SAMPLES, learning_rate=1e-5)
        finish(
            "train",
            {**options_dict(options), "verifier": "pivotrl.verifiers.plancraft:verify"},
            {"pivots": len(pivots), "steps": num_steps, "skipped_updates": 0},
            num_steps * 8 * NUM_SAMPLES,
        )
    return directory


def evaluate(
    directory: Path,
    side: str,
    held: list[Trajectory],
    gain: float,
    episode_gain: float,
    episodes: bool,
    retention: bool,
    text: str,
    finish: Any,
) -> None:
    generator = random.Random(1)  # the same luck before and after, so that pairs are correlated
    trained = side == "after"
    turns = []
    for t in held:
        for index in (1, 3, 5, 7):
            luck, shift = generator.random(), generator.uniform(-0.4, 0.4)
            passed = luck < 0.45 + (gain + shift) * trained
            turns.append(
                TurnResult(
                    turn_id=f"{t.id}#{index}",
                    task_id=t.task_id,
                    reward=float(passed),
                    reason="nearer" if passed else "not_nearer",
                    text=f"move: from [I1] to [{'A' if passed else 'B'}1] with quantity 1{text}",
                    num_tokens=16,
                )
            )
    played = [
        EpisodeResult(
            task_id=t.task_id,
            reward=float(generator.random() < 0.3 + (episode_gain * trained) + 0.2 * (number % 2)),
            reason="crafted" if number % 2 else f"too_many_turns{text}",
            num_turns=6,
            num_tokens=96,
            tags={"difficulty": f"{'easy' if number % 2 else 'medium'}{text}", "target": f"item_{number}"},
        )
        for number, t in enumerate(held)
        if episodes
    ]
    texts = [
        RetentionResult(
            item_id=f"text-{n}",
            source="gsm8k",
            nll=2.2 + 0.1 * math.sin(n) + trained * (0.01 + 0.004 * math.cos(n)),
            kl=0.012 + 0.004 * math.sin(n) if trained else None,
            num_tokens=120,
        )
        for n in range(30)
        if retention
    ]
    folder = directory / "evaluations"
    if turns:
        records(folder / f"{side}.turns.jsonl", TurnResult, lambda r: r.turn_id, turns)
    if played:
        records(folder / f"{side}.episodes.jsonl", EpisodeResult, lambda r: r.task_id, played)
    if texts:
        records(folder / f"{side}.retention.jsonl", RetentionResult, lambda r: r.item_id, texts)
    options = {**options_dict(EvaluationOptions()), "verifier": "pivotrl.verifiers.plancraft:verify"}
    environments = "environments:plancraft(split='test')" if played else None
    finish(
        f"evaluations/{side}",
        {**options, "environments": environments},
        {"turns": len(turns), "episodes": len(played), "retention_texts": len(texts)},
        len(turns) + sum(result.num_turns for result in played),
    )


def step_metrics(step: int, batch: list[SampleGroup], progress: float, generator: random.Random) -> StepMetrics:
    means = [g.mean for g in batch if g.mean is not None]
    variances = [g.variance for g in batch if g.variance is not None]
    metrics = {
        "reward/mean": sum(means) / len(means),
        "reward/group_variance": sum(variances) / len(variances),
        "groups/sampled": float(len(batch)),
        "groups/with_signal": float(sum(variance > 0 for variance in variances)),
        "samples/total": float(len(batch) * NUM_SAMPLES),
        "samples/without_verdict": float(sum(NUM_SAMPLES - len(g.rewards) for g in batch)),
        "samples/malformed": float(generator.randint(0, 2)),
        "samples/mean_tokens": 16.0,
        "policy/entropy": 0.9 - 0.5 * progress + 0.05 * generator.random(),
        "policy/sampler_gap": 0.002 * generator.random(),
        "gradient/norm": 0.6 + 0.4 * generator.random(),
        "loss/total": 0.01,
        "tokens/trained": 900.0,
        "time/sample_seconds": 2.0,
        "time/update_seconds": 1.0,
    }
    return StepMetrics(step=step, metrics=metrics)


def page_of(directory: Path) -> str:
    return write_report(directory).read_text("utf-8")


def words_of(page: str) -> str:
    """What a reader sees: no tags, no style, entities resolved, spaces joined."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "plancraft-small")


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return page_of(run)


def test_a_gain_is_said_with_its_evidence(run: Path, page: str) -> None:
    d = summarise(run).comparisons[0].difference
    verdict = (
        f"Held-out turn accuracy rose from {100 * d.mean_before:.1f} % to {100 * d.mean_after:.1f} %: "
        f"+{100 * d.difference:.1f} points, 95 % interval +{100 * d.low:.1f} to +{100 * d.high:.1f}, p"
    )
    assert words_of(page).count(verdict) == 1
    assert "(Holm-adjusted), 160 turns of 40 tasks." in words_of(page)
    assert "One seed." in words_of(page)
