"""What a training step measured, and what a stage says of itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pivotrl.records.base import SCHEMA_VERSION, Record


class StepMetrics(Record):
    """One row per optimizer step; each metric is defined in docs/runs.md."""

    step: int
    metrics: dict[str, float]

    @property
    def key(self) -> str:
        return str(self.step)


class BatchTime(Record):
    """What sampling a batch of a pilot took."""

    kind: Literal["samples", "prompts"]
    """prompts: the prompts again, with one sampled token each."""
    first_turn: str
    num_turns: int
    num_samples: int
    computed_tokens: int
    """Prompt tokens that went through the model."""
    sampled_tokens: int
    seconds: float

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.first_turn}"


class Output(Record):
    """A file that a stage wrote, as it was when the stage finished."""

    sha256: str
    num_bytes: int
    num_rows: int | None = None
    """Number of records; None for other kinds of files."""


class Manifest(Record):
    """How an output was made: enough to run the stage again, and to refuse to mix it with something else."""

    schema_version: int = SCHEMA_VERSION
    """Of the manifest and of the stage's record files. Runs of older versions are read; one of a newer version is
    refused."""
    id: str = ""
    """Drawn when the stage begins, kept when it resumes: experiment trackers continue their run by it. "" in manifests
    of older versions."""
    stage: str
    status: Literal["running", "complete"]
    options: dict[str, Any]
    inputs: dict[str, str] = Field(default_factory=dict)
    """sha256 of each input file or identity, by name."""
    policy: dict[str, Any] = Field(default_factory=dict)
    """The policy, for people and for a command that repeats the stage; empty if no policy was involved."""
    plugins: dict[str, str | None] = Field(default_factory=dict)
    """The texts that name the plugins of the stage on the command line; None for one that cannot be named."""
    outputs: dict[str, Output | None] | None = None
    """Each file that the stage wrote, by its path in the run directory; None for one that it could have written and did
    not. None in place of all of them: not finished, or finished by a version that did not note them."""
    counts: dict[str, Any] = Field(default_factory=dict)
    num_rollout_turns: int = 0
    """Actions that this stage sampled."""
    versions: dict[str, str] = Field(default_factory=dict)
    started_at: str = ""
    resumed_at: str = ""
    """When it last started or resumed, while running."""
    finished_at: str = ""
    wall_seconds: float = 0.0
    """Seconds of work, summed over every time the stage was resumed."""
    checksum: str = ""
    """sha256 of everything above; "" in manifests of older versions."""
