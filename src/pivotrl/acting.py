"""A renderer and a generator make a sampler: they turn turns into token ids, and drawn token ids into actions. A
learner makes it a policy.

This code is the same for every generator and learner, on this machine or on a server.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pivotrl.protocols import NotRenderable, ObjectiveName, TrainingGroup, Turn, TurnTooLong, UpdateOptions
from pivotrl.protocols.tokens import Drawn, Example, Generated, Generator, Learner, token_weights
from pivotrl.records import Action, Completion, SampleGroup, Sampling
from pivotrl.rendering import Renderer, prompt_hash


class Actor:
    """Acts at turns; a :class:`pivotrl.protocols.Sampler`."""

    def __init__(self, renderer: Renderer, generator: Generator) -> None:
        self.renderer, self.generator = renderer, generator

    @property
    def identity(self) -> dict[str, Any]:
        """Identifies the weights, how turns are written, and what ends an answer."""
        return {
            **self.generator.identity,
            **self.renderer.identity,
            "stop_ids": sorted(self.renderer.stop_ids),
        }

    @property
    def max_context(self) -> int:
        """Tokens of prompt and completion together."""
        return self.generator.max_context

    def keeping(self) -> contextlib.AbstractContextManager[None]:
        """See :class:`pivotrl.protocols.Sampler`; a generator may do without."""
        keep: Any = getattr(self.generator, "keeping", contextlib.nullcontext)
        return keep()  # type: ignore[no-any-return]

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        return len(self.renderer.prompt(turn)) + max_tokens <= self.max_context

    def sample(
        self, turns: Sequence[Turn], num_samples: int, sampling: Sampling, first: int = 0
    ) -> Iterator[SampleGroup]:
        """See :class:`pivotrl.protocols.Sampler`. A sample that reaches the token limit has no action and the parse
        error ``truncated``."""
        prompts = [self.renderer.prompt(turn) for turn in turns]
        for turn, prompt in zip(turns, prompts, strict=True):
            if len(prompt) + sampling.max_tokens > self.max_context:
                raise TurnTooLong(
                    f"{turn.id}: {len(prompt)} prompt tokens plus {sampling.max_tokens} new ones exceed the model's "
                    f"context of {self.max_context}"
                )
        keys, stop_ids = [turn.id for turn in turns], self.renderer.stop_ids
        generated = self.generator.generate(prompts, keys, num_samples, sampling, stop_ids, first)
        for turn, prompt, group in zip(turns, prompts, generated, strict=True):
            yield SampleGroup(
                turn_id=turn.id,
                completions_G=self._completions(turn, group, num_samples),
                first=first,
                num_prompt_tokens=len(prompt),
                num_prefilled_tokens=group.num_prefilled_tokens,
                prompt_sha256=prompt_hash(prompt),
                version=group.version,
            )

    def _completions(self, turn: Turn, group: Generated, num_samples: int) -> tuple[Completion, ...]:
        if group.fault is None:
            return tuple(self._completion(turn, drawn) for drawn in group.completions_G)
        none = Completion(
            action=Action(), text="", token_ids_T=(), logprobs_T=(), finish_reason="stop", fault=group.fault
        )
        return (none,) * num_samples

    def _completion(self, turn: Turn, drawn: Drawn) -> Completion:
        text = self.renderer.decode(drawn.token_ids_T)
        action, error = self.renderer.parse(text, turn) if drawn.stopped else (Action(), "truncated")
        return Completion(
            action=action,
            text=text,
            token_ids_T=tuple(drawn.token_ids_T),
            logprobs_T=tuple(drawn.logprobs_T),
            finish_reason="stop" if drawn.stopped else "length",
            parse_error=error,
        )

    def encode_action(self, turn: Turn, action: Action) -> Completion:
        """See :class:`pivotrl.protocols.Policy`.

        Raises:
            NotRenderable: see :meth:`pivotrl.rendering.Renderer.encode_action`; or the turn with the action and its
                thought is longer than the model's context.
        """
        token_ids = self.renderer.encode_action(action, turn)
        num_tokens = len(self.renderer.prompt(turn)) + len(token_ids)
        if num_tokens > self.max_context:
            raise NotRenderable(f"{num_tokens} tokens with the action exceed the model's context of {self.max_context}")
        return Completion(
            action=action,
            text=self.renderer.decode(token_ids),
            token_ids_T=tuple(token_ids),
            logprobs_T=(0.0,) * len(token_ids),
            finish_reason="stop",
        )


class LearningActor(Actor):
    """An actor with a learner: a :class:`pivotrl.protocols.Policy` without the reference, the scoring of plain texts
    and the description."""

    def __init__(self, renderer: Renderer, generator: Generator, learner: Learner) -> None:
        super().__init__(renderer, generator)
        self.learner = learner

    def update(self, groups: Sequence[TrainingGroup], learning_rate: float, options: UpdateOptions) -> dict[str, float]:
        """See :class:`pivotrl.protocols.Policy`.

        Raises:
            InputError: the step made weights or logits that are not finite.
            ValueError: a group was sampled from a different rendering of its turn.
        """
        return self.learner.update(self.examples(groups, options.loss_level), learning_rate, options)

    def action_logprobs(self, turns: Sequence[Turn], groups: Sequence[SampleGroup]) -> list[list[list[float]]]:
        """See :class:`pivotrl.protocols.ScoresActions`; the learner must have ``token_logprobs``.

        Raises:
            ValueError: a group was sampled from a different rendering of its turn.
        """
        return self._by_token("token_logprobs", turns, groups)

    def action_entropies(self, turns: Sequence[Turn], groups: Sequence[SampleGroup]) -> list[list[list[float]]]:
        """Entropy, in nats, of the distribution that each token was chosen from, at temperature 1; shaped as
        :meth:`action_logprobs`. The learner must have ``token_entropies``.

        Raises:
            ValueError: a group was sampled from a different rendering of its turn.
        """
        return self._by_token("token_entropies", turns, groups)

    def _by_token(self, question: str, turns: Sequence[Turn], groups: Sequence[SampleGroup]) -> list[list[list[float]]]:
        found: list[list[list[float]]] = getattr(self.learner, question)(
            [self._prompt(turn, group.prompt_sha256) for turn, group in zip(turns, groups, strict=True)],
            [[completion.token_ids_T for completion in group.completions_G] for group in groups],
        )
        return found

    def default_learning_rate(self, objective: ObjectiveName) -> float:
        return self.learner.default_learning_rate(objective)

    def save(self, path: Path) -> None:
        self.learner.save(path)

    def load(self, path: Path) -> None:
        self.learner.load(path)

    def export(self, path: Path) -> None:
        self.learner.export(path)

    def examples(self, groups: Sequence[TrainingGroup], level: Literal["token", "sequence"]) -> list[Example]:
        """The input of a learner: the groups of a whole batch as token ids, weighted over all of them.

        Raises:
            ValueError: a group was sampled from a different rendering of its turn.
        """
        lengths = [len(completion.token_ids_T) for group in groups for completion in group.completions_G]
        weights = iter(token_weights(lengths, level))
        return [
            Example(
                self._prompt(group.turn, group.prompt_sha256),
                [Drawn(c.token_ids_T, c.logprobs_T, c.finish_reason == "stop") for c in group.completions_G],
                group.advantages_G,
                list(itertools.islice(weights, len(group.completions_G))),
                group.turn.id,
            )
            for group in groups
        ]

    def _prompt(self, turn: Turn, prompt_sha256: str) -> tuple[int, ...]:
        prompt = self.renderer.prompt(turn)
        if prompt_sha256 and prompt_sha256 != prompt_hash(prompt):
            raise ValueError(f"{turn.id} was sampled from a different rendering than the one used now")
        return prompt
