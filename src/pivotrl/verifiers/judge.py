"""A language model judges whether the action does the same as the demonstrated one. Expensive, so ask it last.

The model sees both actions as data and is asked twice, in either order. Known tricks are decided without it: no text,
texts that only look like the start of an answer, repeats of the conversation.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal

from pivotrl.judging.judge_answers import JudgeAnswer, Judgements, NoJudgement
from pivotrl.options import AtLeast1, Positive
from pivotrl.protocols import InputError, Turn
from pivotrl.protocols.endpoint import Endpoint
from pivotrl.records import Action, Message, Verdict
from pivotrl.storage.record_files import sha256_of_json

Rubric = Literal["auto", "tool_use", "message", "command", "edit", "free"]

_TEXTS = tomllib.loads(files("pivotrl.judging").joinpath("judge_texts.toml").read_text())
PROMPT_SHA256 = sha256_of_json([_TEXTS, JudgeAnswer.model_json_schema()])
"""Hash of every text that does not depend on the turn."""

_EMPTY_PHRASES = frozenset(
    {
        *(
            "thought process",
            "solution",
            "the solution",
            "explanation",
            "answer",
            "final answer",
            "reasoning",
            "output",
        ),
        *("lets solve this problem step by step", "lets think step by step", "lets solve this step by step", "result"),
        *(
            "解",
            "解答",
            "解説",
            "かいせつ",
            "解决方案",
            "答案",
            "respuesta",
            "solución",
            "solucion",
            "lösung",
            "réponse",
        ),
    }
)
"""Openers that judges accept as answers although nothing follows (Zhao et al. 2025, arXiv:2507.08794)."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Pass if the judge finds in both orders that the two actions do the same.

    Args:
        model: the model's name on the server.
        base_url: address of an OpenAI-compatible server, up to ``/v1``.
        rubric: the kind of action to judge; ``auto``: tool_use if tool calls were demonstrated, otherwise message.
        key_variable: name of the environment variable that holds the key. The key itself is never stored.
        cache: folder of earlier answers, found by model, prompt and data.
        max_chars: longest action to judge; a longer one fails.
        context_chars: how many characters of the conversation's end to show.
        seed: seed of the codes that mark data. The codes also depend on the data, so no action can predict its own.
        deadline_seconds: time limit of a question, including retries.
        max_tries: maximum number of tries per question.
        max_tokens: maximum tokens of an answer.
        max_requests: maximum number of concurrent requests; each verdict takes two.

    Reasons: judged_same, match (the identical action: the judge is not asked), judged_different; empty_action,
    degenerate_action, repeats_context, too_long, expected_tool_call, unexpected_tool_call; and without a verdict
    no_expected_action, judge_inconsistent, judge_doubts_demonstration (in both orders the judge prefers the action to
    the demonstrated one), judge_unavailable, judge_refused, judge_unparsable. Every verdict from the judge names the
    ``model`` and, by ``prompt_sha256``, the question.

    Raises:
        InputError: the environment variable is not set; or, at a verdict, the server refuses the key or model, or was
            never reachable.
    """

    model: str
    base_url: str = field(default="http://127.0.0.1:8000/v1", repr=False)
    rubric: Rubric = "auto"
    key_variable: str | None = field(default=None, repr=False)
    cache: str | None = field(default=None, repr=False)
    max_chars: AtLeast1 = 8000
    context_chars: AtLeast1 = 16000
    seed: int = 0
    deadline_seconds: Positive = field(default=60.0, repr=False)
    max_tries: AtLeast1 = field(default=4, repr=False)
    max_tokens: AtLeast1 = 1024
    max_requests: AtLeast1 = field(default=64, repr=False)
    prompt_sha256: str = field(default=PROMPT_SHA256, init=False)
    _judgements: Judgements = field(init=False, repr=False, compare=False)

    in_process: ClassVar[bool] = True
    """It waits under its own deadline and executes nothing from an action."""
    concurrent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.rubric != "auto" and self.rubric not in _TEXTS["rubrics"]:
            raise InputError(f"judge: no rubric called {self.rubric!r}; there are auto, {', '.join(_TEXTS['rubrics'])}")
        endpoint = Endpoint(
            "judge", self.base_url, self.key_variable, self.deadline_seconds, self.max_tries, self.max_requests
        )
        judgements = Judgements(endpoint, Path(self.cache) if self.cache else None)
        object.__setattr__(self, "_judgements", judgements)

    def __call__(self, turn: Turn, action: Action) -> Verdict:
        expected = turn.expected_action
        if expected.is_empty:
            return Verdict.unknown("no_expected_action")
        if decided := self._decided(turn, action):
            return decided
        questions = [self._question(turn, expected, action), self._question(turn, action, expected)]
        facts: dict[str, Any] = {"model": self.model, "prompt_sha256": self.prompt_sha256}
        try:
            first, swapped = self._judgements.ask(questions)
        except NoJudgement as fault:
            return Verdict.unknown(fault.reason, **facts, error=str(fault))
        facts["why"] = first.why[:300]
        match (first.verdict, swapped.verdict):
            case ("same", "same"):
                return Verdict.passed("judged_same", **facts)
            case ("first", "second"):
                return Verdict.failed("judged_different", **facts)
            case ("second", "first"):
                return Verdict.unknown("judge_doubts_demonstration", **facts)
            case said:
                return Verdict.unknown("judge_inconsistent", **facts, verdicts=list(said))

    def _decided(self, turn: Turn, action: Action) -> Verdict | None:
        """The verdict on actions that the judge need not or must not see."""
        expected = turn.expected_action
        if action.is_empty:
            return Verdict.failed("empty_action")
        if any(_as_data(action) == _as_data(accepted) for accepted in turn.accepted_actions):
            return Verdict.passed()
        if len(_as_data(action)) > self.max_chars:
            return Verdict.failed("too_long")
        if bool(action.tool_calls) != bool(expected.tool_calls) and self.rubric != "free":
            return Verdict.failed("expected_tool_call" if expected.tool_calls else "unexpected_tool_call")
        if not action.tool_calls:
            words = " ".join(re.findall(r"[^\W_]+", (action.content or "").replace("'", "").replace("\u2019", "")))
            if not words or words.casefold() in _EMPTY_PHRASES:
                return Verdict.failed("degenerate_action")
            if any((action.content or "").strip() == (message.content or "").strip() for message in turn.context):
                return Verdict.failed("repeats_context")
        return None

    def _question(self, turn: Turn, first: Action, second: Action) -> dict[str, Any]:
        """The body of the request, at temperature 0."""
        rubric = self.rubric
        if rubric == "auto":
            rubric = "tool_use" if turn.expected_action.tool_calls else "message"
        conversation = "\n".join(_line(message) for message in turn.context)[-self.context_chars :]
        data = {"conversation": conversation, "first": _as_data(first), "second": _as_data(second)}
        code = hashlib.sha256(json.dumps([self.seed, data]).encode()).hexdigest()[:24]
        system = _TEXTS["system"].format(rubric=_TEXTS["rubrics"][rubric].strip())
        user = _TEXTS["user"].format(code=code, **data)
        messages = [{"role": "system", "content": system.strip()}, {"role": "user", "content": user.strip()}]
        return {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": self.max_tokens}


def _line(message: Message) -> str:
    calls = [{"name": call.name, "arguments": call.arguments} for call in message.tool_calls]
    return _escaped({"role": message.role, "text": message.content or "", **({"calls": calls} if calls else {})})


def _as_data(action: Action) -> str:
    calls = [{"name": call.name, "arguments": call.arguments} for call in action.tool_calls]
    return _escaped({"text": (action.content or "").strip(), "calls": calls})


def _escaped(value: object) -> str:
    """JSON on one line, with every unprintable character escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


verify = Judge
