"""Results for the terminal: plain tables on stdout, or JSON. Text from logs is escaped, control bytes spelled out."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from pivotrl.cli.fitting_table import new_table, print_table
from pivotrl.intervals import Estimate, PairedDifference
from pivotrl.protocols import InputError, NotRenderable, Turn
from pivotrl.records import Message, Selection
from pivotrl.rendering import Renderer, action_text
from pivotrl.report.evaluations import scores_of, with_temperature
from pivotrl.report.summary import Summary
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import evaluation_stage, known_stages
from pivotrl.runs.manifest import find_manifest, manifest_path, read_manifest
from pivotrl.storage.record_files import counted
from pivotrl.turns import cut


class _Output(Console):
    """Ends the command as usual when its reader has seen enough, as `head` has; rich would end it with code 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


out = _Output(highlight=False)
_NUM_CANDIDATES = 20
_LEAST_TEXT = 24


def plain(text: str) -> str:
    """Safe to print: no markup, no control bytes other than line breaks and tabs."""
    kept = "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
    return escape(kept)


def _number(value: float, unit: str) -> str:
    return f"{100 * value:.1f} %" if unit.startswith("share") else f"{value:.4f}"


def interval_words(estimate: Estimate, unit: str) -> str:
    return f"{_number(estimate.mean, unit)} [{_number(estimate.low, unit)}, {_number(estimate.high, unit)}]"


def change_words(d: PairedDifference, unit: str) -> str:
    return _change(d.difference, d.low, d.high, unit)


def _change(mean: float, low: float, high: float, unit: str) -> str:
    if unit.startswith("share"):
        return f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] points"
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def print_summary(summary: Summary, as_json: bool) -> None:
    """Print before and after with intervals, then the cost."""
    if as_json:
        print(json.dumps(summary.as_json(), indent=2, default=str))
        return
    results = new_table(
        "measured on held-out tasks", "before [95 %]", "after [95 %]", "change [95 %]", "p (Holm)", "items"
    )
    for c in (c for c in summary.comparisons if not c.is_detail):
        p = summary.adjusted_p_values.get(c.name)
        results.add_row(
            f"{with_temperature(c.kind, c.temperature)}, {c.unit}",
            interval_words(c.before, c.unit),
            interval_words(c.after, c.unit),
            change_words(c.difference, c.unit),
            "" if p is None else f"{p:.4f}",
            str(c.difference.num_items),
        )
    for row in summary.breakdowns:
        if row.before and row.after:
            share = "share"
            results.add_row(
                f"  episodes, {plain(row.tag)} {plain(row.value)}",
                interval_words(row.before, share),
                interval_words(row.after, share),
                "",
                "",
                str(row.after.num_items),
            )
    cost = new_table("stage", "rollout turns", "seconds")
    for entry in summary.costs:
        told = entry.stage if entry.finished else f"{entry.stage} (unfinished, so far)"
        cost.add_row(plain(told), f"{entry.rollout_turns:,}", f"{entry.seconds:,.0f}")
    cost.add_row("profile + train", f"{summary.total_rollout_turns:,}", "")
    if summary.price_per_hour is not None:
        told = f"money, at {summary.price_per_hour:g} an hour, profile + train"
        cost.add_row(told, "", summary.money(summary.training_seconds))
    if not summary.complete:
        out.print("[bold yellow]This run is not finished; the numbers below are not final.[/]")
    if summary.comparisons:
        print_table(out, results)
        out.print("One training seed. Intervals: 95 %, clustered by task; changes: paired by item.")
    else:
        out.print("Nothing was measured on held-out tasks both before and after training.")
    _print_named(summary)
    _print_pooled(summary)
    if summary.kl_to_reference is not None:
        outside = new_table("outside the task", "nats per token [95 %]")
        outside.add_row("KL to the reference", interval_words(summary.kl_to_reference, "nats"))
        print_table(out, outside)
    print_table(out, cost)
    for title, name in (("report", "report.html"), ("every turn", "view.html")):
        page = Path(summary.directory) / name
        if page.is_file():
            out.print(f"{title}: {plain(str(page))}", soft_wrap=True)


def _print_named(summary: Summary) -> None:
    """Print named trainings and evaluations, if any."""
    if len(summary.trainings) <= 1 and len(summary.evaluations) <= 2:
        return
    table = new_table("training", "selection", "steps", "rollout turns")
    for training in summary.trainings:
        told = training.stage if training.cost.finished else f"{training.stage} (unfinished)"
        bought = f"{training.cost.rollout_turns:,}"
        table.add_row(plain(told), plain(training.selection or ""), f"{training.num_steps:,}", bought)
    print_table(out, table)
    table = new_table("evaluation", "of", "measured", "score [95 %]", "change [95 %]")
    for one in summary.evaluations:
        told = one.stage if one.finished else f"{one.stage} (unfinished)"
        for score in one.scores:
            change = change_words(score.difference, score.unit) if score.difference else ""
            table.add_row(
                plain(told), plain(one.training or ""), score.told, interval_words(score.estimate, score.unit), change
            )
            told = ""
    print_table(out, table)


def _print_pooled(summary: Summary) -> None:
    """Print what trainings that differ in their seed give together, if there are any."""
    if not summary.pooled:
        return
    table = new_table("mean over seeds", "measured", "before", "after", "change [95 %, new seeds and tasks]", "p")
    told: tuple[str, ...] = ()
    for one in summary.pooled:
        d, unit = one.difference, one.unit
        table.add_row(
            plain(", ".join(one.trainings)) if one.trainings != told else "",
            one.name if one.step is None else f"{one.name}, step {one.step}",
            _number(one.before, unit),
            _number(one.after, unit),
            _change(d.mean, d.low, d.high, unit),
            f"{d.p_value:.4f}",
        )
        told = one.trainings
    print_table(out, table)


def print_scores(directory: Path, name: str, as_json: bool) -> None:
    """Print the scores of one evaluation, a line each, then its counts."""
    print_stage(directory, evaluation_stage(name), as_json)
    if as_json:
        return
    files, before = RunFiles(directory), find_manifest(directory, evaluation_stage("before"))
    for score in scores_of(files, name, find_manifest(directory, evaluation_stage(name)), before):
        items = counted(score.estimate.num_items, "item")
        line = f"{score.told}: {interval_words(score.estimate, score.unit)} ({score.unit}, {items})"
        if score.difference is not None:
            change, p = change_words(score.difference, score.unit), score.difference.p_value
            line += f"; change since before: {change}, p = {p:.3g}"
        out.print(plain(line), soft_wrap=True)


def print_stage(directory: Path, stage: str, as_json: bool) -> None:
    """Print the counts of one stage, from its manifest."""
    manifest = read_manifest(manifest_path(directory, stage))
    if as_json:
        print(manifest.model_dump_json(indent=2))
        return
    table = new_table(stage, "")
    for name, value in manifest.counts.items():
        if value is None or value in ({}, [], ""):
            continue
        if isinstance(value, dict):
            table.add_row(name.replace("_", " "), "")
            for key, count in value.items():
                table.add_row(f"  {plain(str(key))}", str(count))
        else:
            table.add_row(name.replace("_", " "), str(value))
    table.add_row("rollout turns", str(manifest.num_rollout_turns))
    table.add_row("seconds", f"{manifest.wall_seconds:.1f}")
    print_table(out, table)


def print_stages(directory: Path, stages: Sequence[str], as_json: bool) -> None:
    """Print the counts of one stage or several; as JSON, several are a list."""
    if as_json and len(stages) > 1:
        found = [read_manifest(manifest_path(directory, stage)).model_dump(mode="json") for stage in stages]
        print(json.dumps(found, indent=2))
        return
    for stage in stages:
        print_stage(directory, stage, as_json)


def print_turn(directory: Path, turn_id: str | None, num_messages: int, selection: str | None = None) -> None:
    """Print one turn with its samples, or the list of pivots.

    Raises:
        InputError: the turn does not exist, or a file of a finished stage is damaged.
    """
    if num_messages < 0:
        raise InputError(f"--num-messages must be greater than or equal to 0, not {num_messages}")
    files = RunFiles(directory)
    if turn_id is None:
        rows = list(files.selected(selection))
        if any(row.selected for row in rows) or selection is not None:
            _print_pivots(rows or files.selections(selection))
        else:
            _print_candidates(files)
        return
    turn = find_turn(files, turn_id)
    context = turn.context
    if len(context) > num_messages:
        out.print(f"[dim]... {len(context) - num_messages} messages before[/]")
    for message in context[max(0, len(context) - num_messages) :]:
        _print_message(message)
    out.print(f"[bold green]expected[/] {plain(action_text(turn.expected_action))}")
    _print_results(files, turn_id)
    groups = files.profiled()
    if turn_id in groups:
        group = groups[turn_id]
        table = new_table("sample", "verdict", "reward", "times")
        seen: dict[tuple[str, str, float | None], int] = defaultdict(int)
        for completion, verdict in zip(group.completions_G, group.verdicts_G, strict=True):
            seen[completion.text, f"{verdict.outcome}: {verdict.reason}", verdict.reward] += 1
        for (text, told, reward), times in sorted(seen.items(), key=lambda item: -item[1]):
            table.add_row(plain(text), plain(told), "" if reward is None else f"{reward:g}", str(times))
        print_table(out, table)


def _print_results(files: RunFiles, turn_id: str) -> None:
    """What each evaluation measured at a held-out turn."""
    table = new_table("first sample", "evaluation", "reward", "reason", "samples")
    for stage in known_stages(files.directory):
        name = stage.removeprefix("evaluations/")
        if name != stage:
            for result in files.turn_results(name):
                if result.turn_id == turn_id:
                    told = with_temperature(name, result.temperature)
                    reward = "no verdict" if result.reward is None else f"{result.reward:g}"
                    table.add_row(
                        plain(result.text), plain(told), reward, plain(result.reason), str(result.num_samples)
                    )
    if table.row_count:
        print_table(out, table)


def print_prompt(directory: Path, turn_id: str, renderer: Renderer, boundaries: bool) -> None:
    """Print one turn as a model sees it: its prompt, then the expected action as the model would write it.

    Args:
        boundaries: put a bar between tokens.

    Raises:
        InputError: the turn does not exist, or the model's chat template cannot write it.
    """
    turn = find_turn(RunFiles(directory), turn_id)
    try:
        prompt, left_out = renderer.prompt(turn), renderer.left_out(turn)
    except NotRenderable as error:
        raise InputError(f"{turn_id} cannot be written for this model: {error}") from None
    out.print(f"Written by {renderer.written_by(turn)}. Left out: {plain('; '.join(left_out) or 'nothing')}.")
    _print_tokens("prompt", list(prompt), renderer, boundaries)
    try:
        action = renderer.encode_action(turn.expected_action, turn)
    except NotRenderable as error:
        out.print(f"[bold cyan]expected action[/] cannot be written: {plain(str(error))}")
    else:
        _print_tokens("expected action", action, renderer, boundaries)


def _print_tokens(title: str, ids: list[int], renderer: Renderer, boundaries: bool) -> None:
    out.print(f"[bold cyan]{title}[/], {len(ids):,} tokens")
    pieces = [renderer.tokenizer.decode([i]) for i in ids] if boundaries else [renderer.tokenizer.decode(ids)]
    out.print("[red]|[/]".join(plain(piece) for piece in pieces), soft_wrap=True)


def find_turn(files: RunFiles, turn_id: str) -> Turn:
    """
    Raises:
        InputError: there is no such turn, or it is not the agent's.
    """
    turn = files.find_turn(turn_id)
    if turn is None:
        raise InputError(
            f"{files.directory} has no turn {turn_id!r}; `pivotrl show {files.directory}` lists the pivots"
        )
    if turn.index >= len(turn.trajectory.messages) or turn.trajectory.messages[turn.index].role != "assistant":
        raise InputError(f"message {turn.index} of {turn.trajectory.id} is not an assistant turn")
    return turn


def _print_candidates(files: RunFiles) -> None:
    turns, _ = cut(files.logged())
    table = new_table("candidate", "expected action")
    shown = turns[:_NUM_CANDIDATES]
    room = max(_LEAST_TEXT, out.width - max((len(turn.id) for turn in shown), default=0) - 2)  # ids stay whole
    for turn in shown:
        text = " ".join(action_text(turn.expected_action).split())
        table.add_row(plain(turn.id), plain(text if len(text) <= room else f"{text[: room - 3]}..."))
    print_table(out, table)
    if len(turns) > len(shown):
        out.print(f"and {counted(len(turns) - len(shown), 'candidate')} more")


def _print_message(message: Message) -> None:
    out.print(f"[bold cyan]{message.role}[/] {plain(action_text(message))}")


def _print_pivots(rows: Sequence[Selection]) -> None:
    table = new_table("pivot", "mean", "variance", "samples")
    for row in rows:
        if row.selected:
            table.add_row(
                plain(row.turn_id), f"{row.reward_mean:.2f}", f"{row.reward_variance:.3f}", str(row.num_scored)
            )
    print_table(out, table)
