"""Trajectories and episodes as the page reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pivotrl.records import Completion, EpisodeResult, Message, Trajectory, Verdict
from pivotrl.report.browser.packing import json_text
from pivotrl.report.browser.samples import Drawn, Draws

_MAX_METADATA = 20_000
"""Characters of the metadata of a trajectory that are shown."""


def trajectory_text(trajectory: Trajectory, words: Mapping[str, str]) -> dict[str, Any]:
    """Messages, tools and facts of a trajectory.

    Args:
        words: code -> words, of exclusions and losses.
    """
    metadata: dict[str, Any] = trajectory.metadata
    if len(json_text(metadata)) > _MAX_METADATA:
        metadata = {
            name: "(too long for this page)" if len(json_text(value)) > 1000 else value
            for name, value in metadata.items()
        }
    return {
        "tools": [tool.model_dump() for tool in trajectory.tools],
        "messages": [
            _message(message, trajectory.excluded.get(index) or _pinned(trajectory, index))
            for index, message in enumerate(trajectory.messages)
        ],
        "window": trajectory.context_window,
        "pinned": trajectory.pinned_messages,
        "metadata": metadata,
        "losses": [
            " ".join(
                filter(
                    None,
                    (
                        words.get(loss.code, loss.code),
                        f"(message {loss.message})" if loss.message is not None else "",
                        loss.detail,
                    ),
                )
            )
            for loss in trajectory.losses
        ],
    }


def _pinned(trajectory: Trajectory, index: int) -> str | None:
    """Of an example in the prompt, which is not the agent's own turn."""
    is_example = index < trajectory.pinned_messages and trajectory.messages[index].role == "assistant"
    return "pinned_example" if is_example else None


def _message(message: Message, excluded: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "role": message.role,
        "content": message.content,
        "reasoning": message.reasoning,
        "calls": [call.model_dump() for call in message.tool_calls],
        "call_id": message.tool_call_id,
    }
    return found | ({"excluded": excluded} if excluded else {})


def episode_log(result: EpisodeResult, name: str) -> tuple[Trajectory, dict[int, Draws]]:
    """(the episode as a trajectory of that name, what was sampled at each of its turns by message index)

    An episode of an older version has messages but no samples.
    """
    has_turns = len(result.turns) == result.num_turns
    if has_turns:
        trajectory = result.trajectory().model_copy(update={"id": name})
    else:
        trajectory = Trajectory(
            id=name, task_id=result.task_id, messages=result.transcript, tools=result.tools, reward=result.reward
        )
    if not has_turns:
        return trajectory, {}
    samples = {}
    for turn, completion in zip(result.turns, result.completions(), strict=True):
        drawn = Drawn(_with_fault(completion, turn.fault), _verdict(turn.reward, turn.reason), 0)
        samples[turn.index] = Draws([drawn], prompt_sha256=turn.prompt_sha256)
    return trajectory, samples


def _with_fault(completion: Completion, fault: str) -> Completion:
    return completion.model_copy(update={"fault": fault}) if fault else completion


def _verdict(reward: float | None, reason: str) -> Verdict:
    """What the environment said of a turn; most say nothing before the end."""
    if reward is None or not 0.0 <= reward <= 1.0:
        return Verdict.unknown(reason or "not_judged")
    return Verdict.passed(reason, reward=reward) if reward > 0 else Verdict.failed(reason)
