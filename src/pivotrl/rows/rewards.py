"""The profiling verifier as the reward function of another training stack, over rows that pivotrl exported.

A row's ``pivotrl_turn`` holds the whole turn, so any verifier judges there as it judged in the profile. What a policy
wrote is read as Hermes tool calls unless told otherwise: the form that exported text prompts ask for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from pivotrl import plugins
from pivotrl.parsing import parse_completion
from pivotrl.protocols import InputError, Turn
from pivotrl.reading.chat_messages import tool_call
from pivotrl.records import Action, Completion, Trajectory, Verdict
from pivotrl.rollouts import judge
from pivotrl.storage.record_files import validation_message

Answer = str | Mapping[str, Any]
"""A policy's output: its text, or an assistant message whose tool calls the stack has already parsed."""


class RowReward:
    """Judges answers at the turns of exported rows.

    Args:
        verifier: by name, with options: ``tool_call(ignore_case=True)``.
        style: how the policy writes its actions; see :func:`pivotrl.parsing.style_names`.
        inside_thought: the chat template opens a thought, so that what the policy writes begins within it.
        no_verdict: the reward where the verifier gives none, for stacks that need a number; None makes it an error
            there, because an unknown reward is not 0.

    Raises:
        InputError: there is no such verifier.
    """

    def __init__(
        self, verifier: str, *, style: str = "hermes", inside_thought: bool = False, no_verdict: float | None = None
    ) -> None:
        self._verify, self._no_verdict = plugins.load("verifiers", verifier), no_verdict
        self._style, self._inside_thought = style, inside_thought

    def verdict(self, answer: Answer, pivotrl_turn: str) -> Verdict:
        """Raises:
        InputError: the column holds no turn.
        """
        turn = turn_of_row(pivotrl_turn)
        message = {"content": answer} if isinstance(answer, str) else answer
        text = str(message.get("content") or "")
        action, error = parse_completion(
            text, self._style, tools=turn.trajectory.tools, inside_thought=self._inside_thought
        )
        if error is None and (parsed := message.get("tool_calls")):
            action, error = _with_calls(action, parsed)
        completion = Completion(
            action=action, text=text, token_ids_T=(), logprobs_T=(), finish_reason="stop", parse_error=error
        )
        return judge(turn, completion, self._verify)

    def number(self, answer: Answer, pivotrl_turn: str) -> float:
        """The reward as a number.

        Raises:
            ValueError: there is no verdict and no number to replace it.
        """
        verdict = self.verdict(answer, pivotrl_turn)
        reward = self._no_verdict if verdict.reward is None else verdict.reward
        if reward is None:
            raise ValueError(
                f"no verdict at {turn_of_row(pivotrl_turn).id}: {verdict.reason} {verdict.details}; "
                "give no_verdict=<reward>, or leave the turn out"
            )
        return reward


@functools.lru_cache(maxsize=1024)
def turn_of_row(pivotrl_turn: str) -> Turn:
    """Raises:
    InputError: the text is no exported turn.
    """
    try:
        trajectory = Trajectory.model_validate_json(pivotrl_turn)
    except ValidationError as error:
        raise InputError(f"pivotrl_turn is not a turn: {validation_message(error)}; export again") from error
    return Turn(trajectory, len(trajectory.messages) - 1)


def _with_calls(action: Action, parsed: Sequence[Any]) -> tuple[Action, str | None]:
    """The action with calls that were parsed elsewhere, or what is wrong."""
    if action.tool_calls:
        return Action(), "tool_call_inside_text"
    try:
        return Action(content=action.content, tool_calls=tuple(map(tool_call, parsed))), None
    except ValueError:
        return Action(), "tool_call_is_malformed"


def trl_reward(verifier: str, **options: Any) -> Callable[..., list[float | None]]:
    """A reward function for TRL's GRPOTrainer. None, which TRL leaves out of the group, where there is no verdict.

    Args:
        options: of :class:`RowReward`.
    """
    reward = RowReward(verifier, **options)

    def pivotrl_reward(completions: Sequence[Any], pivotrl_turn: Sequence[str], **_: Any) -> list[float | None]:
        answers = [completion if isinstance(completion, str) else completion[0] for completion in completions]
        return [reward.verdict(answer, turn).reward for answer, turn in zip(answers, pivotrl_turn, strict=True)]

    return pivotrl_reward


def verl_reward(verifier: str, **options: Any) -> Callable[..., float]:
    """``compute_score`` for verl.

    Args:
        options: of :class:`RowReward`.
    """
    reward = RowReward(verifier, **options)

    def compute_score(
        data_source: str, solution_str: str, ground_truth: str, extra_info: Mapping[str, Any], **_: Any
    ) -> float:
        return reward.number(solution_str, extra_info["pivotrl_turn"])

    return compute_score
