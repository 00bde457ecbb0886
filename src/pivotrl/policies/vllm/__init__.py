"""A policy that learns here and whose samples vLLM servers draw (docs/vllm.md).

The learner is that of another policy, such as ``hf``. Before it samples, its weights go to the servers: an adapter
under a new name, or whole weights by the server's own reload. A canary then compares both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pivotrl import plugins
from pivotrl.acting import Actor, LearningActor
from pivotrl.options import AtLeast1, Positive, check_arguments
from pivotrl.plugins.describing import spec_text
from pivotrl.policies.vllm.canary import TEXT, Canary
from pivotrl.policies.vllm.drawing import Published, VersionGenerator
from pivotrl.policies.vllm.own_server import SERVED, start
from pivotrl.policies.vllm.publishing import Publisher, Replica
from pivotrl.policies.vllm.server import Server
from pivotrl.protocols import InputError, Sampler, TrainingGroup, Turn, UpdateOptions
from pivotrl.protocols.endpoint import Endpoint
from pivotrl.protocols.tokens import Generated
from pivotrl.records import Sampling
from pivotrl.samplers.openai.asking import Answers
from pivotrl.samplers.openai.models import served_model

_MEBIBYTES = 1 << 20
_NOT_IN_TEXT = ("self", "__class__", "model", "adapter")
"""Left out of the policy's spec; the command line has separate options for the last two."""
_TOLERANCE = {"float32": 1e-3}
_TOLERANCE_HALF = 0.25
"""Nats. Other weights or another template move log-probabilities far more; rounding in half precision up to a tenth."""


class Policy(LearningActor):
    """
    Args:
        base_url: of the server, up to ``/v1``; or a list, of several that share the work. It is no part of the policy's
            identity. None starts one on this machine, which ends with the policy.
        served: name under which each server serves the base model; needed with ``base_url``.
        python: interpreter of an environment with vLLM, for a server that is started here. None: the present one.
        arguments: further ones for that server: ``['--gpu-memory-utilization', '0.4']``.
        policy: whose learner it is, with its options: ``hf(lora_rank=16)``.
        model, adapter: of that policy.
        folder: where versions of the weights are written; the server must see it under the same path. None: a temporary
            folder of this machine.
        key_variable: name of the environment variable that holds the server's key.
        choices: ``n`` asks for the samples of a turn in one request; ``single`` asks for each alone with a seed.
        tolerance: how far a log-probability of the server may be from the learner's, nats. None: 0.001 for a learner in
            float32, 0.25 in bfloat16.
        importance_cap: the default of ``--importance-cap``; None: none.
        logprobs: which log-probabilities the server gives, as for the sampler ``openai``. A training at another
            temperature than 1 needs ``processed``.
        deadline_seconds, max_tries, max_in_flight: of each server, see :class:`pivotrl.protocols.endpoint.Endpoint`.

    Raises:
        InputError: an option is wrong, a server cannot be reached or serves other models, or the policy cannot be
            loaded or has no learner that scores tokens.
    """

    is_paid = True
    """Only turns that lack samples are asked for."""

    def __init__(
        self,
        *,
        base_url: str | Sequence[str] | None = None,
        served: str | None = None,
        python: str | None = None,
        arguments: Sequence[str] = (),
        policy: str = "hf",
        model: str | None = None,
        adapter: str | None = None,
        folder: str | None = None,
        key_variable: str | None = None,
        choices: Literal["n", "single"] = "n",
        tolerance: Positive | None = None,
        importance_cap: Positive | None = 5.0,
        logprobs: Literal["raw", "processed"] = "raw",
        deadline_seconds: Positive = 300.0,
        max_tries: AtLeast1 = 10,
        max_in_flight: AtLeast1 = 64,
    ) -> None:
        check_arguments(Policy, locals())
        given = {name: value for name, value in locals().items() if name not in _NOT_IN_TEXT}
        _require_place(base_url, served, python, arguments)
        self.importance_cap = importance_cap
        inner = None
        if base_url is None or served is None:
            inner = _learning(policy, {"model": model, "adapter": adapter})
            base_url, served = start(inner, python, arguments), SERVED
        endpoints = [
            Endpoint("server", url, key_variable, deadline_seconds, max_tries, max_in_flight, 64 * _MEBIBYTES)
            for url in _addresses(base_url)
        ]
        self.max_in_flight = max_in_flight * len(endpoints)
        told = [served_model(endpoint, served).max_context for endpoint in endpoints]  # before a model loads
        context = min((length for length in told if length), default=None)
        inner = inner or _learning(policy, {"model": model, "adapter": adapter})
        super().__init__(inner.renderer, _Current(self), inner.learner)
        self._inner = inner
        self.context: int = min(inner.max_context, context or inner.max_context)
        self.served_identity = inner.generator.identity
        allowed = tolerance or _TOLERANCE.get(str(inner.description.get("dtype")), _TOLERANCE_HALF)
        text = inner.renderer.encode_text(TEXT)

        def draws(answers: Answers, published: Published) -> VersionGenerator:
            return VersionGenerator(
                answers,
                self.renderer,
                published,
                identity=self.served_identity,
                max_context=self.context,
                choices=choices,
                logprobs=logprobs,
            )

        base = str(inner.description.get("model", "the model that the policy trains"))
        replicas = [
            Replica(Server(endpoint, served), Canary(self._score, allowed, self.context, [text]))
            for endpoint in endpoints
        ]
        self.publisher = Publisher(replicas, inner.export, draws, base, folder)
        self.training_identity: dict[str, Any] = inner.training_identity
        self.description = {**inner.description, "policy": spec_text("vllm", Policy, given)}

    def _score(self, prompts: Any, completions: Any) -> list[list[list[float]]]:
        learner: Any = self.learner
        scored: list[list[list[float]]] = learner.token_logprobs(prompts, completions)
        return scored

    @property
    def reference(self) -> Sampler:
        """The server while it has the reference's weights, otherwise the policy on this machine."""
        return self if self.publisher.is_untouched else self._inner.reference

    def publish(self, version: int | None = None, turns: Sequence[Turn] = ()) -> Sampler:
        """See :class:`pivotrl.protocols.PublishesVersions`."""
        prompts = [self.renderer.prompt(turn) for turn in turns[:1]]
        return Actor(self.renderer, self.publisher.publish(version, prompts))

    def update(self, groups: Sequence[TrainingGroup], learning_rate: float, options: UpdateOptions) -> dict[str, float]:
        """See :class:`pivotrl.protocols.Policy`. The metrics hold those of the last synchronisation."""
        metrics = super().update(groups, learning_rate, options)
        self.publisher.outdate()
        return metrics | self.publisher.take_metrics()

    def load(self, path: Path) -> None:
        super().load(path)
        self.publisher.outdate()

    def score_text(self, prompt: str, answer: str) -> tuple[float, float | None, int]:
        return self._inner.score_text(prompt, answer)  # type: ignore[no-any-return]


class _Current:
    """Draws from the present weights: they are published first."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @property
    def identity(self) -> Any:
        return self._policy.served_identity

    @property
    def max_context(self) -> int:
        return self._policy.context

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        keys: Sequence[str],
        num_samples: int,
        sampling: Sampling,
        stop_ids: frozenset[int],
        first: int = 0,
    ) -> Iterator[Generated]:
        draws = self._policy.publisher.publish(None, prompts)
        return draws.generate(prompts, keys, num_samples, sampling, stop_ids, first)


def _require_place(
    base_url: str | Sequence[str] | None, served: str | None, python: str | None, arguments: Sequence[str]
) -> None:
    """
    Raises:
        InputError: what was given belongs neither to servers that run nor to one that is to be started.
    """
    if (base_url is None) != (served is None):
        raise InputError(
            "vllm(...) needs base_url and served together, for servers that run; without both it starts a server of "
            "its own on this machine"
        )
    if base_url is not None and (python is not None or arguments):
        raise InputError("python and arguments are of a server that vllm(...) starts; leave them or base_url out")
    if isinstance(arguments, str) or not all(isinstance(each, str) for each in arguments):
        raise InputError(f"arguments is a list of texts, such as ['--max-model-len', '8192'], not {arguments!r:.80}")


def _addresses(given: str | Sequence[str]) -> list[str]:
    """
    Raises:
        InputError: there is none, one is no text, or one stands twice.
    """
    found = [given] if isinstance(given, str) else list(given)
    if not found or not all(isinstance(url, str) for url in found):
        raise InputError(f"base_url is the address of a server as text, or a list of them, not {given!r:.80}")
    if len({url.rstrip("/") for url in found}) < len(found):
        raise InputError(f"base_url names a server twice: {', '.join(sorted(found))}; name each once")
    return found


def _learning(spec: str, given: dict[str, str | None]) -> Any:
    """
    Raises:
        InputError: the policy cannot be loaded, or it has no learner that scores tokens.
    """
    if plugins.parse_spec(spec)[0] == "vllm":
        raise InputError("the policy of vllm(...) cannot be vllm again; name the one that learns, such as hf")
    inner = plugins.load("policies", spec, **{name: value for name, value in given.items() if value is not None})
    if not isinstance(inner, LearningActor) or not hasattr(inner.learner, "token_logprobs"):
        raise InputError(
            f"{spec} cannot learn from a server's samples: it has no renderer with a learner that scores tokens "
            "(token_logprobs); give hf, or see docs/plugins.md"
        )
    return inner
