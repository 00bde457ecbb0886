"""The numbers of a run in plain words: the verdict, reasons for caution, and what was not measured.

The words follow the intervals. A difference is called one only if its 95 % interval excludes 0 *and* its p-value,
adjusted for the number of tests, is below 0.05.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pivotrl import plugins
from pivotrl.intervals import Estimate
from pivotrl.protocols import InputError
from pivotrl.records import Manifest, TurnResult
from pivotrl.report.benches import is_bench_alone
from pivotrl.report.evaluations import IN_TASK
from pivotrl.report.summary import Comparison, Summary
from pivotrl.rollouts import SampleFaults
from pivotrl.runs.status import stages_needed
from pivotrl.storage.record_files import counted
from pivotrl.training_options import rate_complaint
from pivotrl.training_options.guard_rails import stopped_by

Direction = Literal["up", "down", "none"]

STAGE_WORDS = {
    "read": "reading the logs",
    "profile": "profiling",
    "select": "selection",
    "evaluations/before": "evaluation before training",
    "train": "training",
    "evaluations/after": "evaluation after training",
}
_NAMED = {"selections": "selection", "trainings": "training", "evaluations": "evaluation", "bench": "benchmark"}
_SUBJECTS = {
    "held-out turns": "Held-out turn accuracy",
    "held-out episodes": "Held-out episode success",
    "own-history progress": "Progress along held-out trajectories with the policy's own history",
    "retention": "The negative log-likelihood of reference texts outside the task",
}
_SIGNIFICANT = 0.05
_FEW_TASKS = 20
_LARGE_SAMPLER_GAP = 0.05
_MAX_CHARACTERS = 1200
_MINUS = "\N{MINUS SIGN}"


def plain(text: object) -> str:
    """Control, direction and invisible characters spelled out, so that text cannot hide or pose as something else."""
    return "".join(c if c.isprintable() or c in "\n\t\u00a0" else repr(c)[1:-1] for c in str(text))


def clip(text: str, keep_end: bool = False) -> str:
    """Long text without its middle (or its start), with a note of how much is missing."""
    left_out = len(text) - _MAX_CHARACTERS
    if left_out <= 0:
        return text
    note, half = f"[… {left_out:,} characters left out …]", _MAX_CHARACTERS // 2
    return f"{note}\n{text[left_out:]}" if keep_end else f"{text[:half]}\n{note}\n{text[-half:]}"


def amount(value: float, unit: str) -> str:
    """47.9 % for shares, 2.341 for nats."""
    return f"{100 * value:.1f} %" if unit.startswith("share") else f"{value:.3f}"


def signed(value: float, unit: str) -> str:
    """+18.2 (points) for shares, +0.004 for nats; no sign if it rounds to 0."""
    value, digits = (100 * value, 1) if unit.startswith("share") else (value, 3)
    sign = "+" if round(value, digits) else ""
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}".replace("-", _MINUS)


def interval(estimate: Estimate, unit: str) -> str:
    return f"{amount(estimate.low, unit).removesuffix(' %')} to {amount(estimate.high, unit)}"


def duration(seconds: float) -> str:
    """4.2 s, 48 s, 3 min 07 s, 2 h 05 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def p_value(value: float) -> str:
    """One digit below 0.001, three decimals below 0.1, else two."""
    if value < 0.0001:
        return "p < 0.0001"
    return f"p = {value:.1g}" if value < 0.001 else f"p = {value:.{3 if value < 0.1 else 2}f}"


def direction(comparison: Comparison, summary: Summary) -> Direction:
    """``none`` if no difference is shown: the interval contains 0, or the adjusted p-value is 0.05 or more."""
    d = comparison.difference
    adjusted = summary.adjusted_p_values.get(comparison.name, d.p_value)
    if d.low <= 0 <= d.high or not adjusted < _SIGNIFICANT:
        return "none"
    return "up" if d.difference > 0 else "down"


def sentence(comparison: Comparison, summary: Summary) -> str:
    """One measurement: from, to, difference, interval, p-value and the number of items behind it."""
    d, unit, name = comparison.difference, comparison.unit, comparison.name
    kind, way = comparison.kind, direction(comparison, summary)
    subject = f"{_SUBJECTS.get(kind, kind)}{name.removeprefix(kind)}"
    nouns = {"retention": "texts", "own-history progress": "walks"}
    noun = nouns.get(kind, "questions" if kind.startswith("answers") else kind.rpartition(" ")[2])
    items = f"{d.num_items:,} {noun if d.num_items != 1 else noun.removesuffix('s')}"
    rests_on = items if d.num_clusters == d.num_items else f"{items} of {counted(d.num_clusters, 'task')}"
    adjusted = name in summary.adjusted_p_values and len(summary.adjusted_p_values) > 1
    tested = p_value(summary.adjusted_p_values.get(name, d.p_value)) + (" (Holm-adjusted)" if adjusted else "")
    step = "points" if unit.startswith("share") else "nats per token"
    change = f"{signed(d.difference, unit)} {step}, 95 % interval {signed(d.low, unit)} to {signed(d.high, unit)}"
    before, after, evidence = amount(d.mean_before, unit), amount(d.mean_after, unit), f"{tested}, {rests_on}"
    if way == "none":
        subject = subject[0].lower() + subject[1:]
        return f"No difference could be shown in {subject}: {before} before, {after} after; {change}, {evidence}."
    told = f"{subject} {'rose' if way == 'up' else 'fell'} from {before} to {after}: {change}, {evidence}."
    if name == "retention" and way == "up":
        grown = amount(math.expm1(d.difference), "share")
        told += f" Higher is worse: this is forgetting; the perplexity of these texts grew by {grown}."
    return told


def stage_words(stage: str) -> str:
    """A stage in words; a named one with its name: ``training 'b'``."""
    kind, _, name = stage.partition("/")
    return STAGE_WORDS.get(stage) or f"{_NAMED.get(kind, kind)} {name!r}"


def model_words(manifests: Mapping[str, Manifest]) -> str:
    """The policy's model, adapter, dtype and device; "" if the manifests do not say."""
    described = [manifests[stage].policy for stage in ("profile", "train", "evaluations/before") if stage in manifests]
    found = next(filter(None, described), {})
    named = [str(found["model"] if found.get("model") else found.get("policy", ""))]
    named += [f"samples of {found['made_by']}"] if found.get("made_by") else []
    named += [f"with the adapter {found['adapter']}"] if found.get("adapter") else []
    named += [f"as {found['policy']}"] if found.get("model") and found.get("policy") else []
    named += [str(found[name]) for name in ("dtype", "device") if found.get(name)]
    return ", ".join(filter(None, named))


def missing_stages(manifests: Mapping[str, Manifest]) -> list[str]:
    """The stages that are not complete, in words."""
    needed = [] if is_bench_alone(manifests) else stages_needed(manifests)
    states = {stage: manifests[stage].status if stage in manifests else "not started" for stage in needed}
    words = {"running": "not finished", "not started": "not started"}
    return [f"{STAGE_WORDS[stage]} ({words[state]})" for stage, state in states.items() if state != "complete"]


def verdicts(summary: Summary) -> list[str]:
    """The sentences at the top of the report; the first is the verdict."""
    told = [sentence(comparison, summary) for comparison in summary.comparisons if not comparison.is_detail]
    if not told and summary.complete:
        told = ["Nothing was measured on held-out tasks, so we do not know whether training helped."]
    if not told:
        told = ["There is no verdict yet: nothing has been measured both before and after training."]
    if not summary.complete and summary.comparisons:
        told[0] = f"Not final. {told[0]}"
    return told


def not_measured(summary: Summary, manifests: Mapping[str, Manifest]) -> list[str]:
    """One sentence per missing measurement, with what remains unknown."""
    measured = {comparison.kind for comparison in summary.comparisons}
    after = manifests.get("evaluations/after")
    if not measured and (after is None or after.status != "complete"):
        return ["The evaluation after training is missing, so the effect of training is still unknown."]
    read = manifests["read"].counts if "read" in manifests else {}
    why = "no task was held out" if read.get("heldout_trajectories") == 0 else "no turn got a verdict on both sides"
    told = {
        "held-out turns": f"Held-out turns were not measured ({why}), so we do not know whether the policy acts "
        "better at turns it was not trained on.",
        "held-out episodes": "No episodes were played (no environment was given), so we do not know whether better "
        "turns lead to solved tasks.",
        "retention": "Retention was not measured (no reference texts were given), so we do not know whether the "
        "policy forgot anything outside the task.",
    }
    return [sentence for name, sentence in told.items() if name not in measured]


def metric_totals(metrics: Sequence[Mapping[str, float]]) -> defaultdict[str, float]:
    """Each metric summed over the steps; 0 if no step has it."""
    totals: defaultdict[str, float] = defaultdict(float)
    for row in metrics:
        for name, value in row.items():
            totals[name] += value
    return totals


def _sample_faults(
    manifests: Mapping[str, Manifest], totals: Mapping[str, float], results: Mapping[str, Sequence[TurnResult]]
) -> list[str]:
    """A sentence for each stage in which most samples were cut off, malformed or without a verdict."""
    found = [(f"{name} training", SampleFaults.of_results(side), "--eval-max-tokens") for name, side in results.items()]
    cut_off = int(totals["samples/cut_off"])
    trained = SampleFaults(int(totals["samples/total"]), cut_off, int(totals["samples/malformed"]) - cut_off)
    found.insert(0, ("in training", trained, "--train-max-tokens"))
    if "profile" in manifests:
        counts, options = manifests["profile"].counts, manifests["profile"].options
        total = counts.get("profiled_turns", 0) * options.get("num_samples", 0)
        told = (counts.get(f"samples_{name}", 0) for name in ("cut_off", "malformed", "without_verdict"))
        found.insert(0, ("in profiling", SampleFaults(total, *told), "--max-tokens"))
    complaints = ((where, faults.complaint(limit)) for where, faults, limit in found)
    return [f"{where.capitalize()} {words}." for where, words in complaints if words is not None]


def _rate_complaint(train: Manifest) -> str | None:
    rate, usual = train.options.get("learning_rate"), train.counts.get("usual_learning_rate")
    words = rate_complaint(rate, usual) if rate and usual else None
    return None if words is None else f"{words[0].upper()}{words[1:]}."


@dataclass(frozen=True)
class TrainingMethod:
    """How a training made its groups."""

    title: str
    verifies: bool


def training_method(train: Manifest) -> TrainingMethod:
    """The method that a training names; one that is not installed here goes by its name."""
    spec = str(train.options.get("method", "pivotrl"))
    try:
        method = plugins.load("methods", spec)
    except InputError:
        return TrainingMethod(spec, verifies=True)
    return TrainingMethod(method.title, method.verifies)


def _way(summary: Summary, ways: Mapping[str, Direction], kind: str) -> Direction | None:
    """Of the comparison at the lowest temperature."""
    found = [comparison for comparison in summary.comparisons if comparison.kind == kind]
    return ways[found[0].name] if found else None


def caveats(
    summary: Summary,
    manifests: Mapping[str, Manifest],
    metrics: Sequence[Mapping[str, float]],
    results: Mapping[str, Sequence[TurnResult]],
) -> list[str]:
    """Reasons for caution before acting on the verdict, computed from the run."""
    by_name = {comparison.name: comparison for comparison in summary.comparisons}
    kinds = {comparison.kind for comparison in summary.comparisons}
    told = []
    if "train" in manifests:
        seed = manifests["train"].options.get("train_seed", "unknown")
        told.append(
            f"This is one seed (train_seed {seed}): the intervals cover the choice of held-out tasks, not the luck of "
            "one training run. Repeat with other seeds before you rely on the size of the effect."
        )
    verifiers = [plain(manifests[s].options.get("verifier")) for s in ("train", "evaluations/after") if s in manifests]
    if "held-out turns" in kinds and len(verifiers) == 2:
        has_rewarded = training_method(manifests["train"]).verifies
        role = (
            f"the verifier that {'gave the training reward' if has_rewarded else 'chose the pivots'} ({verifiers[0]})"
        )
        told.append(
            f"Held-out turns are scored by {role}: actions that merely satisfy it look better here too."
            if verifiers[0] == verifiers[1]
            else f"Held-out turns are scored by {verifiers[1]}, not by {role}."
        )
    if "held-out episodes" in kinds:
        told.append("Episodes are scored by the environment, whose score was not used in training.")
    ways = {name: direction(comparison, summary) for name, comparison in by_name.items()}
    turns, episodes = (_way(summary, ways, kind) for kind in ("held-out turns", "held-out episodes"))
    if turns and episodes and turns != episodes:
        told.append(
            "Single turns changed, but no change could be shown in whole episodes, which matter in use."
            if episodes == "none"
            else "Whole episodes changed although no change could be shown at single turns; find out what else changed."
            if turns == "none"
            else "Single turns and whole episodes moved in opposite directions. Episodes matter in use: do not rely on "
            "turn accuracy here."
        )
    few = min((c.difference.num_clusters for c in by_name.values() if c.kind in IN_TASK), default=_FEW_TASKS)
    if few < _FEW_TASKS:
        told.append(f"The evidence comes from {counted(few, 'held-out task')}; intervals from this few are rough.")
    for c in summary.comparisons:
        if {c.before.num_items, c.after.num_items} != {c.difference.num_items}:
            told.append(
                f"{c.name[:1].upper()}{c.name[1:]}: {c.before.num_items:,} were scored before and "
                f"{c.after.num_items:,} after; the change is over the {c.difference.num_items:,} scored on both sides."
            )
    for name, side in results.items():
        rewards = [result.reward for result in side if result.reward is not None]
        unknown, total = len(side) - len(rewards), len(side)
        if unknown:
            worst, best = amount(sum(rewards) / total, "share"), amount((sum(rewards) + unknown) / total, "share")
            told.append(
                f"{unknown:,} of {total:,} held-out turns got no verdict {name} training and are left out. Counted as "
                f"failed, the accuracy would be {worst}; counted as passed, {best}."
            )
    totals = metric_totals(metrics)
    told += _sample_faults(manifests, totals, results)
    if "train" in manifests and (stopped := stopped_by(manifests["train"].options, metrics)):
        told.append(f"A guard rail ended the training: {stopped}.")
    if "train" in manifests and (rate_told := _rate_complaint(manifests["train"])):
        told.append(rate_told)
    if totals["groups/with_signal"] < 0.5 * totals["groups/sampled"]:
        share = amount(totals["groups/with_signal"] / totals["groups/sampled"], "share")
        told.append(f"Only {share} of the groups sampled in training had signal; nothing was learned from the rest.")
    if skipped := totals["update/skipped"]:
        told.append(
            f"{skipped:.0f} of {len(metrics)} updates were skipped because the loss or gradient was not finite."
        )
    gap = max((row.get("policy/sampler_gap", 0.0) for row in metrics), default=0.0)
    if gap > _LARGE_SAMPLER_GAP:
        told.append(f"Sampler and trainer disagree by up to {gap:.2f} nats per token, which biases the updates.")
    told += _drift(metrics)
    if unjudged := totals["samples/without_verdict"]:
        told.append(
            f"{unjudged:,.0f} of {totals['samples/total']:,.0f} samples drawn in training got no verdict and "
            "were left out of their groups."
        )
    return told


def _drift(metrics: Sequence[Mapping[str, float]]) -> list[str]:
    """How far another engine that drew the samples was from the trainer, and what the importance weights made of it."""
    drawn = [row for row in metrics if "importance/capped_fraction" in row]
    if not drawn:
        return []
    furthest = max(row.get("policy/sampler_gap_max", 0.0) for row in drawn)
    capped = amount(sum(row["importance/capped_fraction"] for row in drawn) / len(drawn), "share")
    lag = max((row.get("samples/max_lag", 0.0) for row in drawn), default=0.0)
    behind = f" Samples came from weights at most {counted(int(lag), 'update')} behind." if lag else ""
    return [
        f"Sampler and trainer differ by {furthest:.2g} nats at most in the log-probability of a token; {capped} of the "
        f"tokens had the largest importance weight.{behind}"
    ]
