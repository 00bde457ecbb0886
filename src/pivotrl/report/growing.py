"""What the records of a file that is still being written add up to. Each record is read once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pivotrl.records import (
    AnswerResult,
    EpisodeResult,
    LostTry,
    ProgressResult,
    Record,
    RetentionResult,
    SampleGroup,
    StepMetrics,
    TurnResult,
)
from pivotrl.report.steps import with_shares
from pivotrl.rollouts import SampleFaults, rollout_turns
from pivotrl.storage.tail import Tail


@dataclass
class Tally:
    """What the records of a stage add up to."""

    rollout_turns: int = 0
    tokens: int = 0
    keys: dict[str, set[str]] = field(default_factory=dict)
    """Kind of item -> the items done."""
    steps: dict[int, StepMetrics] = field(default_factory=dict)
    faults: SampleFaults = field(default_factory=SampleFaults)

    def add(self, record: Record) -> None:
        match record:
            case SampleGroup():
                self.rollout_turns += rollout_turns([record])
                self.tokens += record.num_sampled_tokens or 0
                self._done("turns", record.turn_id)
                self._befell(SampleFaults.of([record]))
            case TurnResult():
                self.rollout_turns += record.num_samples + record.num_continuation_turns
                self.tokens += record.num_tokens
                self._done("held-out turns", record.key)
                self._befell(SampleFaults.of_results([record]))
            case ProgressResult():
                self.rollout_turns += record.num_sampled + record.num_continuation_turns
                self.tokens += record.num_tokens
                self._done("trajectories walked", record.key)
            case EpisodeResult():
                self.rollout_turns += record.num_turns
                self.tokens += record.num_tokens
                self._done("episodes", record.key)
            case RetentionResult():
                self._done("reference texts", record.key)
            case AnswerResult():
                self.rollout_turns += record.num_tokens > 0
                self.tokens += record.num_tokens
                self._done("questions", record.key)
            case LostTry():
                self.tokens += record.num_tokens
            case StepMetrics():
                self.steps[record.step] = with_shares(record)

    def _done(self, kind: str, key: str) -> None:
        self.keys.setdefault(kind, set()).add(key)

    def _befell(self, faults: SampleFaults) -> None:
        parts = (f.name for f in dataclasses.fields(SampleFaults))
        self.faults = SampleFaults(**{name: getattr(self.faults, name) + getattr(faults, name) for name in parts})


def merged(tallies: Iterable[Tally]) -> Tally:
    """Of several files of one stage."""
    found = Tally()
    for tally in tallies:
        found.rollout_turns += tally.rollout_turns
        found.tokens += tally.tokens
        found.keys |= tally.keys
        found.steps |= tally.steps
        found._befell(tally.faults)
    return found


class Growing:
    """One file and what its records add up to so far."""

    def __init__(self, path: Path, model: type[Record]) -> None:
        self._tail = Tail(path, model)
        self._tally = Tally()

    def look(self) -> Tally:
        """
        Raises:
            ValueError: the file is damaged.
        """
        records, is_other = self._tail.new()
        if is_other:
            self._tally = Tally()
        for record in records:
            self._tally.add(record)
        return self._tally
