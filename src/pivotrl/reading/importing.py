"""The steps of an import for every trajectory that a reader yields.

Missing parts are supplied, losses are listed, copies are found, secrets are counted or replaced; then the trajectory
is kept or dropped with a reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pivotrl.options import check
from pivotrl.reading.audit import audit
from pivotrl.reading.duplicates.finding import DuplicateFinder
from pivotrl.reading.import_files import Imported
from pivotrl.reading.missing_parts import Complete
from pivotrl.reading.privacy.redaction import Redactor
from pivotrl.reading.thoughts import with_reasoning
from pivotrl.records import Dropped, Refusal, Trajectory
from pivotrl.turns import TurnOptions, cut, guess_domain, task_share


@dataclass(frozen=True)
class ReadOptions:
    """Which trajectories are used, what is added to them, and which tasks are held out."""

    min_reward: float | None = 1.0
    """Keep trajectories with at least this reward, and those with unknown reward. None keeps all."""
    heldout_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of tasks held out for evaluation, at least one of two or more; 0 holds none out. Ignored if a held-out
    source is given."""
    split_seed: int = 0
    """Seed of the split into training and held-out tasks."""
    tools: Path | None = None
    """JSON file with tool schemas, for trajectories that declare none."""
    system: Path | None = None
    """Text file with the system message, for trajectories that have none."""
    infer_tools: bool = True
    """Without --tools: infer schemas from the calls of trajectories that declare none, and mark them as inferred."""
    duplicates: Literal["drop", "keep"] = "drop"
    """drop: leave out exact copies and beginnings of other trajectories. Near copies are only counted."""
    redact: bool = False
    """Replace keys, tokens, e-mail addresses and home paths before anything is written."""

    def __post_init__(self) -> None:
        check(self)


def treat(
    item: Trajectory | Refusal,
    complete: Complete,
    duplicates: DuplicateFinder,
    redactor: Redactor,
    options: ReadOptions,
    tally: Tally,
) -> Imported:
    """Import one item that the reader yielded; the tally counts it."""
    if isinstance(item, Refusal):
        tally.num_refused += 1
        return Imported(item.model_copy(update={"reason": redactor.redact_text(item.reason)[0]}))
    # By the logged task id: redaction gives another one in every import.
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
    """The turns of the first messages are already candidates in another trajectory."""
    turns = [i for i, m in enumerate(trajectory.messages[:num_messages]) if m.role == "assistant"]
    excluded = {**dict.fromkeys(turns, "duplicate_turn"), **trajectory.excluded}
    return trajectory.model_copy(update={"excluded": dict(sorted(excluded.items()))})


class Tally:
    """Counts of an import, over trajectories unless a name says otherwise."""

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
