"""The stages of a run as a table or JSON, and the command to run next."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import NamedTuple

from pivotrl.cli.fitting_table import new_table, print_table
from pivotrl.cli.next_step import kinds_and_verifiers
from pivotrl.cli.tables import out, plain
from pivotrl.judging.lint import known_report
from pivotrl.judging.suggestion import combined, quoted
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import STAGES
from pivotrl.runs.manifest import again, find_manifest
from pivotrl.runs.status import RunStatus, StageStatus, status_of
from pivotrl.stages.reading import nothing_held_out

_NEEDED_FOR_PIVOTS = ("profile", "select")
_MEASURES = ("evaluations/before", "evaluations/after")


class Next(NamedTuple):
    """What to do next."""

    why: str
    command: str
    """"" if there is nothing to do."""


def print_status(directory: Path, as_json: bool) -> None:
    """Raises:
    InputError: the logs of the run are damaged.
    """
    found = status_of(directory)
    step = next_step(directory, found)
    if as_json:
        print(json.dumps({**found.as_json(), "next": step._asdict()}, indent=2))
        return
    paid = found.as_json()["total"]["money"]
    table = new_table("stage", "state", "rollout turns", "tokens", "seconds", *(["money"] if paid is not None else []))
    has_trained = any(stage.stage == "train" and stage.state == "done" for stage in found.stages)
    spared = _NEEDED_FOR_PIVOTS if has_trained else ()
    for stage in found.stages:
        begun = stage.state != "not begun"
        cost = (_number(value, begun) for value in (stage.rollout_turns, stage.tokens, stage.seconds))
        money = [_money(stage.money)] if paid is not None else []
        is_spared = stage.stage in spared and not begun
        table.add_row(plain(stage.stage), "not needed" if is_spared else stage.state, *cost, *money)
    totals = (_number(found.total(name), True) for name in ("rollout_turns", "tokens", "seconds"))
    table.add_row("total", "", *totals, *([_money(paid)] if paid is not None else []))
    print_table(out, table)
    for stage in found.stages:
        if told := stage.fault or _counts(stage):
            out.print(plain(f"{stage.stage}: {told}"), soft_wrap=True)
        for difference in stage.counts.get("profile_differs_in", ()):
            out.print(plain(f"{stage.stage}: accepted a profile that differs in {difference}"), soft_wrap=True)
    out.print(f"next: {plain(f'{step.why}: {step.command}' if step.command else step.why)}", soft_wrap=True)


def next_step(directory: Path, status: RunStatus) -> Next:
    """The command that brings the run on: first what was interrupted, then the first stage that is missing."""
    by_name = {stage.stage: stage for stage in status.stages}
    resume = shlex.join(["pivotrl", "run", "-o", str(directory), "--resume"])
    is_whole = (directory / "run.toml").is_file()
    for stage in status.stages:
        if stage.state == "damaged":
            return Next(f"{stage.stage} is damaged; see above", "")
        if stage.state == "running":
            return Next(f"{stage.stage} is running; wait for it", "")
        if stage.state == "stopped":
            command = again(directory, stage.stage, find_manifest(directory, stage.stage)).removesuffix(" --overwrite")
            command += " --resume" if stage.stage == "read" else ""
            command = resume if is_whole and stage.stage in STAGES else command
            if stage.fault:
                return Next("train it again otherwise, or go on without guard rails", f"{command} --guard-steps 0")
            return Next(f"continue {stage.stage}", command)
    missing = [stage for stage in STAGES if by_name[stage].state == "not begun"]
    if by_name["train"].state == "done":
        missing = [stage for stage in missing if stage not in _NEEDED_FOR_PIVOTS]
    read = find_manifest(directory, "read")
    if read is not None and nothing_held_out(read):
        missing = [stage for stage in missing if stage not in _MEASURES]
    if not missing:
        return Next("everything is done; write the report", shlex.join(["pivotrl", "report", str(directory)]))
    if by_name["select"].counts.get("pivots") == 0 and missing[0] != "select":
        return Next("no turn was selected; look at the profile", shlex.join(["pivotrl", "waver", str(directory)]))
    if is_whole:
        return Next("continue the run", resume)
    return Next(f"{missing[0]} has not begun", _begin(directory, missing[0]))


def _begin(directory: Path, stage: str) -> str:
    if stage != "profile":
        return again(directory, stage).removesuffix(" --overwrite")
    verifier = combined(verifier for _, verifier in kinds_and_verifiers(RunFiles(directory).logged())) or "exact"
    command = "check" if known_report(directory) is None else "profile"
    return f"pivotrl {command} {shlex.quote(str(directory))} --verifier {quoted(verifier)}"


def _number(value: float | None, begun: bool) -> str:
    if value is None:
        return "unknown" if begun else ""
    return f"{value:,.0f}"


def _money(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}" if value >= 1 else f"{value:.4g}"


def _counts(stage: StageStatus) -> str:
    """The first few numbers among the counts."""
    plain_counts = [(name, value) for name, value in stage.counts.items() if isinstance(value, int)]
    return ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in plain_counts[:3])
