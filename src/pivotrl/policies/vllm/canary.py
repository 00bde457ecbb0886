"""The canary: samples of the server whose log-probabilities must be those of the learner.

It goes the way of all samples, prefix cache included, so that it notices weights that did not arrive, a cache that
outlived them, another base model, and another precision.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pivotrl.protocols import InputError
from pivotrl.samplers.openai.answers import Choice

NUM_SAMPLES, NUM_TOKENS, SEED = 4, 8, 20_250_701
"""Of each prompt. The seed is always the same: stale weights then repeat their samples."""
TEXT = (
    "The keeper of the lighthouse kept a canary, and every morning he wrote in his log what it sang. On Monday the sea "
    "was grey, two boats came in from the north, and the bird was silent until noon. On Tuesday a letter arrived with "
    "the price of oil, the number of wicks in store, and a question about the lamp, which he answered at once. On "
    "Wednesday he counted forty-one gulls, mended the stair, and baked bread. On Thursday there was fog; the horn "
    "sounded every ninety seconds, and nobody slept. On Friday an engineer came to look at the lens. She asked how old "
    "it was, who had ground it, and whether it had ever been moved. He showed her the log. On Saturday they"
)
"""Longer than a block of any prefix cache. What comes next is open, so that small changes of the weights show."""
_CLEAR = 5.0
"""How many times the rounding between both engines a step must move log-probabilities to tell two versions apart."""

Score = Callable[[Sequence[Sequence[int]], Sequence[Sequence[Sequence[int]]]], list[list[list[float]]]]
"""prompts, completions [prompt][sample][token] -> the learner's log-probabilities in the same shape"""
Ask = Callable[[Sequence[int]], Sequence[Choice]]
"""prompt -> ``NUM_SAMPLES`` samples of at most ``NUM_TOKENS`` tokens, from the server, at temperature 1"""


@dataclass
class Canary:
    """
    Args:
        score: under the present weights of the learner, at temperature 1.
        tolerance: largest difference of a log-probability, nats.
        max_context: tokens of prompt and sample.
        prompts: token ids; the first is our own text.
    """

    score: Score
    tolerance: float
    max_context: int
    prompts: list[Sequence[int]]
    _known: dict[tuple[int, tuple[int, ...]], Sequence[float]] = field(default_factory=dict)
    """(prompt, sample) -> the learner's log-probabilities when it was checked last."""
    _rounding: float | None = None
    """The largest difference of the first check."""

    def add(self, prompt: Sequence[int]) -> None:
        """Also ask at a prompt of the training: the first one that is given."""
        if len(self.prompts) == 1 and len(prompt) + NUM_TOKENS <= self.max_context:
            self.prompts.append(prompt)

    def check(self, ask: Ask, where: str, base: str) -> float:
        """
        Args:
            where: of the message: "version 3 at http://...".
            base: what the server should serve, for the remedy.

        Returns:
            the largest difference, nats.

        Raises:
            InputError: it exceeds the tolerance, or the samples are those of the version before.
        """
        prompts = [list(prompt)[: self.max_context - NUM_TOKENS] for prompt in self.prompts]
        answers = [list(ask(prompt)) for prompt in prompts]
        told = [[_logprobs(choice, where) for choice in answer] for answer in answers]
        samples = [[choice.token_ids_T or () for choice in answer] for answer in answers]
        ours = self.score(prompts, samples)
        keys = [(place, tuple(ids)) for place, row in enumerate(samples) for ids in row]
        theirs_N = [values for row in told for values in row]
        ours_N = [values for row in ours for values in row]
        gaps = list(_gaps(zip(theirs_N, ours_N, strict=True)))
        gap, mean = max(gaps), statistics.fmean(gaps)
        repeated = [
            (theirs, mine, self._known[key])
            for key, theirs, mine in zip(keys, theirs_N, ours_N, strict=True)
            if key in self._known
        ]
        now = _furthest((theirs, mine) for theirs, mine, _ in repeated)
        before = _furthest((theirs, old) for theirs, _, old in repeated)
        moved = _furthest((mine, old) for _, mine, old in repeated)
        is_stale = bool(repeated) and before < now and moved > _CLEAR * max(self._rounding or 0.0, 1e-6)
        if not all(one <= self.tolerance for one in gaps) or is_stale:  # NaN is no agreement
            raise InputError(self._complaint(where, base, gap, mean, len(gaps), before if is_stale else None))
        self._known = dict(zip(keys, ours_N, strict=True))
        self._rounding = gap if self._rounding is None else self._rounding
        return gap

    def _complaint(self, where: str, base: str, gap: float, mean: float, count: int, before: float | None) -> str:
        told = (
            f"the canary of {where}: server and learner differ by up to {gap:.3g} nats in the log-probability of a "
            f"token, {mean:.3g} on average over {count} tokens; {self.tolerance:g} are allowed"
        )
        if before is not None:
            return (
                f"{told}. From the version before they differ by {before:.3g} at most: the server still acts with the "
                "old weights, or reads them from its prefix cache. Restart it, and repeat the command; what was "
                "sampled is kept"
            )
        if self._rounding is None:
            return (
                f"{told}. Serve {base}, in the precision of the learner (vLLM: --dtype float32 for a learner in "
                "float32); or allow more with the option tolerance"
            )
        return (
            f"{told}; the first version differed by {self._rounding:.3g}. The server does not act with the weights "
            "that it was given; docs/vllm.md names a case. Restart it, and repeat the command; what was sampled is kept"
        )


_Pairs = Iterable[tuple[Sequence[float], Sequence[float]]]


def _gaps(pairs: _Pairs) -> Iterator[float]:
    for one, other in pairs:
        yield from (abs(a - b) for a, b in zip(one, other, strict=True))


def _furthest(pairs: _Pairs) -> float:
    return max(_gaps(pairs), default=0.0)


def _logprobs(choice: Choice, where: str) -> Sequence[float]:
    """
    Raises:
        InputError: the server does not give one log-probability for each token.
    """
    values, ids = choice.logprobs_T, choice.token_ids_T
    if not ids or values is None or len(values) != len(ids) or any(value != value for value in values):
        raise InputError(
            f"the canary of {where}: the server gives no log-probability for each token of a sample, without which "
            "nobody knows its weights; use vLLM 0.10 or newer (`pivotrl check-server` shows what is missing)"
        )
    return values
