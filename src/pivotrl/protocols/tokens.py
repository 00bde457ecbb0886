"""Token ids in, token ids out: the two seats behind a policy.

A generator draws completions; a learner changes weights. Neither knows turns, messages or chat templates, which
:mod:`pivotrl.acting` adds with a renderer. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pivotrl.protocols import ObjectiveName, UpdateOptions
from pivotrl.records import Sampling


@dataclass(frozen=True)
class Drawn:
    """One sampled completion. Log-probabilities are natural logs under the sampling distribution; NaN if unknown."""

    token_ids_T: Sequence[int]
    logprobs_T: Sequence[float]
    stopped: bool
    """Whether the last token is a stop token; if not, the completion reached the token limit."""


@dataclass(frozen=True)
class Generated:
    """The completions that a generator drew for one prompt."""

    completions_G: Sequence[Drawn]
    num_prefilled_tokens: int = 0
    """Prompt tokens computed for it; tokens shared with an earlier prompt of the call count for that one."""
    fault: str | None = None
    """Why there are no completions, such as ``server_refused``; None where there are."""
    version: int | None = None
    """Of the weights that drew them, see :attr:`pivotrl.records.SampleGroup.version`."""


class Generator(Protocol):
    """Draws completions: a model on this machine, or a client of a server."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """JSON facts that determine the samples, such as hashes of the weights and the dtype."""
        ...

    @property
    def max_context(self) -> int:
        """Tokens of prompt and completion together that the model can see."""
        ...

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[str],
        num_samples: int,
        sampling: Sampling,
        stop_ids: frozenset[int],
        first: int = 0,
    ) -> Iterator[Generated]:
        """One :class:`Generated` per prompt, in order, with ``num_samples`` completions each.

        Args:
            prompts: token ids, at least one each. The caller has checked that each fits with ``sampling.max_tokens``.
            keys: identifies each prompt, such as a turn's id.
            stop_ids: tokens that end a completion. The stop token is the last of its token ids.
            first: number of the first sample. (seed, key, sample number) determine a sample's random numbers
                (:func:`pivotrl.seeding.uniforms`), so ``first=4`` gives samples 4, 5, ... of a larger draw, and samples
                do not depend on order or batch size.
        """
        ...


@dataclass(frozen=True)
class Example:
    """A prompt and completions to learn from, each with an advantage and a weight.

    Weights hold the denominators of the whole batch (:func:`token_weights`), so a batch may be cut anywhere, even
    within an example: the gradients of the parts sum to the gradient of the whole.
    """

    prompt: Sequence[int]
    completions_G: Sequence[Drawn]
    advantages_G: Sequence[float]
    weights_G: Sequence[float]
    """Weight of each token of a completion."""
    key: str = ""
    """Names the prompt, as a turn's id does: keys that agree before their last ``#`` are of one trajectory."""


def token_weights(lengths_N: Sequence[int], level: Literal["token", "sequence"]) -> list[float]:
    """Weight of each token of N completions, by completion. The weights of all tokens sum to 1.

    Args:
        lengths_N: tokens of every completion of the whole batch, not of a part of it.
        level: ``token``: all tokens have equal weight; ``sequence``: all completions have equal weight.
    """
    if level == "token":
        return [1.0 / sum(lengths_N)] * len(lengths_N)
    return [1.0 / (len(lengths_N) * length) for length in lengths_N]


class Learner(Protocol):
    """Trains weights and keeps the original ones as a frozen reference.

    It may have ``token_logprobs(prompts, completions_G) -> [prompt][completion][token]``: the log-probability of every
    token of given completions, at temperature 1. Without it a policy cannot score actions. ``token_entropies`` has the
    same shape; without it `pivotrl view` shows no entropies.
    """

    def update(self, examples: Sequence[Example], learning_rate: float, options: UpdateOptions) -> dict[str, float]:
        """One batch, ``options.num_epochs`` optimizer steps. See :meth:`pivotrl.protocols.Policy.update`."""
        ...

    def default_learning_rate(self, objective: ObjectiveName) -> float: ...

    def score(self, prompt: Sequence[int], answer: Sequence[int]) -> tuple[float, float | None]:
        """(mean NLL per answer token, mean KL to the reference or None), teacher-forced, in nats."""
        ...

    def save(self, path: Path) -> None:
        """Write weights and optimizer state so that :meth:`load` continues bit for bit."""
        ...

    def load(self, path: Path) -> None: ...

    def export(self, path: Path) -> None:
        """Write what other tools load."""
        ...
