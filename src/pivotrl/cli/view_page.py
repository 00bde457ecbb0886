"""The command ``view``: finds what writes a run's prompts and what draws its environments, then writes the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pivotrl.cli.choices import PolicyChoice
from pivotrl.cli.prompting import prompting_of
from pivotrl.plugins import names, parse_spec
from pivotrl.protocols import InputError
from pivotrl.report.browser.views import Views
from pivotrl.rows.prompts import Prompting
from pivotrl.runs.files import RunFiles
from pivotrl.runs.manifest import find_manifest
from pivotrl.runs.memory import remembered
from pivotrl.strict_json import parse_json

_LABELS = "pivotrl-labels-1"


def prompting_in(directory: Path) -> Prompting | str:
    """What writes the prompts of the run's model, without its weights; or why nothing can."""
    known = remembered(directory, "run")
    spec = known.get("policy")
    if spec is None:
        return "the run has not sampled anything with a policy"
    if parse_spec(spec)[0] != "hf":
        return f"the policy {spec} has no tokenizer that loads without its weights"
    try:
        found = prompting_of(PolicyChoice(policy=spec, model=known.get("model"), adapter=known.get("adapter")))
    except (InputError, ImportError) as error:
        return f"the tokenizer of {known.get('model') or spec} could not be loaded ({error})"
    return found or "the run does not say which model it used"


def views_in(directory: Path, environments: tuple[str, ...] | None) -> Views:
    """Pictures of the environments given, or of those that the run played or read its logs from.

    Raises:
        InputError: an environment that was given does not exist.
    """
    if environments is not None:
        return Views.of(environments, must_exist=True)
    known = remembered(directory, "run")
    specs: list[Any] = [*known.get("environments", ()), *known.get("train_environments", ())]
    read = find_manifest(directory, "read")
    reader = (read.plugins.get("reader") or "") if read else ""
    named = dict.fromkeys(parse_spec(spec)[0] for spec in [*specs, *([reader] if reader else [])])
    built_in = names("environments")
    return Views.of([name for name in named if ":" in name or name in built_in], must_exist=False)


def read_labels(path: Path, directory: Path) -> list[Any]:
    """The labels of a file that a page of this run exported.

    Raises:
        InputError: it is no such file, or it was made for other trajectories.
    """
    try:
        found = parse_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read --labels {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"--labels {path} is not JSON: {error}; export the labels again") from None
    if not isinstance(found, dict) or found.get("format") != _LABELS or not isinstance(found.get("labels"), list):
        raise InputError(f"--labels {path} is not a file of labels ({_LABELS}); export the labels again")
    if found.get("trajectories_sha256") != RunFiles(directory).sha256("trajectories.jsonl"):
        raise InputError(f"--labels {path} was made for other trajectories than those of {directory}")
    labels: list[Any] = found["labels"]
    return labels
