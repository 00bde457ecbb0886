"""A model on an OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, or a hosted one.

With a tokenizer, prompts are rendered here and sent as token ids; without one, messages are sent and the server's own
template writes them. Nothing is streamed (docs/servers.md).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from pivotrl.options import AtLeast1, NotNegative, Positive, check_arguments, refuse
from pivotrl.parsing import parse_completion, style_names
from pivotrl.protocols import InputError, Notice, Turn, TurnTooLong
from pivotrl.protocols.endpoint import Endpoint
from pivotrl.records import Action, Completion, SampleGroup, Sampling
from pivotrl.rendering import Renderer, action_text, prompt_hash
from pivotrl.samplers.openai.answers import Choice
from pivotrl.samplers.openai.asking import Asking, Budget, Found, Question
from pivotrl.samplers.openai.models import NOT_REPORTED, ServedModel, served_model
from pivotrl.samplers.openai.money import Prices
from pivotrl.samplers.openai.tokens import completion_of_tokens, fault_of_tokens, is_plain, plain_request, token_request
from pivotrl.templates.api_messages import api_messages
from pivotrl.text.tool_call_syntax import function_tool

_MEBIBYTES = 1 << 20


class Sampler:
    """Samples of a served model.

    Args:
        base_url: up to ``/v1``. It is no part of the samples' identity, so a run may go on at another address.
        model: its name on the server.
        tokenizer: a folder or a Hugging Face id, the model's own. Prompts are then sent as token ids; without it as
            messages.
        key_variable: name of the environment variable that holds the key.
        choices: ``n`` asks for the samples of a turn in one request; ``single`` asks for each alone with a seed of its
            own, so that a server that keeps seeds gives the same samples again.
        max_context: tokens of prompt and completion. None: what the server tells, else no limit.
        lists_models: False for a server that fails to list its models; only their name identifies them then.
        actions, reasoning, style, variables: how turns are written and read, see
            :class:`pivotrl.rendering.Renderer`; without a tokenizer only ``actions`` has an effect.
        logprobs: which log-probabilities the server gives: ``raw`` are the model's own, ``processed`` those after
            temperature, top-k and top-p. Raw ones are kept at temperature 1 without top-k and top-p alone, where both
            are the same; elsewhere they would not be those of the samples, so they are unknown.
        extra: more fields for every request.
        max_requests: how many requests this process may make.
        max_tokens_total: how many tokens, prompts and completions, the server may count; the batch that reaches it is
            finished.
        input_price, output_price: of a million tokens of prompts and of samples, in any currency; costs are then told
            in money.
        cached_price: of a million tokens of prompts that the server had computed before and says so.
        max_cost: how much money this process may spend; the batch that reaches it is finished.
        deadline_seconds, max_tries, max_in_flight: see :class:`pivotrl.protocols.endpoint.Endpoint`.

    Raises:
        InputError: an option is out of range, or the tokenizer cannot be loaded.
    """

    is_paid = True

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        tokenizer: str | None = None,
        key_variable: str | None = None,
        choices: Literal["n", "single"] = "n",
        max_context: AtLeast1 | None = None,
        lists_models: bool = True,
        style: Literal["auto", "chatml", "template"] = "auto",
        reasoning: Literal["template", "keep", "strip"] = "template",
        actions: str = "auto",
        variables: Mapping[str, Any] | None = None,
        logprobs: Literal["raw", "processed"] = "raw",
        extra: Mapping[str, Any] | None = None,
        max_requests: AtLeast1 | None = None,
        max_tokens_total: AtLeast1 | None = None,
        input_price: NotNegative | None = None,
        output_price: NotNegative | None = None,
        cached_price: NotNegative | None = None,
        max_cost: Positive | None = None,
        deadline_seconds: Positive = 300.0,
        max_tries: AtLeast1 = 4,
        max_in_flight: AtLeast1 = 64,
    ) -> None:
        check_arguments(Sampler, locals())
        if actions != "auto" and actions not in style_names():
            raise InputError(f"no style of actions called {actions!r}; there are auto, {', '.join(style_names())}")
        self.model, self.choices, self.actions, self.logprobs = model, choices, actions, logprobs
        prices = Prices(input_price, output_price, cached_price)
        if max_cost is not None and input_price is None:
            refuse("max_cost", f"{max_cost:g}", "needs input_price and output_price, the prices of a million tokens")
        self.extra = _checked_extra(extra or {})
        self.renderer = _renderer(tokenizer, style, reasoning, actions, variables) if tokenizer else None
        self.endpoint = Endpoint(
            "server", base_url, key_variable, deadline_seconds, max_tries, max_in_flight, 64 * _MEBIBYTES
        )
        self.asking = Asking(
            self.endpoint,
            "completions" if self.renderer else "chat/completions",
            model,
            Budget(max_requests, max_tokens_total, max_cost, prices),
            uses_n=choices == "n",
        )
        self._max_context, self._lists_models = max_context, lists_models
        self._has_warned = False

    @cached_property
    def served(self) -> ServedModel:
        """What the server says of the model; asked once.

        Raises:
            InputError: the server serves others, or cannot be reached.
        """
        return served_model(self.endpoint, self.model) if self._lists_models else NOT_REPORTED

    @property
    def identity(self) -> dict[str, Any]:
        """The model as the server names it, and how prompts are written; not the address."""
        facts = {
            "sampler": "openai",
            "mode": "token_ids" if self.renderer else "messages",
            "model": self.model,
            "served": self.served.facts,
            "choices": self.choices,
            **({"logprobs": "processed"} if self.logprobs == "processed" else {}),
            **({"extra": self.extra} if self.extra else {}),
        }
        if self.renderer is None:
            return {**facts, "actions": self.actions}
        return {**facts, **self.renderer.identity, "stop_ids": sorted(self.renderer.stop_ids)}

    @property
    def max_context(self) -> int | None:
        """Tokens of prompt and completion; None if unknown."""
        return self._max_context or self.served.max_context

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        """Whether the turn fits the context. Unknown without a tokenizer: the server refuses what is too long."""
        if self.renderer is None:
            return True
        num_tokens = len(self.renderer.prompt(turn)) + max_tokens
        return self.max_context is None or num_tokens <= self.max_context

    def sample(
        self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
    ) -> Iterator[SampleGroup]:
        """See :class:`pivotrl.protocols.Sampler`. Where the server gives no whole group, all of its completions have a
        ``fault``.

        Raises:
            InputError: the budget is spent; the server is out of order, repeats itself, or reads another prompt than
                the one it was sent.
        """
        for turn in turns:
            if not self.fits(turn, sampling.max_tokens):
                raise TurnTooLong(f"{turn.id}: the prompt and {sampling.max_tokens} new tokens exceed the context")
        questions = [self.question(turn, sampling) for turn in turns]
        found = self.asking.ask(questions, num_samples, sampling.seed, first, sampling.temperature)
        for turn, group in zip(turns, found, strict=True):
            yield self._group(turn, group, num_samples, first, sampling)
        self._tell(found)

    def question(self, turn: Turn, sampling: Sampling) -> Question:
        """What is asked at a turn, in the mode of this sampler."""
        if self.renderer is None:
            body = plain_request(self.model, sampling) | {"messages": api_messages(turn.context)}
            if turn.trajectory.tools:
                body["tools"] = [function_tool(tool) for tool in turn.trajectory.tools]
            return Question(turn.id, {**body, **self.extra}, _fault_of_message)
        renderer, prompt = self.renderer, self.renderer.prompt(turn)
        body = token_request(self.model, prompt, sampling, renderer.stop_ids)
        return Question(
            turn.id,
            {**body, **self.extra},
            lambda choice: fault_of_tokens(choice, renderer, prompt, turn.id, sampling.max_tokens),
        )

    def _group(self, turn: Turn, found: Found, num_samples: int, first: int, sampling: Sampling) -> SampleGroup:
        renderer = self.renderer
        knows_logprobs = self.logprobs == "processed" or is_plain(sampling)
        if found.fault is not None:
            completions = (_none(found.fault),) * num_samples
        elif renderer is None:
            completions = tuple(self._said(turn, choice) for choice in found.samples)
        else:
            completions = tuple(
                completion_of_tokens(choice, renderer, turn, sampling.max_tokens, knows_logprobs)
                for choice in found.samples
            )
        prompt = () if renderer is None else renderer.prompt(turn)
        return SampleGroup(
            turn_id=turn.id,
            completions_G=completions,
            first=first,
            num_prompt_tokens=len(prompt) or found.num_prompt_tokens,
            num_prefilled_tokens=len(prompt) or found.num_prompt_tokens,
            prompt_sha256=prompt_hash(prompt) if prompt else "",
            cost=found.cost,
            num_paid_tokens=found.num_paid_tokens,
        )

    def _said(self, turn: Turn, choice: Choice) -> Completion:
        """A message: calls that the server's parser found, else what ours finds in the text."""
        if choice.finish_reason == "length":
            action, error = Action(), "truncated"
        elif choice.calls:
            action, error = Action(content=(choice.text.strip() or None), tool_calls=choice.calls), None
        else:
            style = "hermes" if self.actions == "auto" else self.actions
            action, error = parse_completion(choice.text, style, tools=turn.trajectory.tools)
        return Completion(
            action=action,
            text=action_text(action) if choice.calls else choice.text,
            token_ids_T=(),
            logprobs_T=(),
            finish_reason="length" if choice.finish_reason == "length" else "stop",
            parse_error=error,
        )

    def _tell(self, found: Sequence[Found]) -> None:
        if not self._has_warned and any(group.fault for group in found):
            self._has_warned = True
            told = ", ".join(f"{reason} {number}" for reason, number in self.asking.faults.most_common())
            warnings.warn(
                f"the server gave no samples for some turns, which are left out and counted; so far: {told}",
                Notice,
                stacklevel=3,
            )


def _fault_of_message(choice: Choice) -> str | None:
    """An empty message is one only if the server counted no more than its end."""
    if choice.text.strip() or choice.calls or choice.finish_reason == "length":
        return None
    return None if choice.num_tokens is not None and choice.num_tokens <= 1 else "server_answer_empty"


def _none(fault: str) -> Completion:
    return Completion(action=Action(), text="", token_ids_T=(), logprobs_T=(), finish_reason="stop", fault=fault)


def _renderer(
    tokenizer: str, style: Any, reasoning: Any, actions: str, variables: Mapping[str, Any] | None
) -> Renderer:
    from pivotrl.engine.tokenizers import load_tokenizer  # loads transformers

    return Renderer(load_tokenizer(tokenizer), style, reasoning=reasoning, actions=actions, variables=variables)


def _checked_extra(extra: Mapping[str, Any]) -> dict[str, Any]:
    """
    Raises:
        InputError: they are not fields of a JSON object.
    """
    try:
        if not isinstance(extra, Mapping) or not all(isinstance(name, str) for name in extra):
            raise TypeError("its keys must be names")
        json.dumps(dict(extra), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"the option extra must hold fields of a request ({error}); write extra={{'user': 'me'}}"
        ) from None
    return dict(extra)
