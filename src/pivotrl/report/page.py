"""The report of a run, made from its files alone: ``report.html`` for people, ``report.json`` for programs.

Everything that comes from a log or a model is untrusted: the template escapes it, control bytes are spelled out, and
the page itself forbids scripts and network. The same files give the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from pivotrl.judging.lint import known_report
from pivotrl.judging.probes.report import CheckReport
from pivotrl.plugins.extras import install_hint
from pivotrl.protocols import InputError
from pivotrl.reading.audit import DROPS, EXCLUSIONS, LOSSES
from pivotrl.records import (
    EpisodeResult,
    Manifest,
    Selection,
    StepMetrics,
    TurnResult,
)
from pivotrl.rendering import action_text
from pivotrl.report import sentences
from pivotrl.report.run_command import resume_command
from pivotrl.report.summary import Breakdown, Summary, is_for_training, read_manifests, summarise
from pivotrl.runs.costs import money_of
from pivotrl.runs.files import RunFiles
from pivotrl.storage.record_files import write_file

_NUM_PIVOTS, _NUM_FLIPS, _NUM_MESSAGES, _MAX_TAG_VALUES = 4, 3, 2, 8


def require_packages() -> None:
    """Raises:
    InputError: jinja2 or matplotlib is missing.
    """
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(f"the report needs {error.name}: {install_hint('report')}") from error


def write_report(directory: Path, price_per_hour: float | None = None) -> Path:
    """Write ``report.html`` and ``report.json`` into a run directory, complete or not; the path of the former.

    Args:
        price_per_hour: of the machine; the cost is told in money too.

    Raises:
        InputError: the directory holds no run, or the ``report`` extra is not installed (``report.json`` is written
            all the same).
    """
    directory = Path(directory)
    files = RunFiles(directory)
    summary = dataclasses.replace(summarise(directory, files), price_per_hour=price_per_hour)
    write_file(directory / "report.json", json.dumps(summary.as_json(), indent=2, default=str) + "\n")
    require_packages()
    page = _render(files, summary)
    write_file(directory / "report.html", page.encode("utf-8", "xmlcharrefreplace"))
    return directory / "report.html"


def _render(files: RunFiles, summary: Summary) -> str:
    import jinja2

    from pivotrl.report import plots

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for name in ("plain", "clip", "amount", "signed", "interval", "duration", "p_value"):
        environment.filters[name] = getattr(sentences, name)
    environment.filters["is_for_training"] = is_for_training
    template = environment.from_string(resources("pivotrl.report").joinpath("page.html.jinja").read_text("utf-8"))

    directory = files.directory
    manifests = read_manifests(directory)
    metrics = [_with_shares(row) for row in files.metrics()]
    turns = {side: list(files.turn_results(side)) for side in ("before", "after")}
    episodes = {side: list(files.episode_results(side)) for side in ("before", "after")}
    selections = list(files.selected())
    skipped = list(files.skipped())
    pivots = [row for row in selections if row.selected]
    rows = [row.metrics for row in metrics]
    breakdowns = _breakdowns(summary)
    method = sentences.training_method(manifests["train"]) if "train" in manifests else None
    return template.render(
        name=directory.resolve().name,
        summary=summary,
        manifests=manifests,
        stage_words={stage: sentences.stage_words(stage) for stage in manifests},
        model=sentences.model_words(manifests),
        missing=sentences.missing_stages(manifests),
        losses=LOSSES,
        exclusions=EXCLUSIONS,
        drops=DROPS,
        verdicts=sentences.verdicts(summary),
        directions={c.name: sentences.direction(c, summary) for c in summary.comparisons},
        not_measured=sentences.not_measured(summary, manifests),
        caveats=sentences.caveats(summary, manifests, rows, turns),
        breakdowns=breakdowns,
        reasons={"turn": _reasons(turns), "episode": _reasons(episodes)},
        figures=plots.figures(summary, breakdowns, selections, manifests),
        checkpoints=plots.checkpoint_panels(summary),
        panels=plots.panels(metrics, shows_loss=method is not None and not method.verifies),
        method=method,
        num_steps=len(metrics),
        totals=sentences.metric_totals(rows),
        pivots=len(pivots),
        selected=Counter(row.reason for row in selections),
        skipped=Counter(row.reason for row in skipped),
        tokens=_tokens(files, rows, turns, episodes),
        money={stage: paid for stage in manifests if (paid := money_of(files.directory, stage)) is not None},
        sharing=_sharing(summary, sentences.metric_totals(rows)),
        examples=_pivots(files, _drawn(pivots, _NUM_PIVOTS, lambda row: row.turn_id)),
        flips=_flips(files, turns),
        command=resume_command(directory, manifests),
        check=_check(directory, manifests),
    )


def _check(directory: Path, manifests: Mapping[str, Manifest]) -> CheckReport | None:
    """The check of the verifier used in profiling; another one may have been checked since."""
    found, profile = known_report(directory), manifests.get("profile")
    if found is None or profile is None:
        return None
    about = (profile.options.get("verifier"), profile.inputs.get("trajectories.jsonl"))
    return found if (found.verifier, found.trajectories_sha256) == about else None


# --- what the files hold ------------------------------------------------------------------------------------------


def _with_shares(row: StepMetrics) -> StepMetrics:
    """The row, with its counts of groups and samples as shares as well."""
    shares = (
        ("groups/signal", "groups/with_signal", "groups/sampled"),
        ("samples/malformed_share", "samples/malformed", "samples/total"),
    )
    found = {name: row.metrics[part] / row.metrics[whole] for name, part, whole in shares if row.metrics.get(whole)}
    return StepMetrics(step=row.step, metrics={**row.metrics, **found})


def _reasons(results: Mapping[str, Sequence[Any]]) -> list[tuple[str, str, int, int]]:
    """(outcome, reason, before, after), most frequent first; rewards 1, 0 and None give the outcome."""
    outcomes = {1.0: "pass", 0.0: "fail", None: "no_verdict"}
    before, after = (
        Counter((outcomes.get(result.reward, "partial"), result.reason) for result in results[side])
        for side in ("before", "after")
    )
    if not before or not after:
        return []
    return [(*told, before[told], after[told]) for told, _ in (before + after).most_common()]


def _breakdowns(summary: Summary) -> list[Breakdown]:
    """Rows measured before and after, for tags with few enough values to read."""
    values = Counter(row.tag for row in summary.breakdowns)
    return [row for row in summary.breakdowns if values[row.tag] <= _MAX_TAG_VALUES and row.before and row.after]


def _sharing(summary: Summary, totals: Mapping[str, float]) -> dict[str, tuple[int, int]]:
    """(tokens of plain rows, tokens computed) for each kind of work that shared prefixes."""
    profiled = summary.counts.get("profile", {}).get("prompt_tokens", {})
    found = {
        "profiling": (profiled.get("unshared", 0), profiled.get("computed", 0)),
        "sampling in training": (round(totals["prompts/unshared"]), round(totals["prompts/computed"])),
        "updates": (round(totals["tokens/unshared"]), round(totals["tokens/computed"])),
    }
    return {name: pair for name, pair in found.items() if pair[1]}


def _tokens(
    files: RunFiles,
    metrics: Sequence[Mapping[str, float]],
    turns: Mapping[str, Sequence[TurnResult]],
    episodes: Mapping[str, Sequence[EpisodeResult]],
) -> dict[str, int]:
    """Sampled tokens by stage; 0, which the page leaves out, where samples made elsewhere came as text."""
    profiled = [completion for group in files.profiled().values() for completion in group.completions_G]
    is_known = all(completion.token_ids_T or not completion.text for completion in profiled)
    return {
        "profile": sum(len(completion.token_ids_T) for completion in profiled) if is_known else 0,
        "train": round(sum(row.get("samples/total", 0.0) * row.get("samples/mean_tokens", 0.0) for row in metrics)),
        **{
            f"evaluations/{side}": sum(r.num_tokens for r in turns[side]) + sum(e.num_tokens for e in episodes[side])
            for side in ("before", "after")
        },
    }


# --- examples -----------------------------------------------------------------------------------------------------


def _drawn(items: Sequence[Any], count: int, turn_id: Callable[[Any], str]) -> list[Any]:
    """A draw by the hash of the turn id: not picked by hand, and the same for the same run."""
    return sorted(items, key=lambda item: hashlib.sha256(turn_id(item).encode()).digest())[:count]


def _describe(files: RunFiles, turn_id: str) -> dict[str, Any]:
    """The end of a turn's context and its expected action, as text."""
    turn = files.find_turn(turn_id)
    if turn is None:
        return {"id": turn_id, "omitted": 0, "context": [], "expected": "(its trajectory is not in the run directory)"}
    shown = turn.context[-_NUM_MESSAGES:]
    return {
        "id": turn_id,
        "omitted": len(turn.context) - len(shown),
        "context": [(message.role, action_text(message)) for message in shown],
        "expected": action_text(turn.expected_action),
    }


def _pivots(files: RunFiles, chosen: Sequence[Selection]) -> list[dict[str, Any]]:
    """Pivots with the reference policy's samples, equal ones together, and the rewards of each in training."""
    if not chosen:
        return []
    profiles = files.profiled()
    trained = files.trained()
    examples = []
    for row in chosen:
        if row.turn_id not in profiles:
            raise InputError(
                f"{files.directory / 'profiles.jsonl'} lacks {row.turn_id!r} of selection.jsonl: the two belong to "
                "different profiles. Restore the file, or select again with "
                f"`pivotrl select {files.directory} --overwrite`"
            )
        group = profiles[row.turn_id]
        samples = Counter(
            (completion.text, verdict.outcome, verdict.reason, verdict.reward)
            for completion, verdict in zip(group.completions_G, group.verdicts_G, strict=True)
        )
        visits = [trained.get(key) for key in trained.keys() if key.partition("/")[2] == row.turn_id]  # noqa: SIM118
        examples.append(
            {
                **_describe(files, row.turn_id),
                "mean": row.reward_mean,
                "num_samples": len(group.completions_G),
                "samples": [(*sample, count) for sample, count in samples.most_common()],
                "visits": [(visit.step, visit.mean) for visit in visits if visit.mean is not None],
            }
        )
    return examples


def _flips(files: RunFiles, results: Mapping[str, Sequence[TurnResult]]) -> list[dict[str, Any]]:
    """Held-out turns that got better, then worse, after training, with both actions."""
    before = {result.key: result for result in results["before"]}
    pairs = [(before[result.key], result) for result in results["after"] if result.key in before]
    changes = [
        (new.reward - old.reward, old, new) for old, new in pairs if old.reward is not None and new.reward is not None
    ]
    found = []
    for way, side in (("better", [c for c in changes if c[0] > 0]), ("worse", [c for c in changes if c[0] < 0])):
        shown = [
            {**_describe(files, old.turn_id), "before": old, "after": new}
            for _, old, new in _drawn(side, _NUM_FLIPS, lambda change: change[1].turn_id)
        ]
        found.append({"way": way, "num": len(side), "turns": shown})
    return found
