"""Every record that touches disk. Frozen, closed to unknown fields, checked on the way in and out.

Two rules hold everywhere: messages are stored once, in ``trajectories.jsonl``, and every later record points into
them with a turn id (``trajectory_id#message_index``); an outcome is pass, fail or *no verdict* with a reason, and
an unknown outcome is never written as 0.
"""

from __future__ import annotations

from pivotrl.records.base import SCHEMA_VERSION as SCHEMA_VERSION
from pivotrl.records.base import Record as Record
from pivotrl.records.bench import TrialResult as TrialResult
from pivotrl.records.logs import Action as Action
from pivotrl.records.logs import Dropped as Dropped
from pivotrl.records.logs import Loss as Loss
from pivotrl.records.logs import Message as Message
from pivotrl.records.logs import Refusal as Refusal
from pivotrl.records.logs import Role as Role
from pivotrl.records.logs import Tool as Tool
from pivotrl.records.logs import ToolCall as ToolCall
from pivotrl.records.logs import Trajectory as Trajectory
from pivotrl.records.results import AnswerResult as AnswerResult
from pivotrl.records.results import DemonstrationScore as DemonstrationScore
from pivotrl.records.results import EpisodeResult as EpisodeResult
from pivotrl.records.results import EpisodeTurn as EpisodeTurn
from pivotrl.records.results import KlResult as KlResult
from pivotrl.records.results import ProgressResult as ProgressResult
from pivotrl.records.results import RetentionResult as RetentionResult
from pivotrl.records.results import TurnResult as TurnResult
from pivotrl.records.results import at_temperature as at_temperature
from pivotrl.records.results import episode_key as episode_key
from pivotrl.records.results import progress_key as progress_key
from pivotrl.records.samples import Completion as Completion
from pivotrl.records.samples import Label as Label
from pivotrl.records.samples import LostTry as LostTry
from pivotrl.records.samples import Route as Route
from pivotrl.records.samples import SampleGroup as SampleGroup
from pivotrl.records.samples import Sampling as Sampling
from pivotrl.records.samples import Selection as Selection
from pivotrl.records.samples import SkippedTurn as SkippedTurn
from pivotrl.records.samples import Verdict as Verdict
from pivotrl.records.stages import BatchTime as BatchTime
from pivotrl.records.stages import Manifest as Manifest
from pivotrl.records.stages import Output as Output
from pivotrl.records.stages import StepMetrics as StepMetrics
