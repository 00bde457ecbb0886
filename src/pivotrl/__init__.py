"""pivotrl: train agents at the turns that matter, from trajectories you already have.

    from pivotrl import run, profile, select, train

Names are loaded when they are first used, so importing the package is quick and never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "run": "pipeline",
    "profile": "profiling",
    "ProfileOptions": "profiling",
    "select": "selection",
    "SelectionOptions": "selection",
    "train": "training",
    "TrainingOptions": "training",
    "cut": "turns",
    "TurnOptions": "turns",
    "sample_groups": "rollouts",
    "play_episodes": "episodes",
    "evaluate_turns": "evaluation",
    "evaluate_episodes": "evaluation",
    "EvaluationOptions": "evaluation",
    "ReadOptions": "reading.importing",
    "summarise": "report.summary",
    "write_report": "report.page",
    "Environment": "protocols",
    "Environments": "protocols",
    "Observation": "protocols",
    "Turn": "protocols",
    "InputError": "protocols",
    "Action": "records",
    "Message": "records",
    "Tool": "records",
    "ToolCall": "records",
    "Trajectory": "records",
    "Verdict": "records",
}

__all__ = sorted([*_HOMES, "__version__"])

if TYPE_CHECKING:
    from pivotrl.episodes import play_episodes as play_episodes
    from pivotrl.evaluation import EvaluationOptions as EvaluationOptions
    from pivotrl.evaluation import evaluate_episodes as evaluate_episodes
    from pivotrl.evaluation import evaluate_turns as evaluate_turns
    from pivotrl.pipeline import run as run
    from pivotrl.profiling import ProfileOptions as ProfileOptions
    from pivotrl.profiling import profile as profile
    from pivotrl.protocols import Environment as Environment
    from pivotrl.protocols import Environments as Environments
    from pivotrl.protocols import InputError as InputError
    from pivotrl.protocols import Observation as Observation
    from pivotrl.protocols import Turn as Turn
    from pivotrl.reading.importing import ReadOptions as ReadOptions
    from pivotrl.records import Action as Action
    from pivotrl.records import Message as Message
    from pivotrl.records import Tool as Tool
    from pivotrl.records import ToolCall as ToolCall
    from pivotrl.records import Trajectory as Trajectory
    from pivotrl.records import Verdict as Verdict
    from pivotrl.report.page import write_report as write_report
    from pivotrl.report.summary import summarise as summarise
    from pivotrl.rollouts import sample_groups as sample_groups
    from pivotrl.selection import SelectionOptions as SelectionOptions
    from pivotrl.selection import select as select
    from pivotrl.training import TrainingOptions as TrainingOptions
    from pivotrl.training import train as train
    from pivotrl.turns import TurnOptions as TurnOptions
    from pivotrl.turns import cut as cut


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pivotrl' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pivotrl.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
