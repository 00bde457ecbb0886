"""The verifier lint: tests a verifier on expected actions, attacks and honest variants.

A policy in training finds every wrong action that is rewarded. The lint looks for them first, in seconds and without
a model: :mod:`pivotrl.judging.probes` makes the actions, and the verifier judges them like samples.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pivotrl.judging.guarded import Verification, VerificationOptions
from pivotrl.judging.probes.making import make_probes
from pivotrl.judging.probes.probe import Probe
from pivotrl.judging.probes.refusal import fault_of
from pivotrl.judging.probes.report import CheckReport, Judged, make_report
from pivotrl.options import AtLeast1, Positive, Share
from pivotrl.options import check as check_options
from pivotrl.plugins.describing import describe, source_sha256
from pivotrl.protocols import Combination, InputError, JudgesEffects, Sampler, Turn, Verifier, Wrapping
from pivotrl.protocols.observing import SILENT, Observer
from pivotrl.records import Verdict
from pivotrl.rollouts import judge_all
from pivotrl.storage.record_files import sha256_of_file, sha256_of_json, write_file
from pivotrl.turns import draw_by_task

_NUM_OTHERS = 2
_DEMONSTRATED = "demonstrated"
_FEWEST = 32
"""Probes that are judged together at least, after the first one."""
_SECONDS = 1.0
"""About how long probes are judged together before the clock is looked at."""
_WITHOUT_EFFECT = frozenset({"empty", "malformed", "talk", "judge", "shell_missing", "search"})
"""Attacks that do nothing, or nothing that the task needs. Any other attack may by chance have the effect of the
demonstrated action."""


@dataclass(frozen=True)
class CheckOptions:
    """How the verifier is checked, and how many false passes training tolerates."""

    check_turns: AtLeast1 = 200
    """Check at most this many turns, drawn round-robin over tasks."""
    check_seed: int = 0
    """Seed of the turns and probes that are drawn."""
    probes_per_kind: AtLeast1 = 2
    """At most this many probes of one kind per turn."""
    check_seconds: Positive = 120.0
    """Begin no further probes after this time; for verifiers that run programs or ask a model."""
    max_false_pass: Share = 0.02
    """Refuse training if more than this share of the certain attacks passes, overall or in any group: a kind of turn, a
    language, a tool, an argument, a kind of attack (docs/judging.md explains why 2 %)."""

    def __post_init__(self) -> None:
        check_options(self)


def check(
    turns: Sequence[Turn],
    verifier: Verifier,
    options: CheckOptions = CheckOptions(),
    observer: Observer = SILENT,
) -> CheckReport:
    """Judge the demonstrated action and every probe at a sample of the turns; side by side, if the verifier can
    (``judge_all``).

    Raises:
        InputError: there are no turns.
    """
    asked = verifier.wrapped if isinstance(verifier, Wrapping) else verifier
    if not turns:
        raise InputError("no candidate turns to check the verifier on; see the skipped turns and their reasons")
    drawn = draw_by_task(turns, None, options.check_turns, options.check_seed)
    cases = _cases(drawn, turns, options)
    judged: list[Judged] = []
    is_ignored = _ignored_by(asked)
    began, spent, num_checked, size = time.monotonic(), 0.0, 0, 1
    while not judged or time.monotonic() - began <= options.check_seconds:
        batch = list(itertools.islice(cases, size))
        if not batch:
            break
        start = time.perf_counter()
        verdicts = judge_all([(probe.turn(turn), probe.completion()) for turn, probe in batch], verifier)
        seconds = time.perf_counter() - start
        for (turn, probe), verdict in zip(batch, verdicts, strict=True):
            if probe.kind == _DEMONSTRATED:
                judged.append(Judged(turn, None, verdict))
                num_checked += 1
            else:
                judged.append(Judged(turn, _as_it_counts(probe, verdict, asked, is_ignored), verdict))
        spent += seconds
        size = max(_FEWEST, 2 * size if seconds < _SECONDS else size // 2)
        observer.progress("checking the verifier", num_checked, len(drawn))
    return make_report((describe(verifier), "", vars(options)), judged, len(drawn) - num_checked, spent)


def _cases(drawn: Sequence[Turn], turns: Sequence[Turn], options: CheckOptions) -> Iterator[tuple[Turn, Probe]]:
    """The demonstrated action and every probe at each turn drawn."""
    for turn in drawn:
        yield turn, Probe(_DEMONSTRATED, turn.expected_action, "", "pass")
        near, far = _others(turn, turns, options.check_seed)
        for probe in make_probes(turn, near, far, options.probes_per_kind, options.check_seed):
            yield turn, probe


def _as_it_counts(probe: Probe, verdict: Verdict, verifier: Any, is_ignored: Callable[[str], bool]) -> Probe:
    """The probe, doubtful where this verifier may rightly disagree about it."""
    if _looks_at_effects(verifier, verdict):
        return _doubted(probe)
    if probe.argument and is_ignored(probe.argument):
        return dataclasses.replace(probe, certain=False)
    return probe


def check_stage(
    directory: Path,
    turns: Sequence[Turn],
    verifier: Verifier,
    options: CheckOptions = CheckOptions(),
    observer: Observer = SILENT,
    policy: Sampler | None = None,
    verification: VerificationOptions = VerificationOptions(),
) -> CheckReport:
    """:func:`check` under a time limit, written to ``check.json`` of a run directory.

    Args:
        policy: the policy for verifiers that continue episodes.

    Raises:
        InputError: as :func:`check`.
    """
    with Verification(verifier, verification, (), policy) as guarded:
        found = check(turns, guarded, options, observer)
    report = found.model_copy(update={"package": version("pivotrl"), **_identity(directory, turns, verifier)})
    write_file(directory / "check.json", report.model_dump_json(indent=1) + "\n")
    return report


def require_checked(
    directory: Path,
    turns: Sequence[Turn],
    verifier: Verifier,
    options: CheckOptions = CheckOptions(),
    observer: Observer = SILENT,
    policy: Sampler | None = None,
    verification: VerificationOptions = VerificationOptions(),
    same_turns: bool = True,
) -> tuple[CheckReport, bool]:
    """Refuse a verifier that accepts wrong actions: by ``check.json`` if it covers this verifier and these turns and is
    as thorough as requested, otherwise by a new check.

    Args:
        same_turns: if False, accept a check on other turns of the same trajectories, as training does.

    Returns:
        the report, and whether it was made now.

    Raises:
        InputError: as :func:`check`, or :func:`fault_of` finds one.
    """
    identity = _identity(directory, turns, verifier)
    if not same_turns:
        del identity["turns_sha256"]
    known = _fitting_report(directory, identity, options)
    if known is not None and fault_of(known, options.max_false_pass) is None:
        return known, False
    report = check_stage(directory, turns, verifier, options, observer, policy, verification)
    if fault := fault_of(report, options.max_false_pass):
        raise InputError(f"{fault} `pivotrl check` shows examples")
    return report, True


def _looks_at_effects(verifier: Any, verdict: Verdict) -> bool:
    """Whether the verdict comes from a verifier that judges effects, not spelling. In a combination the last part that
    was asked has decided."""
    parts, said = verifier.verifiers if isinstance(verifier, Combination) else (), verdict.details.get("parts")
    if not parts:
        return isinstance(verifier, JudgesEffects) and bool(verifier.judges_effects)
    if not isinstance(said, list) or not 0 < len(said) <= len(parts):
        return False
    return _looks_at_effects(parts[len(said) - 1], Verdict.model_validate(said[-1]))


def _ignored_by(verifier: Any) -> Callable[[str], bool]:
    """Whether a verifier's options ignore an argument (``tool.name``): then attacks on it are doubtful."""
    options: list[Mapping[str, Any]] = []
    pending = [verifier]
    while pending:
        part = pending.pop()
        options.append(getattr(part, "keywords", None) or {})
        pending += part.verifiers if isinstance(part, Combination) else ()
    names = {name for given in options for name in given.get("ignore_arguments") or ()}
    places = [place for given in options for place, rule in (given.get("rules") or {}).items() if rule == "ignore"]
    return lambda place: place.partition(".")[2] in names or any(fnmatchcase(place, pattern) for pattern in places)


def _doubted(probe: Probe) -> Probe:
    """The probe as seen by a verifier that judges effects: certain only if it does nothing."""
    certain = probe.certain and (probe.expected == "pass" or probe.area in _WITHOUT_EFFECT)
    return dataclasses.replace(probe, certain=certain and probe.kind != "judge/injection_in_argument")


def _others(turn: Turn, turns: Sequence[Turn], seed: int) -> tuple[list[Turn], list[Turn]]:
    """A few other turns of the same trajectory, and a few of other tasks."""
    generator = random.Random(f"{seed} others {turn.id}")  # noqa: S311
    own = turn.trajectory
    near = [other for other in turns if other.trajectory is own and other.index != turn.index]
    drawn = generator.sample(turns, min(8 * _NUM_OTHERS, len(turns)))
    far = [other for other in drawn if other.trajectory.task_id != own.task_id]
    return generator.sample(near, min(_NUM_OTHERS, len(near))), far[:_NUM_OTHERS]


def _identity(directory: Path, turns: Sequence[Turn], verifier: Verifier) -> dict[str, str]:
    return {
        "verifier": describe(verifier),
        "source_sha256": source_sha256(verifier),
        "trajectories_sha256": sha256_of_file(directory / "trajectories.jsonl"),
        "turns_sha256": sha256_of_json(sorted(turn.id for turn in turns)),
    }


def known_report(directory: Path) -> CheckReport | None:
    """The report in ``check.json`` of a run directory; None if it is missing, damaged or of another version."""
    path = directory / "check.json"
    if not path.is_file():
        return None
    try:
        return CheckReport.model_validate_json(path.read_text())
    except ValueError:
        return None  # a new check takes seconds


def _fitting_report(directory: Path, identity: dict[str, str], options: CheckOptions) -> CheckReport | None:
    report = known_report(directory)
    if report is None:
        return None
    wanted = {"package": version("pivotrl"), **identity}
    asked = ["check_turns", "probes_per_kind"] + (["check_seconds"] if report.num_turns_skipped else [])
    thorough = all(report.options.get(name, 0) >= getattr(options, name) for name in asked)
    return report if thorough and all(getattr(report, name) == value for name, value in wanted.items()) else None
