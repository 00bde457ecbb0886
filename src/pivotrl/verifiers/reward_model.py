"""A reward model scores the action: any sequence classifier of transformers, whatever it was trained on.

It sees no demonstration, so it can value an action that nobody demonstrated. Like every learned reward, it can be
fooled by inputs unlike its training data. Put it behind verifiers that cannot (``all_of``, ``first_decisive``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pivotrl.engine.loading import Dtype
from pivotrl.engine.reward_head import RewardHead
from pivotrl.protocols import InputError, NotRenderable, Turn
from pivotrl.records import Action, Verdict
from pivotrl.records.strict_json import parse_arguments
from pivotrl.rendering import Renderer


@dataclass(frozen=True, kw_only=True, eq=False)
class RewardModel:
    """Pass if the probability reaches ``threshold``. The reward is the probability itself, even for a fail.

    Args:
        model: a folder saved by transformers (safetensors), or a Hugging Face id; with one label (sigmoid) or two
            (softmax).
        threshold: lowest probability that passes.
        good_label: which of two labels means good.
        style: how the conversation is written for the model, see :class:`pivotrl.rendering.Renderer`.
        dtype, device: as for a policy.

    Reasons: scored; empty_action, arguments_not_json, low_score; and without a verdict context_too_long and
    not_renderable (the model's chat template cannot write the turn or the action).

    Raises:
        InputError: on creation, see :class:`pivotrl.engine.reward_head.RewardHead`; or a threshold outside of 0 to 1.
    """

    model: str
    threshold: float = 0.5
    good_label: int = 1
    style: Literal["auto", "chatml", "template"] = "auto"
    dtype: Dtype = "auto"
    device: str = field(default="auto", repr=False)
    weights: str = field(default="", init=False)
    """Identity of the loaded model: a hash of the folder's files."""
    _head: RewardHead = field(init=False, repr=False)
    _renderer: Renderer = field(init=False, repr=False)

    in_process: ClassVar[bool] = True
    """torch cannot be used in a forked child."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise InputError(f"reward_model: threshold={self.threshold} must lie in [0, 1]")
        head = RewardHead(self.model, self.good_label, self.dtype, self.device)
        object.__setattr__(self, "_head", head)
        object.__setattr__(self, "_renderer", Renderer(head.tokenizer, self.style))
        object.__setattr__(self, "weights", head.identity)

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        if action.is_empty:
            return Verdict.failed("empty_action")
        try:
            for call in action.tool_calls:
                parse_arguments(call.arguments)
        except ValueError as error:
            return Verdict.failed("arguments_not_json", error=str(error)[:200])
        try:
            token_ids_T = self._renderer.rendered(turn, action).token_ids_T
        except NotRenderable as error:
            return Verdict.unknown("not_renderable", error=str(error)[:200])
        if len(token_ids_T) > self._head.max_tokens:
            return Verdict.unknown("context_too_long", num_tokens=len(token_ids_T))
        probability = self._head.probability(token_ids_T)
        if probability >= self.threshold:
            return Verdict.passed("scored", reward=probability)
        return Verdict.failed("low_score", reward=probability)


verify = RewardModel
