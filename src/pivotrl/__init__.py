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
    from pivotrl.episodes import play_episodes
    from pivotrl.evaluation import EvaluationOptions, evaluate_episodes, evaluate_turns
    from pivotrl.pipeline import run
    from pivotrl.profiling import ProfileOptions, profile
    from pivotrl.protocols import Environment, InputError, Observation, Turn
    from pivotrl.reading.importing import ReadOptions
    from pivotrl.records import Action, Message, Tool, ToolCall, Trajectory, Verdict
    from pivotrl.report.page import write_report
    from pivotrl.report.summary import summarise
    from pivotrl.rollouts import sample_groups
    from pivotrl.selection import SelectionOptions, select
    from pivotrl.training import TrainingOptions, train
    from pivotrl.turns import TurnOptions, cut


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pivotrl' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pivotrl.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
