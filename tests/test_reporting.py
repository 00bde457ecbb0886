"""The report says what the files say, in words a reader can trust, and nothing in the files can take it over."""

from __future__ import annotations

import html
import json
import math
import os
import random
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pivotrl.evaluation import EvaluationOptions
from pivotrl.intervals import Estimate, PairedDifference
from pivotrl.options import options_dict
from pivotrl.profiling import ProfileOptions, outcome_counts
from pivotrl.protocols import InputError
from pivotrl.reading.importing import ReadOptions
from pivotrl.records import (
    Action,
    Completion,
    EpisodeResult,
    Manifest,
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
from pivotrl.report import sentences
from pivotrl.report.page import write_report
from pivotrl.report.summary import STAGES, Comparison, Summary, summarise
from pivotrl.runs.layout import outputs
from pivotrl.runs.manifest import manifest_path, outputs_of, write_manifest
from pivotrl.runs.stage import Stage
from pivotrl.selection import SelectionOptions, select
from pivotrl.storage.record_files import RecordFile, package_versions
from pivotrl.training import TrainingOptions
from pivotrl.turns import TurnOptions

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

NUM_SAMPLES = 8
VERIFIER = "pivotrl.verifiers.plancraft:verify"
HOSTILE = (
    "<script>alert('x')</script> </pre></details><img src=http://evil.example/x onerror=alert(1)> "
    "\u202e\x1b[31m {{ 7 * 7 }} $x^2$"
)


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
        completions.append(completion(f"move: from [I{slot}] to [{'A' if passed else 'C'}{slot}]{text}"))
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
        manifest = Manifest(
            stage=name,
            status="complete",
            options=json.loads(json.dumps(options, default=str)),
            inputs={"input": f"hash of {name}"},
            outputs=outputs_of(directory, outputs(name)),
            counts=counts,
            num_rollout_turns=bought,
            versions=package_versions(),
            started_at="2026-01-31T12:00:00Z",
            finished_at="2026-01-31T12:30:00Z",
            wall_seconds=1800.0,
        )
        write_manifest(manifest_path(directory, name), manifest)

    if "read" in stages:
        records(directory / "trajectories.jsonl", Trajectory, lambda t: t.id, train)
        records(directory / "heldout.jsonl", Trajectory, lambda t: t.id, held)
        source = {"reader": "pivotrl.readers.plancraft:read", "source": f"val{text}", "heldout": None}
        counts = {"read": 2 * num_tasks + 7, "dropped": {"low_reward": 7}, "refused": 0}
        counts |= {"train_trajectories": num_tasks, "heldout_trajectories": len(held), "train_tasks": num_tasks}
        lost = {f"reasoning is encrypted{text}": 3}
        finish("read", {**options_dict(ReadOptions()), **source}, {**counts, "losses": lost})
    if "profile" in stages:
        records(directory / "profiles.jsonl", SampleGroup, lambda g: g.turn_id, profiles)
        records(directory / "skipped.jsonl", SkippedTurn, lambda row: row.turn_id, skipped)
        options = {**options_dict(TurnOptions()), **options_dict(ProfileOptions(num_samples=NUM_SAMPLES))}
        counts = {"candidate_turns": len(turn_ids), "profiled_turns": len(profiles), "skipped": {"context_too_long": 5}}
        finish(
            "profile",
            {**options, "verifier": VERIFIER},
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
            drawn = generator.sample(pivots, 8)
            batch = [group(t, min(1.0, rates[t] + gain * progress), generator, step) for t in drawn]
            groups += batch
            rows.append(step_metrics(step, batch, progress, generator))
        records(directory / "train" / "groups.jsonl", SampleGroup, lambda g: f"{g.step}/{g.turn_id}", groups)
        records(directory / "train" / "metrics.jsonl", StepMetrics, lambda row: str(row.step), rows)
        options = TrainingOptions(num_steps=num_steps, turns_per_step=8, group_size=NUM_SAMPLES, learning_rate=1e-5)
        finish(
            "train",
            {**options_dict(options), "verifier": VERIFIER},
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
            luck, shift = generator.random(), generator.uniform(-0.6, 0.6)
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
    options = {**options_dict(EvaluationOptions()), "verifier": VERIFIER}
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


# --- what the tests need ------------------------------------------------------------------------------------------


def page_of(directory: Path) -> str:
    return write_report(directory).read_text("utf-8")


def words_of(page: str) -> str:
    """What a reader sees: no tags, no style, entities resolved, spaces joined."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


class Elements(HTMLParser):
    """The tags of a page and the attributes that could load or run something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs


def comparison(difference: float, low: float, high: float, name: str = "held-out turns") -> Comparison:
    unit, better = ("NLL per token, nats", False) if name == "retention" else ("share passed", True)
    base = 2.0 if name == "retention" else 0.479
    paired = PairedDifference(base, base + difference, difference, low, high, 0.0004, 96, 66, 20, 4)
    before, after = (Estimate(mean, mean - 0.1, mean + 0.1, 96, 66) for mean in (base, base + difference))
    return Comparison(name, unit, before, after, paired, better)


def summary(*comparisons: Comparison, p_value: float = 0.0004, complete: bool = True) -> Summary:
    adjusted = {c.name: p_value for c in comparisons if c.name != "retention"}
    return Summary("run", complete, {}, comparisons, adjusted, (), None, (), {})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "plancraft-small")


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return page_of(run)


# --- the verdict --------------------------------------------------------------------------------------------------


def test_a_gain_is_said_with_its_evidence() -> None:
    c = comparison(0.182, 0.081, 0.28)
    assert sentences.sentence(c, summary(c, comparison(0.1, 0.05, 0.2, "held-out episodes"))) == (
        "Held-out turn accuracy rose from 47.9 % to 66.1 %: +18.2 points, 95 % interval +8.1 to +28.0, p = 0.0004 "
        "(Holm-adjusted), 96 turns of 66 tasks."
    )


def test_a_loss_is_said_as_plainly() -> None:
    c = comparison(-0.1, -0.2, -0.03)
    told = sentences.sentence(c, summary(c))
    assert told.startswith("Held-out turn accuracy fell from 47.9 % to 37.9 %: \N{MINUS SIGN}10.0 points")
    assert "Holm" not in told  # a single test is not adjusted


@pytest.mark.parametrize(
    ("low", "high", "p_value"), [(-0.02, 0.2, 0.01), (0.0, 0.2, 0.01), (0.001, 0.2, 0.06), (0.001, 0.2, 0.05)]
)
def test_no_difference_unless_interval_and_p_value_agree(low: float, high: float, p_value: float) -> None:
    c = comparison(0.1, low, high)
    told = sentences.sentence(c, summary(c, p_value=p_value))
    assert told.startswith("No difference could be shown in held-out turn accuracy: 47.9 % before, 57.9 % after; ")


def test_a_rise_in_nll_is_called_forgetting_and_its_size_is_given() -> None:
    c = comparison(0.02, 0.01, 0.03, "retention")
    told = sentences.sentence(c, summary(c))
    assert "rose from 2.000 to 2.020: +0.020 nats per token" in told
    assert told.endswith("this is forgetting; the perplexity of these texts grew by 2.0 %.")


def test_turns_and_episodes_that_part_are_pointed_out() -> None:
    turns, episodes = comparison(0.1, 0.05, 0.15), comparison(-0.1, -0.15, -0.05, "held-out episodes")
    assert any("opposite directions" in told for told in sentences.caveats(summary(turns, episodes), {}, [], {}))


def test_turns_without_a_verdict_are_counted_with_their_bounds() -> None:
    results = [
        TurnResult(turn_id=f"t#{i}", task_id="t", reward=reward, reason="r", text="", num_tokens=1)
        for i, reward in enumerate((1.0, 0.0, None, None))
    ]
    told = sentences.caveats(summary(), {}, [], {"before": [], "after": results})
    assert len(told) == 1
    assert told[0].startswith("2 of 4 held-out turns got no verdict after training")
    assert "Counted as failed, the accuracy would be 25.0 %; counted as passed, 75.0 %" in told[0]


def test_another_verifier_for_the_score_is_named() -> None:
    manifests = {
        stage: Manifest(stage=stage, status="complete", options={"verifier": verifier})
        for stage, verifier in (("train", "exact"), ("evaluations/after", "judge"))
    }
    told = sentences.caveats(summary(comparison(0.1, 0.05, 0.15)), manifests, [], {})
    assert "Held-out turns are scored by judge, not by the verifier that gave the training reward (exact)." in told


def test_the_page_opens_with_the_verdict_of_the_run(run: Path, page: str) -> None:
    told, seen = summarise(run), words_of(page)
    positions = [seen.index(sentences.sentence(c, told)) for c in told.comparisons]
    assert positions == sorted(positions)
    assert max(positions) < seen.index("Before you act on this") < seen.index("This is one seed")
    assert seen.lower().count("one seed") == 1
    assert f"Held-out turns are scored by the verifier that gave the training reward ({VERIFIER})" in seen
    assert "Episodes are scored by the environment" in seen


# --- the numbers --------------------------------------------------------------------------------------------------


def test_every_number_of_the_summary_stands_in_the_page(run: Path, page: str) -> None:
    told, seen = summarise(run), words_of(page)
    assert len(told.comparisons) == 3
    assert told.kl_to_reference is not None
    for c in told.comparisons:
        for estimate in (c.before, c.after):
            assert f"{sentences.amount(estimate.mean, c.unit)} {sentences.interval(estimate, c.unit)}" in seen
        low, high = sentences.signed(c.difference.low, c.unit), sentences.signed(c.difference.high, c.unit)
        assert f"{sentences.signed(c.difference.difference, c.unit)}" in seen
        assert f"{low} to {high}" in seen
    shown = [row for row in told.breakdowns if row.tag == "difficulty"]
    for row in shown:
        assert row.before and row.after
        assert f"difficulty: {row.value} {sentences.amount(row.before.mean, 'share')}" in seen
    assert shown and "target: item_1" not in seen  # a tag with a value for every task is no breakdown
    assert f"{told.kl_to_reference.mean:.3f} {sentences.interval(told.kl_to_reference, 'nats')}" in seen
    for cost in told.costs:
        assert f"{sentences.STAGE_WORDS[cost.stage]} {cost.rollout_turns:,}" in seen
    assert f"profiling and training {told.total_rollout_turns:,}" in seen


def test_report_json_is_the_summary(run: Path, page: str) -> None:
    assert json.loads((run / "report.json").read_text()) == json.loads(json.dumps(summarise(run).as_json()))


def test_selection_is_counted_by_reason(run: Path, page: str) -> None:
    rows = list(RecordFile(run / "selection.jsonl", Selection, key=lambda row: row.turn_id))
    pivots = sum(row.selected for row in rows)
    too_easy = sum(row.reason == "too_easy" for row in rows)
    seen = words_of(page)
    assert f"chosen as pivots {pivots}" in seen
    assert f"mixed, but solved too often {too_easy}" in seen
    assert "the context does not fit the model 5" in seen


def test_examples_show_samples_and_flips_both_ways(run: Path, page: str) -> None:
    d, seen = summarise(run).comparisons[0].difference, words_of(page)
    assert d.num_better and d.num_worse
    assert f"Held-out turns that got better: {d.num_better}, of which 3 drawn" in seen
    assert f"Held-out turns that got worse: {d.num_worse}" in seen
    assert "✓ pass nearer" in seen and "✗ fail" in seen
    assert seen.count("expected action") == 4 + 3 + min(3, d.num_worse)


def test_the_command_to_resume_carries_what_was_chosen(run: Path, page: str) -> None:
    match = re.search(r"<pre class=\"command\">(.*?)</pre>", page, re.DOTALL)
    assert match is not None
    words = shlex.split(html.unescape(match[1]).replace("\\\n", " "))
    assert words[:3] == ["pivotrl", "run", "val"]
    assert words[-1] == "--resume"
    given = dict(zip(words[3:-1:2], words[4:-1:2], strict=True))
    assert given["--verifier"] == VERIFIER
    assert given["--environments"] == "plancraft(split='test')"
    assert given["--group-size"] == "8"
    assert "--max-mean" not in given  # at its default


# --- runs that lack something -------------------------------------------------------------------------------------


def test_an_incomplete_run_says_so_first(tmp_path: Path) -> None:
    seen = words_of(page_of(make_run(tmp_path / "r", stages=("read", "profile", "select", "evaluations/before"))))
    banner = "This run is not complete. Missing: training (not started), evaluation after training (not started)."
    assert seen.index("NOT COMPLETE") < seen.index(banner) < seen.index("There is no verdict yet")
    assert "No training step is recorded yet." in seen
    assert "chosen as pivots" in seen  # what is there is shown


def test_numbers_of_an_unfinished_run_are_called_not_final() -> None:
    c = comparison(0.182, 0.081, 0.28)
    assert sentences.verdicts(summary(c, complete=False))[0].startswith("Not final. Held-out turn accuracy rose")


def test_a_stage_that_was_interrupted_is_not_finished(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", stages=("read",))
    Stage(run, "profile", {}, {})  # started, never finished
    seen = words_of(page_of(run))
    assert "Missing: profiling (not finished), selection (not started)" in seen


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    seen = words_of(page_of(make_run(tmp_path / "r", heldout=False, episodes=False, retention=False)))
    assert "Nothing was measured on held-out tasks, so we do not know whether training helped." in seen
    assert "Held-out turns were not measured (no task was held out)" in seen
    assert "No episodes were played (no environment was given)" in seen
    assert "Retention was not measured (no reference texts were given)" in seen


def test_a_directory_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        write_report(tmp_path)


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named_with_its_remedy(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "r", stages=("read",))
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=rf"{missing}.*pip install .*\[report\]"):
        write_report(run)
    assert (run / "report.json").is_file()  # needs no extra
    assert not (run / "report.html").exists()


# --- the page as a file -------------------------------------------------------------------------------------------


def test_hostile_text_is_shown_and_never_obeyed(tmp_path: Path, page: str) -> None:
    hostile = page_of(make_run(tmp_path / "r", text=HOSTILE))
    found = Elements(hostile)
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in hostile
    assert found.tags == Elements(page).tags  # text adds no element
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "\u202e" not in hostile and "\x1b" not in hostile
    assert "\\u202e\\x1b[31m {{ 7 * 7 }} $x^2$" in words_of(hostile)


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    found = Elements(page)
    links = [value for name, value in found.attributes if name in ("href", "src", "xlink:href", "action", "data")]
    assert links and all(value and value.startswith("#") for value in links)
    assert not found.tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))
    assert "default-src 'none'" in page
    assert "http://" not in page and "https://" not in page


def test_links_within_the_page_have_their_targets(page: str) -> None:
    found = Elements(page)
    ids = [value for name, value in found.attributes if name == "id"]
    targets = [value.removeprefix("#") for name, value in found.attributes if name == "href" and value]
    targets += re.findall(r"url\(#([^)]*)\)", page)
    assert set(targets) <= set(ids)


def test_the_same_files_give_the_same_bytes(run: Path, page: str) -> None:
    code = "import sys, pivotrl; from pathlib import Path; pivotrl.write_report(Path(sys.argv[1]))"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code, str(run)], check=True, env=environment)
    assert (run / "report.html").read_text("utf-8") == page
    assert page_of(run) == page


def test_importing_needs_no_plotting_package() -> None:
    code = "import sys, pivotrl.report.page; print('matplotlib' in sys.modules, 'jinja2' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]


# --- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.00001, "p < 0.0001"), (0.0004, "p = 0.0004"), (0.0123, "p = 0.012"), (0.31, "p = 0.31"), (1.0, "p = 1.00")],
)
def test_p_values(value: float, told: str) -> None:
    assert sentences.p_value(value) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.7, "1 min 00 s"), (187, "3 min 07 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, told: str) -> None:
    assert sentences.duration(seconds) == told


def test_zero_has_no_sign() -> None:
    assert sentences.signed(-0.0001, "share passed") == sentences.signed(0.0, "share passed") == "0.0"


def test_long_text_says_what_was_left_out() -> None:
    assert sentences.clip("a" * 3000, keep_end=True).startswith("[… 1,800 characters left out …]")
    assert sentences.clip("short") == "short"
