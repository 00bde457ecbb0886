"""Any causal language model of transformers as a policy, fully fine-tuned or with LoRA.

This file only assembles the parts: turns to token ids and back (:mod:`pivotrl.acting`), sampling
(:mod:`pivotrl.engine.generation`), learning (:mod:`pivotrl.engine.learning`), the reference policy
(:mod:`pivotrl.engine.weights`) and exports (:mod:`pivotrl.engine.policy_folder`).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from pivotrl.acting import Actor, LearningActor
from pivotrl.engine.adapter_files import read_adapter
from pivotrl.engine.adapters import merge_adapter
from pivotrl.engine.distributed.launch import own_device
from pivotrl.engine.distributed.spreading import apart, begin, join, lead
from pivotrl.engine.distributed.tensor_parallel import PartLearner, in_step, load_whole, require_plain
from pivotrl.engine.executors import ExecutorName
from pivotrl.engine.executors.choosing import choose_sampler
from pivotrl.engine.generation import LocalGenerator
from pivotrl.engine.learning import LocalLearner
from pivotrl.engine.limits import max_context, stop_ids
from pivotrl.engine.loading import Dtype, load_model, load_part, refusing, resolve_device, resolve_dtype
from pivotrl.engine.low_rank import LowRank
from pivotrl.engine.policy_folder import write_policy
from pivotrl.engine.policy_readme import Origin, Prompts
from pivotrl.engine.products import Products, resolve_products
from pivotrl.engine.texts import scored_ids
from pivotrl.engine.weights import Weights
from pivotrl.options import AtLeast0, AtLeast1, Seed, check_arguments
from pivotrl.plugins.describing import spec_text
from pivotrl.rendering import DATE, Renderer

_NOT_IN_TEXT = ("self", "__class__", "model", "adapter")
"""Left out of the policy's spec; the command line has separate options for the last two."""
_IMPORTANCE_CAP = 2.0
"""Of samples from rounded weights, where the user gives none."""


class Policy(LearningActor):
    """Samples and trains on prefix forests: a prefix that the prompts of a call share is computed once.

    Args:
        model: a Hugging Face id, a folder, or ``smollm2-135m-instruct``.
        adapter: folder of a LoRA adapter to merge into the weights first, see
            :func:`pivotrl.engine.adapters.merge_adapter`; the result is the reference policy.
        lora_rank: rank of the trained LoRA adapter; 0 trains the weights themselves and keeps a frozen copy as the
            reference.
        frozen_layers: number of lowest layers to freeze, together with the embeddings.
        train_router: False: in a mixture of experts, what chooses the experts is not trained.
        dtype: ``auto`` is fp32 on the CPU and bf16 on CUDA.
        device: ``auto`` is CUDA if available.
        style, reasoning, actions, variables: how turns are written, see :class:`pivotrl.rendering.Renderer`.
        batch_rows: samples that decode together. None: 64 on the CPU; on CUDA up to 512, as memory allows.
        pass_tokens: tokens of a training pass whose activations are kept at once; more are processed in chunks. None:
            what fits, see :mod:`pivotrl.engine.memory`.
        executor: how common prefixes are shared (docs/engine.md); ``auto`` takes the fastest way that reproduces this
            model's own numbers.
        products: how sampling on the CPU multiplies (docs/engine.md). ``plain``: PyTorch's own products. ``packed``:
            oneDNN's, with the same numbers up to rounding. ``auto``: ``packed`` where it is much faster, otherwise
            ``plain``. ``bfloat16``: weights and inputs of the layers below the output are rounded to bf16; the samples
            then carry that in their identity, and updates weigh them with ``importance_cap`` 2 unless another is given.
        trainable: False keeps no optimizer and no adapter (a frozen reference).
        seed: seed of the adapter's initialisation.
        compute_dtype: with several processes (docs/scale.md): dtype of passes and samples; weights, gradients and
            moments keep ``dtype``. ``auto`` is the same.
        offload: with several processes: keep weights, gradients and moments in the CPU's memory, and only what
            computes on the GPU.
        parallel: with several processes: ``shards`` deals the work to them (FSDP). ``tensor`` cuts every layer, by the
            plan of transformers; for full fine-tuning of a model that is too large for one GPU.
        export: what :meth:`export` writes. ``adapter``: with LoRA, one adapter if it can hold everything that was
            trained (including ``adapter``), otherwise the whole weights. ``merged``: always the whole weights.

    Raises:
        InputError: an option is out of range, or the model or adapter cannot be loaded.
    """

    learner: LocalLearner
    importance_cap: float | None = None
    """The cap of truncated importance weights if the training is given none."""
    seeds_adapter = True
    """The option ``seed`` changes how the adapter starts, but not the reference policy."""

    def __init__(
        self,
        *,
        model: str = "smollm2-135m-instruct",
        adapter: str | None = None,
        lora_rank: AtLeast0 = 16,
        lora_alpha: AtLeast1 = 32,
        frozen_layers: AtLeast0 = 0,
        train_router: bool = True,
        dtype: Dtype = "auto",
        device: str = "auto",
        style: Literal["auto", "chatml", "template"] = "auto",
        reasoning: Literal["template", "keep", "strip"] = "template",
        actions: str = "auto",
        variables: Mapping[str, Any] | None = None,
        batch_rows: AtLeast1 | None = None,
        pass_tokens: AtLeast1 | None = None,
        executor: ExecutorName = "auto",
        products: Products = "auto",
        trainable: bool = True,
        seed: Seed = 0,
        compute_dtype: Dtype = "auto",
        offload: bool = False,
        parallel: Literal["shards", "tensor"] = "shards",
        export: Literal["adapter", "merged"] = "adapter",
    ) -> None:
        check_arguments(Policy, locals())
        given = {name: value for name, value in locals().items() if name not in _NOT_IN_TEXT}
        if parallel == "tensor":
            require_plain(lora_rank=lora_rank, adapter=adapter, compute_dtype=compute_dtype, offload=offload)
        crew = begin(
            "hf",
            {**given, "model": model, "adapter": adapter},
            only_spread={"compute_dtype": "auto", "offload": False, "parallel": "shards"},
            only_alone={"products": ("auto", "plain")},
        )
        make_weights = functools.partial(
            Weights,
            trainable=trainable,
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            frozen_layers=frozen_layers,
            seed=seed,
            train_router=train_router,
        )
        in_parts = None if crew is None or parallel == "shards" else crew
        if crew is not None and crew.rank > 0 and in_parts is None:  # it only does its share of the leader's work
            join(crew, model, device, dtype, make_weights, compute_dtype, offload)
            return
        with apart(crew):
            merged_first = read_adapter(Path(adapter)) if adapter is not None else None  # models load slowly
            self.device = resolve_device(own_device(device))
            numbers = resolve_dtype(dtype, self.device)
            num_parts = 1 if in_parts is None else in_parts.size
            loaded, tokenizer, facts = load_model(model, self.device, numbers, num_parts)
            context = max_context(loaded.config, tokenizer)
            ends = stop_ids(loaded, tokenizer)
            renderer = Renderer(
                tokenizer, style, reasoning=reasoning, actions=actions, variables=variables, stop_ids=ends
            )
            origin = Origin.of(loaded, model, facts, adapter, _prompts(renderer, reasoning, variables or {}))
            # What was added to the plain weights; None if more than that was done.
            merged: dict[str, LowRank] | None = {}
            if merged_first is not None:
                loaded, merged = merge_adapter(loaded, merged_first)
                facts = {**facts, "adapter": merged_first.sha256}
            write = functools.partial(
                write_policy, tokenizer=tokenizer, origin=origin, merged=merged if export == "adapter" else None
            )
            with refusing(f"cannot train the model {model!r} of type {loaded.config.model_type!r}"):
                if in_parts is None:
                    weights = make_weights(loaded)
                    learner = LocalLearner(weights, executor, pass_tokens, write)
                else:
                    weights = make_weights(loaded, copied=lambda one: load_part(one, numbers, num_parts))
                    whole = functools.partial(load_whole, model, numbers)
                    learner = PartLearner(in_parts, weights, executor, pass_tokens, write, whole)
                way = choose_sampler(learner.executor.name, weights.model)
        self.model = weights.model
        computes_in = self.model.dtype if compute_dtype == "auto" else resolve_dtype(compute_dtype, self.device)
        facts = {**facts, "dtype": str(computes_in)}
        chosen = resolve_products(products if crew is None else "plain", self.model)
        if chosen == "bfloat16":  # the others differ by rounding only
            facts["products"] = chosen
            self.importance_cap = _IMPORTANCE_CAP
        generator: Any = LocalGenerator(
            weights.folded,
            self.model,
            identity=facts,
            max_context=context,
            way=way,
            batch_rows=batch_rows,
            products=chosen,
        )
        reference: Any = generator.drawing_from(weights.reference)
        if in_parts is not None:
            assert isinstance(learner, PartLearner)
            learner, generator, reference = in_step(in_parts, learner, generator, reference)
        elif crew is not None:
            other_dtype = None if computes_in == self.model.dtype else computes_in
            learner, generator, reference = lead(crew, learner, generator, other_dtype, offload)
        self.weights = learner.weights
        super().__init__(renderer, generator, learner)
        # The reference policy acts in the same way, with the frozen weights of the KL term.
        self.reference = Actor(renderer, reference)
        self.training_identity: dict[str, Any] = (
            {"lora_rank": lora_rank, "lora_alpha": lora_alpha, "frozen_layers": frozen_layers, "seed": seed}
            if lora_rank > 0
            else {"lora_rank": 0, "frozen_layers": frozen_layers}
        )
        if not train_router:
            self.training_identity["train_router"] = False
        self.description = {
            "policy": spec_text("hf", Policy, given),
            "model": model,
            "adapter": adapter,
            "dtype": str(computes_in).removeprefix("torch."),
            "device": str(self.device),
        }

    def score_text(self, prompt: str, answer: str) -> tuple[float, float | None, int]:
        """See :class:`pivotrl.protocols.Policy`; :func:`pivotrl.engine.texts.scored_ids` chooses the scored tokens.

        Raises:
            InputError: no token of the answer can be scored, or the text is longer than the model's context.
        """
        encode = self.renderer.encode_text
        before, scored = scored_ids(self.renderer.tokenizer, encode, prompt, answer, self.max_context)
        logprobs_SV = self._all_logprobs(before, scored)
        return *self.learner.score(before, scored, logprobs_SV), len(scored)

    def _all_logprobs(self, before: Sequence[int], scored: Sequence[int]) -> torch.Tensor:
        """What is scored goes through here, so that a check can watch it."""
        return self.learner.logprobs(before, scored)


def _prompts(renderer: Renderer, reasoning: str, variables: Mapping[str, Any]) -> Prompts:
    """How to prompt the policy, for the README of its export."""
    asks_date = renderer.style == "template" and "strftime_now" in str(renderer.tokenizer.chat_template)
    date = DATE.isoformat() if asks_date else None
    ends = tuple(sorted(renderer.stop_ids))
    return Prompts(renderer.style, reasoning, variables, ends, date, renderer.tools_in_chatml)
