"""What a sampler gives is stored whatever it is, and a verdict that no record could hold is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from pivotrl import Action, Message, ToolCall, Trajectory, Turn, Verdict
from pivotrl.records import Completion, SampleGroup, Sampling
from pivotrl.rollouts import sample_groups
from pivotrl.storage.record_files import RecordFile, read_records

TURN = Turn(
    Trajectory(
        id="a",
        task_id="t",
        messages=(Message(role="user", content="hi"), Message(role="assistant", content="hello")),
    ),
    1,
)
HALF = "\ud83d"


def completion(text: str, action: Action) -> Completion:
    return Completion(action=action, text=text, token_ids_T=(1,), logprobs_T=(0.0,), finish_reason="stop")


class Given:
    """A sampler that does not look at what it gives."""

    identity: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, *completions: Completion) -> None:
        self.group = SampleGroup(turn_id=TURN.id, completions_G=completions)

    def sample(self, turns: object, num_samples: int, sampling: Sampling) -> object:
        return iter([self.group])

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        return True


@pytest.mark.parametrize(
    "strange",
    [
        completion(f"hi {HALF}", Action(content="hi")),
        completion("hi", Action(content=f"hi {HALF}")),
        completion("hi", Action(tool_calls=(ToolCall(name=f"f{HALF}"),))),
        completion("hi", Action(tool_calls=(ToolCall(name="f", arguments=f'{{"a": "{HALF}"}}'),))),
        completion("hi", Action(tool_calls=(ToolCall(name="f", id=HALF),))),
    ],
    ids=["text", "content", "name", "arguments", "id"],
)
def test_half_a_surrogate_pair_is_a_failed_sample_beside_good_ones(strange: Completion, tmp_path: Path) -> None:
    good = completion("hello", Action(content="hello"))
    (group,) = sample_groups([TURN], Given(good, strange), lambda *_: Verdict.passed(), 2, Sampling())  # type: ignore[arg-type]
    RecordFile(tmp_path / "groups.jsonl", SampleGroup, key=lambda g: g.turn_id).append([group])
    (again,) = read_records(tmp_path / "groups.jsonl", SampleGroup)
    assert again == group and again.completions_G[0] == good
    assert [verdict.outcome for verdict in again.verdicts_G] == ["pass", "fail"]
    assert again.verdicts_G[1].reason == again.completions_G[1].parse_error == "half_of_a_surrogate_pair"


def nested(depth: int) -> list[object]:
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize("details", [{"got": HALF}, {"got": nested(400)}, {"got": object()}])
def test_details_that_no_record_can_hold_are_no_verdict(details: dict[str, object], tmp_path: Path) -> None:
    good = completion("hello", Action(content="hello"))
    judge = lambda *_: Verdict.failed("no", **details)  # noqa: E731
    (group,) = sample_groups([TURN], Given(good), judge, 1, Sampling())  # type: ignore[arg-type]
    RecordFile(tmp_path / "groups.jsonl", SampleGroup, key=lambda g: g.turn_id).append([group])
    assert group.verdicts_G[0].reason == "verifier_error"
