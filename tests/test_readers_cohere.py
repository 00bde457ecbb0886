"""Calls of Cohere's first chat API are one conversation; what the log lacks is marked."""

from pathlib import Path

from pivotrl.readers import auto
from pivotrl.reading.audit import audit
from pivotrl.records import Refusal, Trajectory

CALLS = Path(__file__).parent / "data" / "formats" / "cohere_v1" / "calls.jsonl"


def test_calls_that_go_on_from_each_other_are_one_trajectory() -> None:
    refused, trajectory = sorted(auto.read(CALLS), key=lambda item: isinstance(item, Trajectory))
    assert isinstance(refused, Refusal) and "ERROR_TOXIC" in refused.reason
    assert isinstance(trajectory, Trajectory)
    roles = ["system", "user", "assistant", "tool", "assistant", "user", "assistant"]
    assert [message.role for message in trajectory.messages] == roles
    assert [call.name for call in trajectory.messages[2].tool_calls] == ["get_weather"]
    assert trajectory.tools[0].parameters["properties"] == {"city": {"type": "string"}}
    audited = audit(trajectory)
    assert audited.excluded == {6: "truncated"}
    assert "document" in {loss.code for loss in audited.losses}


def test_calls_left_out_of_the_history_are_rebuilt_from_their_results(tmp_path: Path) -> None:
    """With ``force_single_step`` the request repeats the question and brings the results alone."""
    row = (
        '{"message": "Rain?", "preamble": "p", "chat_history": [], "tool_results": [{"call": {"name": "look", '
        '"parameters": {"city": "Oslo"}}, "outputs": [{"sky": "grey"}]}], "response": {"text": "Yes."}}\n'
    )
    (tmp_path / "calls.jsonl").write_text(row)
    (made,) = auto.read(tmp_path / "calls.jsonl")
    assert isinstance(made, Trajectory)
    assert [message.role for message in made.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert made.messages[2].tool_calls[0].arguments == '{"city": "Oslo"}'
    assert [(loss.code, loss.message) for loss in made.losses] == [("action_rebuilt", 2)]
