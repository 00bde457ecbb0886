"""`verdicts` of each group of a step (1 pass, 0 fail, ? none): what is `unknown` is left out, what is `known` is so."""

from pathlib import Path
from typing import Any

from pivotrl.protocols import Turn
from pivotrl.records import Action, Completion, Message, SampleGroup, Trajectory, Verdict
from pivotrl.training import _with_advantages

ONE = Completion(action=Action(content="x"), text="x", token_ids_T=(1,), logprobs_T=(0.0,), finish_reason="stop")
TELLS = {"1": Verdict.passed(), "0": Verdict.failed("wrong"), "?": Verdict.unknown("message_undecided")}


def run(case: dict[str, Any], folder: Path) -> None:
    messages = (Message(role="user", content="q"), Message(role="assistant", content="a"))
    turn = Turn(Trajectory(id="a", task_id="t", messages=messages), 1)
    groups = [
        SampleGroup(turn_id=turn.id, completions_G=(ONE,) * len(told), verdicts_G=tuple(TELLS[c] for c in told))
        for told in case["verdicts"]
    ]
    _, metrics = _with_advantages([turn] * len(groups), groups, "group")
    assert not set(case.get("unknown", ())) & metrics.keys(), metrics
    assert {name: metrics.get(name) for name in case.get("known", {})} == case.get("known", {})
