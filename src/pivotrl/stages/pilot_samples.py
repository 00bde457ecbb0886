"""The samples of `pivotrl plan` for a profile: its pilot drew the same ones, so nobody pays for them again."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pivotrl.protocols import Notice
from pivotrl.records import SampleGroup
from pivotrl.runs.layout import PILOT
from pivotrl.runs.manifest import find_manifest, verify_outputs
from pivotrl.storage.record_files import RecordFile, package_versions

NUM_GROUPS = "pilot_groups"
"""The option of a profile that notes how many groups of the pilot it knew when it began, the first ones of its file.
Later ones do not count, so that a killed profile goes on as it began."""
_SAMPLED_BY = ("temperature", "top_p", "top_k", "max_tokens", "profile_seed")
_JUDGED_BY = ("verifier", "timeout_seconds", "memory_gib")
_VERSIONS = ("pivotrl", "torch", "transformers")


def pilot_samples(directory: Path, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, SampleGroup]:
    """By turn id, what the pilot sampled and judged as this profile would; empty without such a pilot. A notice says
    why a pilot does not fit.

    Args:
        settings: of the profile, with the limits of its verdicts.
        inputs: of the profile: trajectories, policy, code of the verifier.

    Raises:
        InputError: the finished pilot is damaged.
    """
    pilot, begun = find_manifest(directory, PILOT), find_manifest(directory, "profile")
    if pilot is None:
        return {}
    if begun is not None and (begun.status == "complete" or NUM_GROUPS not in begun.options):
        return {}
    now = json.loads(json.dumps(settings, default=str))
    versions = package_versions()
    differing = [name for name in (*_SAMPLED_BY, *_JUDGED_BY) if pilot.options.get(name) != now.get(name)]
    differing += [name for name in sorted({*pilot.inputs, *inputs}) if pilot.inputs.get(name) != inputs.get(name)]
    differing += [name for name in _VERSIONS if pilot.versions.get(name) != versions.get(name)]
    if differing:
        warnings.warn(
            "the samples of the pilot of `pivotrl plan` are not taken over, because it differs from this profile in "
            f"{', '.join(differing)}",
            Notice,
            stacklevel=3,
        )
        return {}
    if pilot.status == "complete":
        verify_outputs(directory, PILOT, pilot)
    groups = list(RecordFile(directory / PILOT / "groups.jsonl", SampleGroup))
    known = len(groups) if begun is None else int(begun.options[NUM_GROUPS])
    return {group.turn_id: group for group in groups[:known]}
