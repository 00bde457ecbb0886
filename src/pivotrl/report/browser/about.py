"""What was run, in a few lines; and what is missing."""

from __future__ import annotations

from pivotrl.report.facts import COMPARISON, rule_words
from pivotrl.report.sentences import duration, missing_stages, model_words
from pivotrl.report.summary import read_manifests
from pivotrl.runs.costs import cost_of
from pivotrl.runs.files import RunFiles
from pivotrl.runs.layout import selection_stage
from pivotrl.runs.memory import remembered


def facts_of(files: RunFiles, selection: str | None = None) -> list[tuple[str, str]]:
    """(name, value) of the facts that a reader of the page asks for first."""
    directory = files.directory
    manifests = read_manifests(directory)
    known = remembered(directory, "run")
    counts = {stage: manifest.counts for stage, manifest in manifests.items()}
    costs = [cost_of(directory, stage, manifest) for stage, manifest in manifests.items()]
    chosen = manifests.get(selection_stage(selection))
    profile = counts.get("profile", {})
    found = {
        "model": model_words(manifests),
        "verifier": known.get("verifier", ""),
        "environments": ", ".join(known.get("environments", [])),
        "trajectories": f"{len(files.logged()):,} to train on, {len(files.logged_heldout()):,} held out",
        "profiled turns": f"{profile['profiled_turns']:,}" if "profiled_turns" in profile else "",
        "selection rule": rule_words(chosen.options) if chosen else "",
        "cost": f"{sum(cost.rollout_turns for cost in costs):,} rollout turns, "
        f"{duration(sum(cost.seconds for cost in costs))}",
    }
    return [(name, str(value)) for name, value in found.items() if value]


def missing_of(files: RunFiles) -> list[str]:
    """A sentence on the stages that are not finished, and one on a comparison, which has a page of its own."""
    missing = missing_stages(read_manifests(files.directory))
    told = (
        ["Methods were compared in this directory too; `pivotrl view` with its folder trials shows that comparison."]
        if (files.directory / COMPARISON).is_file()
        else []
    )
    return (
        told + [f"This run is not complete: {', '.join(missing)}. The page shows what is there so far."]
        if missing
        else []
    )
