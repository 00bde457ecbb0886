"""read: logs -> ``trajectories.jsonl`` and ``heldout.jsonl``, the only files that hold messages.

Every trajectory a reader yields takes the same way: what is missing is supplied, what is lost is listed, copies are
found, secrets are counted or replaced; then it is kept or dropped with a reason, and split by task.
"""

from __future__ import annotations

import secrets as randomness
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pivotrl.copies.duplicates import DuplicateFinder
from pivotrl.import_files import Imported, ImportFiles
from pivotrl.logs.audit import audit
from pivotrl.logs.missing_parts import Complete, completion
from pivotrl.logs.sources import printable, require_utf8
from pivotrl.logs.task_groups import TaskGroups
from pivotrl.logs.thoughts import with_reasoning
from pivotrl.options import check
from pivotrl.plugin_shapes import trajectories
from pivotrl.plugins import describe
from pivotrl.privacy.redaction import Redactor
from pivotrl.profiling import Progress, silent
from pivotrl.protocols import InputError, Notice, Reader
from pivotrl.records import Dropped, Manifest, Refusal, Trajectory
from pivotrl.runs.layout import outputs
from pivotrl.runs.replacing import move_aside
from pivotrl.runs.stage import Stage
from pivotrl.store import counted, sha256_of_file, sha256_of_json, write_file
from pivotrl.training import options_dict
from pivotrl.turns import TurnOptions, cut, guess_domain, task_share

_BATCH = 256


@dataclass(frozen=True)
class ReadOptions:
    """Which trajectories are used, what is added to them, and which tasks are held out."""

    min_reward: float | None = 1.0
    """Keep trajectories whose known reward is at least this; those of unknown reward are kept. None keeps all."""
    heldout_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of tasks held out for evaluation, at least one of two or more; 0 holds none out. Ignored when a held-out
    source is given."""
    split_seed: int = 0
    tools: Path | None = None
    """JSON file with tool schemas, for trajectories that declare none."""
    system: Path | None = None
    """Text file with the system message, for trajectories that have none."""
    infer_tools: bool = True
    """Without --tools: make schemas from the calls of trajectories that declare none, marked as inferred."""
    duplicates: Literal["drop", "keep"] = "drop"
    """drop: leave out exact copies and beginnings of another trajectory. Near copies are only counted."""
    redact: bool = False
    """Replace keys, tokens, e-mail addresses and home paths before anything is written."""

    def __post_init__(self) -> None:
        check(self)


def read_stage(
    source: str,
    directory: Path,
    reader: Reader,
    options: ReadOptions = ReadOptions(),
    heldout: str | None = None,
    progress: Progress = silent,
    overwrite: bool = False,
) -> None:
    """Import a source, and a second one that is held out if there is one.

    Writes ``trajectories.jsonl``, ``heldout.jsonl``, ``dropped.jsonl`` (kept out, with the reason) and
    ``refused.jsonl`` (could not be read, with its place). A source is known by its content: it may be moved.

    Args:
        overwrite: move the run that is there aside, once the sources can be read.

    Raises:
        InputError: a source is missing or holds no usable trajectory.
    """
    for place in (source, heldout):
        if place is not None and not place.strip():
            raise InputError("the source has no name; give a log file, or . for every log in this directory")
        require_utf8(Path(place or ""))
    places = {"source": source, "heldout": heldout, "tools": options.tools, "system": options.system}
    inputs = {role: source_hash(place) for role, place in places.items() if place}
    settings = {**options_dict(options), "reader": describe(reader), "source": source, "heldout": heldout}
    told = [role for role in places if inputs.get(role) != _NAMED]
    if overwrite:
        for place in filter(None, (source, heldout)):
            next(trajectories(reader, Path(place)), None)
        move_aside(directory, "read")
    with Stage(directory, "read", settings, inputs, told) as stage:
        if stage.done:
            (directory / _KEY_FILE).unlink(missing_ok=True)  # the last run may have been killed just before it did
            _tell_what_is_held_out(stage.manifest)
            return
        if stage.is_moved:  # readers take ids and places from names
            for name in outputs("read"):
                (directory / name).unlink(missing_ok=True)
        files = ImportFiles(directory)
        tally = Tally()
        duplicates = DuplicateFinder()
        groups = TaskGroups()
        redactor = Redactor(_redaction_key(directory)) if options.redact else Redactor()
        for place, is_heldout in ((source, False), (heldout, True)):
            if place is None:
                continue
            complete = completion(
                reader, Path(place), tools=options.tools, system=options.system, infer_tools=options.infer_tools
            )
            found = trajectories(reader, Path(place))
            read = (groups.told_apart(item) if isinstance(item, Trajectory) else item for item in found)
            imported = (_treat(item, complete, duplicates, redactor, options, tally) for item in read)
            for batch in _batches(imported):
                if heldout is not None:
                    batch = [replace(item, is_heldout=is_heldout) for item in batch]
                files.write(batch)
                progress(tally.num_read, 0, "trajectories read")
        if heldout is None and 0.0 < options.heldout_fraction < 1.0:
            files.balance()
        _require_usable(source, files, tally, options)
        stage.finish(
            {
                **tally.counts(),
                "train_trajectories": len(files.train),
                "heldout_trajectories": len(files.heldout),
                "train_tasks": len(files.train_tasks),
            }
        )
        (directory / _KEY_FILE).unlink(missing_ok=True)
        _tell_what_is_held_out(stage.manifest)


def nothing_held_out(manifest: Manifest) -> str:
    """Why an import left nothing to evaluate on, and what to do about it; "" where it left something."""
    if manifest.counts.get("heldout_trajectories") != 0:
        return ""
    if manifest.options.get("heldout"):
        return (
            f"no trajectory of the held-out source {manifest.options['heldout']} was kept; give another with --heldout"
        )
    fraction, num_tasks = manifest.options.get("heldout_fraction"), int(manifest.counts["train_tasks"])
    if not fraction:
        return "no task was held out, as --heldout-fraction 0 asks for"
    return (
        f"no task was held out: what was kept is of {counted(num_tasks, 'task')}, too few to set a share of {fraction} "
        "aside. Import more tasks, or give --heldout a second source"
    )


def _tell_what_is_held_out(manifest: Manifest) -> None:
    if manifest.options.get("heldout_fraction") and (reason := nothing_held_out(manifest)):
        warnings.warn(f"nothing can be measured on held-out turns: {reason}", Notice, stacklevel=3)


# --- one trajectory -----------------------------------------------------------------------------------------------


def _treat(
    item: Trajectory | Refusal,
    complete: Complete,
    duplicates: DuplicateFinder,
    redactor: Redactor,
    options: ReadOptions,
    tally: Tally,
) -> Imported:
    if isinstance(item, Refusal):
        tally.num_refused += 1
        return Imported(item.model_copy(update={"reason": redactor.redact_text(item.reason)[0]}))
    # By the task's id as it is logged: redacted, it is another one in every import.
    share = task_share(item.task_id, options.split_seed)
    trajectory, found = redactor.redact(audit(complete(with_reasoning(item))))
    trajectory = tally.renamed(trajectory)
    tally.num_read += 1
    reason = None
    if options.min_reward is not None and trajectory.reward is not None and trajectory.reward < options.min_reward:
        reason = "low_reward"
    elif (copy := duplicates.add(trajectory)) is not None:
        tally.duplicates[copy.kind] += 1
        if options.duplicates == "drop" and copy.kind != "near":
            if copy.kind == "extension":
                trajectory = _without_turns(trajectory, copy.num_messages)
            else:
                reason = f"{copy.kind}_copy"
    if reason is not None:
        tally.dropped[reason] += 1
        return Imported(Dropped(trajectory_id=trajectory.id, reason=reason))
    tally.add(trajectory, found)
    return Imported(trajectory, share < options.heldout_fraction, share)


def _without_turns(trajectory: Trajectory, num_messages: int) -> Trajectory:
    """The turns of the first messages are candidates in another trajectory already."""
    turns = [i for i, m in enumerate(trajectory.messages[:num_messages]) if m.role == "assistant"]
    excluded = {**dict.fromkeys(turns, "duplicate_turn"), **trajectory.excluded}
    return trajectory.model_copy(update={"excluded": dict(sorted(excluded.items()))})


class Tally:
    """What an import saw, counted over trajectories unless a name says otherwise."""

    def __init__(self) -> None:
        self.num_read = self.num_refused = self.num_turns = self.num_candidates = self.num_characters = 0
        self.dropped: Counter[str] = Counter()
        self.duplicates: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()
        self.excluded: Counter[str] = Counter()
        self.secrets: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        self.domains: Counter[str] = Counter()
        self.tools: set[str] = set()
        self._ids: Counter[str] = Counter()

    def renamed(self, trajectory: Trajectory) -> Trajectory:
        """A second trajectory of the same id gets a number: logs repeat ids over runs and files."""
        self._ids[trajectory.id] += 1
        times = self._ids[trajectory.id]
        return trajectory if times == 1 else trajectory.model_copy(update={"id": f"{trajectory.id}~{times}"})

    def add(self, trajectory: Trajectory, found: Counter[str]) -> None:
        """Count a trajectory that is kept, and the secrets found in it."""
        candidates, skipped = cut([trajectory], TurnOptions())
        self.num_turns += len(candidates) + len(skipped)
        self.num_candidates += len(candidates)
        self.num_characters += sum(
            len(m.content or "") + len(m.reasoning or "") + sum(len(c.arguments) for c in m.tool_calls)
            for m in trajectory.messages
        )
        self.excluded.update(trajectory.excluded.values())
        self.losses.update({loss.code for loss in trajectory.losses})
        self.secrets.update(found)
        self.formats[str(trajectory.metadata.get("format", ""))] += 1
        self.domains[guess_domain(trajectory)] += 1
        self.tools |= {tool.name for tool in trajectory.tools}

    def counts(self) -> dict[str, Any]:
        """For the manifest. Losses, exclusions, formats and domains count trajectories or turns by code or name."""
        listed = ("dropped", "duplicates", "losses", "excluded", "secrets", "formats", "domains")
        return {
            "read": self.num_read,
            "refused": self.num_refused,
            "turns": self.num_turns,
            "candidates": self.num_candidates,
            "characters": self.num_characters,
            "tools": len(self.tools),
            **{name: dict(getattr(self, name).most_common()) for name in listed},
        }


# --- files --------------------------------------------------------------------------------------------------------

_KEY_FILE = ".redaction_key"
_NAMED = "named"
"""In place of a hash, for what a reader knows by name."""


def _batches(items: Iterator[Imported]) -> Iterator[list[Imported]]:
    batch: list[Imported] = []
    for item in items:
        batch.append(item)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _require_usable(source: str, files: ImportFiles, tally: Tally, options: ReadOptions) -> None:
    if not len(files.train):
        first = next(iter(files.refused), None)
        told = f"; the first refused: {first.place} {first.reason}" if first else ""
        num_heldout = len(files.heldout)
        held = f"{num_heldout} of {len(files.heldout_tasks)} tasks held out, " if num_heldout else ""
        remedy = "give --heldout-fraction 0 to hold nothing out, " if num_heldout else "mend the log, "
        raise InputError(
            f"{source}: no trajectory to train on ({tally.num_read} read, {held}{tally.dropped['low_reward']} below "
            f"--min-reward {options.min_reward}, {tally.num_refused} refused{told}); {remedy}or lower --min-reward"
        )
    shared = files.heldout_tasks & files.train_tasks
    if shared:
        raise InputError(
            f"{counted(len(shared), 'task')} of the held-out source can also be trained on (such as "
            f"{sorted(shared)[0]!r}); take them out of one of the two sources, or leave --heldout out"
        )


def _redaction_key(directory: Path) -> bytes:
    """Kept while the import is under way, so that a resumed one replaces a secret by the same name."""
    path = directory / _KEY_FILE
    if not path.is_file():
        write_file(path, randomness.token_bytes(32))
        path.chmod(0o600)
    return path.read_bytes()


def source_hash(source: str | Path) -> str:
    """sha256 of a file, of a directory's files with their names, or ``named`` for what a reader knows by name."""
    path = Path(source)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file())
        return sha256_of_json([(printable(p.relative_to(path)), _file_hash(p)) for p in found])
    return _file_hash(path) if path.is_file() else _NAMED


def _file_hash(path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError:
        return "unreadable"  # the reader says why
