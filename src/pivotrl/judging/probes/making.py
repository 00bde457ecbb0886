"""All probes at one turn."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from pivotrl.judging.probes import calls, commands, edits, judges, messages, near, said, searches, variants
from pivotrl.judging.probes.probe import Probe, same
from pivotrl.protocols import Turn
from pivotrl.records import Action

_LEAST_OF_AN_ARGUMENT = 3
"""Certain attacks wanted for each argument of a call."""
_ATTACKS = (
    messages.empty,
    messages.copied,
    messages.swapped,
    said.attacks,
    calls.missing,
    near.near,
    calls.swapped,
    calls.retyped,
    calls.disguised,
    calls.other_tool,
    calls.surplus,
    calls.malformed,
    calls.talk,
    commands.attacks,
    edits.attacks,
    searches.attacks,
    judges.judges,
)
_HONEST = (
    variants.same_action,
    variants.same_by_schema,
    variants.selves,
    commands.honest_variants,
    edits.honest_variants,
    searches.honest_variants,
)


def make_probes(
    turn: Turn, near: Sequence[Turn] = (), far: Sequence[Turn] = (), per_kind: int | None = 2, seed: int = 0
) -> list[Probe]:
    """Everything to try at a turn, each kind at most ``per_kind`` times, and more if an argument got too few; the
    same for the same turn and seed.

    Args:
        near: other turns of the trajectory.
        far: turns of other tasks.
        per_kind: None keeps all.

    A probe that happens to be one of the turn's accepted actions, or another probe again, is left out, and so is a
    variant that is the demonstrated action to the letter.
    """
    found = [probe for make in (*_ATTACKS, *_HONEST) for probe in make(turn)]
    found += messages.other_turns(turn, near, far)
    if searches.is_search(turn):
        found = searches.fitted(turn, found)
    by_kind: dict[str, list[Probe]] = defaultdict(list)
    for probe in found:
        if (
            probe.expected == "fail"
            and not (probe.parse_error or probe.demonstrated)
            and _is_accepted(turn, probe.action)
        ):
            continue
        if probe.expected == "pass" and probe.demonstrated is None and probe.action == turn.expected_action:
            continue
        if all(_differ(probe, other) for other in by_kind[probe.kind]):
            by_kind[probe.kind].append(probe)
    generator = random.Random(f"{seed} {turn.id}")  # noqa: S311
    kept: list[Probe] = []
    left_out: list[Probe] = []
    for probes in by_kind.values():
        chosen = set(range(len(probes)))
        if per_kind is not None and len(probes) > per_kind:
            chosen = set(generator.sample(range(len(probes)), per_kind))
        kept += [probe for place, probe in enumerate(probes) if place in chosen]
        left_out += [probe for place, probe in enumerate(probes) if place not in chosen]
    counts = Counter(probe.argument for probe in kept if probe.certain)
    for probe in left_out:  # an argument without attacks must not hide among the others
        if probe.argument and probe.certain and counts[probe.argument] < _LEAST_OF_AN_ARGUMENT:
            counts[probe.argument] += 1
            kept.append(probe)
    return kept


def _is_accepted(turn: Turn, action: Action) -> bool:
    return any(same(action, accepted) for accepted in turn.accepted_actions)


def _differ(one: Probe, other: Probe) -> bool:
    return (one.action, one.text, one.demonstrated) != (other.action, other.text, other.demonstrated)
