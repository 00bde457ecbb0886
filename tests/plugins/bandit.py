"""A policy without a network: at each prompt it learns which of a few texts is right (a contextual bandit).

``LearningActor`` makes a policy of a renderer, a generator and a learner. Here one object is both of the latter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from pivotrl import InputError
from pivotrl.acting import Actor, LearningActor
from pivotrl.protocols import ObjectiveName, UpdateOptions
from pivotrl.protocols.tokens import Drawn, Example, Generated
from pivotrl.records import Sampling
from pivotrl.rendering import Renderer, prompt_hash
from pivotrl.seeding import uniforms


class Bandit:
    """A softmax over the menu at each prompt. The log-probability of a text is on its first token."""

    def __init__(self, menu: Sequence[tuple[int, ...]], max_context: int) -> None:
        self.identity, self.max_context = {"generator": "bandit", "menu": [list(ids) for ids in menu]}, max_context
        self._menu, self._scores = list(menu), dict[str, list[float]]()

    def _logprobs(self, prompt: Sequence[int], temperature: float = 1.0) -> Any:
        scores = np.array(self._scores.get(prompt_hash(prompt), [0.0] * len(self._menu))) / max(temperature, 1e-3)
        return scores - np.logaddexp.reduce(scores)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[str],
        num_samples: int,
        sampling: Sampling,
        stop_ids: frozenset[int],
        first: int = 0,
    ) -> Iterator[Generated]:
        for prompt, key in zip(prompts, keys, strict=True):
            logprobs, drawn = self._logprobs(prompt, sampling.temperature), []
            for number in range(first, first + num_samples):
                uniform = uniforms(sampling.seed, key, number, 1)[0]
                chosen = min(int(np.searchsorted(np.exp(logprobs).cumsum(), uniform)), len(self._menu) - 1)
                ids = self._menu[chosen][: sampling.max_tokens]
                drawn.append(Drawn(ids, [float(logprobs[chosen])] + [0.0] * (len(ids) - 1), ids[-1] in stop_ids))
            yield Generated(drawn, len(prompt))

    def update(self, examples: Sequence[Example], learning_rate: float, options: UpdateOptions) -> dict[str, float]:
        loss = 0.0
        for example in examples:
            logprobs = self._logprobs(example.prompt, options.temperature)
            gradient = np.zeros(len(self._menu))
            for drawn, advantage, weight in zip(
                example.completions_G, example.advantages_G, example.weights_G, strict=True
            ):
                if tuple(drawn.token_ids_T) not in self._menu:
                    raise InputError("the bandit cannot learn a text that is not on its menu; add it to texts=(...)")
                chosen = self._menu.index(tuple(drawn.token_ids_T))
                loss -= advantage * weight * logprobs[chosen]
                gradient += advantage * weight * (np.eye(len(self._menu))[chosen] - np.exp(logprobs))
            self._scores[prompt_hash(example.prompt)] = list(logprobs + learning_rate * gradient)
        return {"loss/total": float(loss), "update/learning_rate": learning_rate, "update/skipped": 0.0}

    def default_learning_rate(self, objective: ObjectiveName) -> float:
        return 20.0

    def score(self, prompt: Sequence[int], answer: Sequence[int]) -> tuple[float, float | None]:
        logprobs = self._logprobs(prompt)
        return (
            (-float(logprobs[self._menu.index(tuple(answer))]), None) if tuple(answer) in self._menu else (99.0, None)
        )

    def save(self, path: Path) -> None:
        path.mkdir(parents=True)
        (path / "scores.json").write_text(json.dumps(self._scores))

    def load(self, path: Path) -> None:
        self._scores = json.loads((path / "scores.json").read_text())

    export = save


class Policy(LearningActor):
    """
    Args:
        tokenizer: a folder, or a name on the Hugging Face Hub.
        texts: what it may say.
    """

    def __init__(self, *, tokenizer: str, texts: tuple[str, ...] = ("yes", "no"), max_context: int = 4096) -> None:
        renderer = Renderer(AutoTokenizer.from_pretrained(tokenizer))
        menu = [(*renderer.encode_text(text), renderer.end_id) for text in texts]
        bandit = Bandit(menu, max_context)
        super().__init__(renderer, bandit, bandit)
        self.reference = Actor(renderer, Bandit(menu, max_context))
        self.training_identity: dict[str, Any] = {}

    def score_text(self, prompt: str, answer: str) -> tuple[float, float | None, int]:
        ids = [*self.renderer.encode_text(answer), self.renderer.end_id]
        return *self.learner.score(self.renderer.encode_text(prompt), ids), len(ids)
