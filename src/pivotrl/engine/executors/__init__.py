"""Ways to score completions and to send a loss back. All give the same numbers and gradients; they differ in what
they compute twice."""

from pivotrl.engine.executors.choosing import make_executor
from pivotrl.engine.executors.contract import Executor, ExecutorName, Loss, Scored

__all__ = ["Executor", "ExecutorName", "Loss", "Scored", "make_executor"]
