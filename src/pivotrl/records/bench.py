"""What a benchmark's harness found."""

from __future__ import annotations

from pivotrl.records.base import Record


class TrialResult(Record):
    """One trial of one task."""

    task_id: str
    trial: int
    """From 0."""
    attempt: int = 0
    """A trial without a verdict may be played again; its last attempt counts."""
    reward: float | None
    """As the harness grades it; None without a verdict."""
    reason: str
    """A short code; without a verdict, why there is none, such as ``timed_out``."""
    num_turns: int | None = None
    """Messages of the agent; None where the harness does not tell, as for the tokens."""
    num_prompt_tokens: int | None = None
    num_tokens: int | None = None
    """Sampled by the agent."""
    seconds: float
    folder: str = ""
    """Of the harness's own files, in the folder of the player."""
    detail: str = ""
    """Without a verdict: the last words of the log."""

    @property
    def trial_key(self) -> str:
        return f"{self.task_id}~{self.trial}"

    @property
    def key(self) -> str:
        return f"{self.trial_key}.{self.attempt}"
