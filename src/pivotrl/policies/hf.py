"""Any causal language model of transformers as a policy, fully fine-tuned or with LoRA."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, get_peft_model
from transformers.pytorch_utils import Conv1D

from pivotrl.engine.adapter_files import read_adapter
from pivotrl.engine.adapters import merge_adapter, quiet
from pivotrl.engine.checkpoint import load_checkpoint, save_checkpoint
from pivotrl.engine.episode_trunks import EpisodeTrunks
from pivotrl.engine.executors import Executor, ExecutorName, make_executor
from pivotrl.engine.executors.choosing import choose_sampler, why_not
from pivotrl.engine.finite import optimizer_step, require_finite
from pivotrl.engine.limits import max_context, stop_ids
from pivotrl.engine.loading import Dtype, load_model, refusing, resolve_device, resolve_dtype
from pivotrl.engine.lora import FoldedAdapter
from pivotrl.engine.low_rank import LowRank
from pivotrl.engine.memory import rows_that_fit, trunk_bytes
from pivotrl.engine.objective import Batch, Objective
from pivotrl.engine.policy_folder import write_policy
from pivotrl.engine.policy_readme import Origin, Prompts
from pivotrl.engine.sampling import Drawn, draw, num_prefilled
from pivotrl.engine.texts import first_ids
from pivotrl.engine.trainable import Trainable
from pivotrl.options import AtLeast0, AtLeast1, Seed, check_arguments
from pivotrl.plugins import spec_text
from pivotrl.protocols import InputError, NotRenderable, ObjectiveName, TrainingGroup, Turn, TurnTooLong, UpdateOptions
from pivotrl.records import Action, Completion, SampleGroup, Sampling
from pivotrl.rendering import DATE, Renderer, prompt_hash

_LEARNING_RATES: dict[tuple[bool, ObjectiveName], float] = {
    (True, "policy_gradient"): 5e-5,
    (True, "likelihood"): 2e-4,
    (False, "policy_gradient"): 1e-6,
    (False, "likelihood"): 1e-5,
}
"""By whether an adapter is trained, and the objective (docs/method.md says where they come from)."""


class Policy:
    """Samples and trains on prefix forests: what the prompts of a call have in common is computed once.

    Args:
        model: a Hugging Face id, a folder, or ``smollm2-135m-instruct``.
        adapter: folder of a LoRA adapter that is merged into the weights first, see
            :func:`pivotrl.engine.adapters.merge_adapter`; the result is the reference policy.
        lora_rank: rank of the LoRA adapter that is trained; 0 trains the weights themselves and keeps a frozen copy
            of them as the reference.
        frozen_layers: so many of the lowest layers (and the embeddings) are not trained.
        dtype: ``auto`` is fp32 on the CPU and bf16 on CUDA.
        device: ``auto`` is CUDA where there is one.
        style, reasoning, actions, variables: how turns are written, see :class:`pivotrl.rendering.Renderer`.
        batch_rows: samples that decode together. None: 64 on the CPU, and what fits of 512 on CUDA.
        pass_tokens: tokens of a training pass whose activations are kept at once; more go through in chunks. None:
            what fits, see :mod:`pivotrl.engine.memory`.
        executor: how common prefixes are shared (docs/engine.md); ``auto`` takes the fastest way that gives this
            model's own numbers.
        trainable: False keeps no optimizer and no adapter (a frozen reference).
        seed: of the adapter's initialisation.
        export: what :meth:`export` writes: ``adapter``, with LoRA an adapter where one can hold all that was trained
            (``adapter`` included), else the whole weights; or always the whole weights, ``merged``.

    Raises:
        InputError: an option is out of its range, or the model or adapter cannot be loaded.
    """

    def __init__(
        self,
        *,
        model: str = "smollm2-135m-instruct",
        adapter: str | None = None,
        lora_rank: AtLeast0 = 16,
        lora_alpha: AtLeast1 = 32,
        frozen_layers: AtLeast0 = 0,
        dtype: Dtype = "auto",
        device: str = "auto",
        style: Literal["auto", "chatml", "template"] = "auto",
        reasoning: Literal["template", "keep", "strip"] = "template",
        actions: str = "auto",
        variables: Mapping[str, Any] | None = None,
        batch_rows: AtLeast1 | None = None,
        pass_tokens: AtLeast1 | None = None,
        executor: ExecutorName = "auto",
        trainable: bool = True,
        seed: Seed = 0,
        export: Literal["adapter", "merged"] = "adapter",
    ) -> None:
        check_arguments(Policy, locals())
        given = {name: value for name, value in locals().items() if name not in ("self", "model", "adapter")}
        merged_first = read_adapter(Path(adapter)) if adapter is not None else None  # the model takes long
        self.device = resolve_device(device)
        self.model, tokenizer, identity = load_model(model, self.device, resolve_dtype(dtype, self.device))
        ends = stop_ids(self.model, tokenizer)
        self.renderer = Renderer(
            tokenizer, style, reasoning=reasoning, actions=actions, variables=variables, stop_ids=ends
        )
        self.max_context = max_context(self.model.config, tokenizer)
        self.batch_rows = batch_rows
        asks_date = self.renderer.style == "template" and "strftime_now" in str(tokenizer.chat_template)
        date = DATE.isoformat() if asks_date else None
        written_until = tuple(sorted(self.renderer.stop_ids))
        tools_in_chatml = self.renderer.tools_in_chatml
        prompts = Prompts(self.renderer.style, reasoning, variables or {}, written_until, date, tools_in_chatml)
        self._origin = Origin.of(self.model, model, identity, adapter, prompts)
        self._export_as = export
        self._merged: dict[str, LowRank] | None = {}  # what was added to the plain weights; None when more was done
        if merged_first is not None:
            self.model, self._merged = merge_adapter(self.model, merged_first)
            identity = {**identity, "adapter": merged_first.sha256}
        self.training_identity: dict[str, Any] = (
            {"lora_rank": lora_rank, "lora_alpha": lora_alpha, "frozen_layers": frozen_layers, "seed": seed}
            if lora_rank > 0
            else {"lora_rank": 0, "frozen_layers": frozen_layers}
        )
        how = {"dtype": str(self.model.dtype), "stop_ids": sorted(self.renderer.stop_ids)}
        self._identity = {**identity, **self.renderer.identity, **how}
        self.description = {
            "policy": spec_text("hf", Policy, given),
            "model": model,
            "adapter": adapter,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": str(self.device),
        }
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self._frozen_copy: Any = None  # the reference of full fine-tuning; with LoRA it is the model without adapter
        self._adapter: FoldedAdapter | None = None
        self._optimizer: torch.optim.AdamW | None = None
        self._lora = trainable and lora_rank > 0
        with refusing(f"cannot train the model {model!r} of type {self.model.config.model_type!r}"):
            if trainable:
                self._make_trainable(lora_rank, lora_alpha, frozen_layers, seed)
            self._executor: Executor = make_executor(executor, self.model, pass_tokens)
            if executor not in ("auto", "reference") and (reason := why_not(self._executor, self.model)):
                raise InputError(f"executor={executor!r} does not serve this model: {reason}; use 'auto'")
            self._sampler = choose_sampler(self._executor.name, self.model)
            self.trunks = EpisodeTrunks(trunk_bytes(self.model))
            if self._frozen_copy is not None:
                size = self._executor.max_tokens
                self._frozen_executor: Executor = make_executor(self._executor.name, self._frozen_copy, size)

    # --- construction -------------------------------------------------------------------------------------------

    def _make_trainable(self, lora_rank: int, lora_alpha: int, frozen_layers: int, seed: int) -> None:
        trained = Trainable(self.model, frozen_layers)
        if self._lora:
            layers = trained.linear_layers()
            longest = max(size for layer in layers.values() for size in layer.get_parameter("weight").shape)
            if lora_rank > longest:
                raise InputError(
                    f"lora_rank must be at most {longest}, the width of the model's widest layer, not {lora_rank}"
                )
            config = LoraConfig(
                r=lora_rank,
                lora_alpha=lora_alpha,
                target_modules=list(layers),
                fan_in_fan_out=any(isinstance(layer, Conv1D) for layer in layers.values()),
                task_type="CAUSAL_LM",
            )
            with torch.random.fork_rng(devices=[]), quiet():
                torch.manual_seed(seed)
                self.model = get_peft_model(self.model, config)
            self.model.eval()
            self._adapter = FoldedAdapter(self.model, len(layers))
        else:
            self._frozen_copy = copy.deepcopy(self.model)
            for parameter in trained.parameters():
                parameter.requires_grad_(True)
        self._optimizer = torch.optim.AdamW(self._trainable().values(), lr=0.0, weight_decay=0.0)

    def _trainable(self) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    @property
    def identity(self) -> dict[str, Any]:
        return dict(self._identity)

    # --- acting ---------------------------------------------------------------------------------------------------

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        return len(self.renderer.prompt(turn)) + max_tokens <= self.max_context

    @property
    def reference(self) -> Reference:
        return Reference(self)

    def keeping(self) -> contextlib.AbstractContextManager[None]:
        """See :class:`pivotrl.protocols.Sampler`."""
        return self.trunks.keeping()

    def sample(self, turns: Sequence[Turn], num_samples: int, sampling: Sampling) -> Iterator[SampleGroup]:
        return self._sample(turns, num_samples, sampling, self._folded)

    @contextlib.contextmanager
    def _folded(self) -> Iterator[None]:
        with self._adapter.folded() if self._adapter else contextlib.nullcontext():
            yield

    @torch.no_grad()
    def _sample(
        self,
        turns: Sequence[Turn],
        num_samples: int,
        sampling: Sampling,
        weights: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> Iterator[SampleGroup]:
        """``weights``: inside what it gives, ``self.model`` is what acts."""
        prompts = [self.renderer.prompt(turn) for turn in turns]
        for turn, prompt in zip(turns, prompts, strict=True):
            if len(prompt) + sampling.max_tokens > self.max_context:
                raise TurnTooLong(
                    f"{turn.id}: {len(prompt)} prompt tokens and {sampling.max_tokens} new ones exceed the model's "
                    f"context of {self.max_context}"
                )
        rows = self.batch_rows or rows_that_fit(self.model, sampling.max_tokens)
        with weights():
            groups = draw(
                self.model,
                prompts,
                [turn.id for turn in turns],
                num_samples,
                sampling,
                self.renderer.stop_ids,
                executor=self._sampler,
                max_rows=rows,
                trunks=self.trunks,
            )
        prefilled = self.trunks.num_prefilled or num_prefilled(prompts, self._sampler, num_samples)
        for i, turn in enumerate(turns):
            yield SampleGroup(
                turn_id=turn.id,
                completions_G=tuple(self._completion(turn, d) for d in groups[i]),
                num_prompt_tokens=len(prompts[i]),
                num_prefilled_tokens=prefilled[i],
                prompt_sha256=prompt_hash(prompts[i]),
            )

    def _completion(self, turn: Turn, drawn: Drawn) -> Completion:
        text = self.renderer.decode(drawn.token_ids_T)
        if not drawn.stopped:
            action, error = Action(), "truncated"
        else:
            action, error = self.renderer.parse(text, turn)  # type: ignore[assignment]
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
            NotRenderable: see :meth:`pivotrl.rendering.Renderer.encode_action`; also when the turn with the action, and
                with the thought before it, is longer than the model's context.
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

    # --- learning -------------------------------------------------------------------------------------------------

    def update(self, groups: Sequence[TrainingGroup], learning_rate: float, options: UpdateOptions) -> dict[str, float]:
        """See :class:`pivotrl.protocols.Policy`. What moves nothing does not go through the model: completions of
        advantage 0, when there is no KL term.

        Raises:
            InputError: the step made weights that are not finite, or that give logits that are not.
            ValueError: a group was sampled from another rendering of its turn.
        """
        assert self._optimizer is not None, "this policy was made with trainable=False"
        batch = Batch.of(groups, [self._prompt(group) for group in groups], options).to(self.device)
        reference_S = None
        if options.objective == "policy_gradient" and options.kl_coefficient > 0:
            with self._as_reference():
                reference_S = self._executor.score(batch.items, options.temperature).logprobs_S
        objective = Objective(batch, options, reference_S)
        metrics: dict[str, float] = {}
        num_skipped = 0.0
        for _ in range(options.num_epochs):
            self._optimizer.zero_grad(set_to_none=True)
            metrics = objective.backward(self._executor)
            metrics |= self._step(learning_rate, options, metrics["loss/total"])
            num_skipped += metrics["update/skipped"]
        num_computed = self._executor.num_computed
        first = batch.items[0]
        require_finite(self.model, self._optimizer, [*first.prompt, *first.completions[0]], learning_rate)
        num_rows = sum(len(c) + len(item.prompt) for item in batch.items for c in item.completions)
        return {
            **metrics,
            "update/skipped": float(num_skipped > 0),
            "tokens/trained": float(len(batch.weights_S)),
            "tokens/computed": float(num_computed),
            "tokens/unshared": float(num_rows),
        }

    def _prompt(self, group: TrainingGroup) -> tuple[int, ...]:
        prompt = self.renderer.prompt(group.turn)
        if group.prompt_sha256 and group.prompt_sha256 != prompt_hash(prompt):
            raise ValueError(f"{group.turn.id} was sampled from another rendering than it is trained on")
        return prompt

    @contextlib.contextmanager
    def _as_reference(self) -> Iterator[None]:
        """Inside, ``self.model`` is the frozen reference: the adapter is off, or a frozen copy stands in."""
        if self._optimizer is None:
            yield
            return
        if self._lora:
            with self.model.disable_adapter():
                yield
            return
        trained = self.model, self._executor
        self.model, self._executor = self._frozen_copy, self._frozen_executor
        try:
            yield
        finally:
            self.model, self._executor = trained

    def _step(self, learning_rate: float, options: UpdateOptions, loss: float) -> dict[str, float]:
        assert self._optimizer is not None
        parameters = list(self._trainable().values())
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, options.max_gradient_norm))
        finite = math.isfinite(norm) and math.isfinite(loss)
        if finite:
            for group in self._optimizer.param_groups:
                group["lr"], group["weight_decay"] = learning_rate, options.weight_decay
            optimizer_step(self._optimizer, learning_rate)
        self._optimizer.zero_grad(set_to_none=True)
        return {
            "gradient/norm": norm,
            "update/skipped": float(not finite),
            "update/learning_rate": learning_rate,
        }

    def default_learning_rate(self, objective: ObjectiveName) -> float:
        return _LEARNING_RATES[self._lora, objective]

    # --- judging text -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score_text(self, prompt: str, answer: str) -> tuple[float, float | None, int]:
        """See :class:`pivotrl.protocols.Policy`. The text begins as the tokenizer begins texts (``<s>``); a first token
        with nothing before it is not scored.

        Raises:
            InputError: no token of the answer can be scored, or the text is longer than the model's context.
        """
        prompt_ids = [*first_ids(self.renderer.tokenizer), *self.renderer.encode_text(prompt)]
        answer_ids = self.renderer.encode_text(answer)
        if not prompt_ids:
            prompt_ids, answer_ids = answer_ids[:1], answer_ids[1:]
        if not answer_ids:
            raise InputError(
                f"the answer {answer!r} has no token to score after the prompt {prompt!r}; give a longer one"
            )
        if (num_tokens := len(prompt_ids) + len(answer_ids)) > self.max_context:
            raise InputError(f"{num_tokens} tokens exceed the model's context of {self.max_context}; shorten it")
        logprobs_SV = self._all_logprobs(prompt_ids, answer_ids)
        nll = -logprobs_SV.gather(-1, torch.tensor(answer_ids, device=self.device)[:, None]).mean().item()
        if not self._lora and self._frozen_copy is None:
            return nll, None, len(answer_ids)
        with self._as_reference():
            reference_SV = self._all_logprobs(prompt_ids, answer_ids)
        kl = (logprobs_SV.exp() * (logprobs_SV - reference_SV)).sum(dim=-1).mean().item()
        return nll, kl, len(answer_ids)

    def _all_logprobs(self, prompt: Sequence[int], answer: Sequence[int]) -> torch.Tensor:
        """Log-probability of every token of the vocabulary [S, V] at each place of the answer."""
        input_ids = torch.tensor([[*prompt, *answer[:-1]]], device=self.device)
        logits = self.model(input_ids=input_ids, use_cache=False, logits_to_keep=len(answer)).logits[0]
        return torch.log_softmax(logits.float(), dim=-1)

    # --- keeping ----------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        assert self._optimizer is not None
        names = list(self._trainable())
        moments = {}
        for name, parameter in self._trainable().items():
            for key, value in self._optimizer.state.get(parameter, {}).items():
                moments[f"{name}|{key}"] = value
        save_checkpoint(path, {"weights": dict(self._trainable()), "optimizer": moments}, {"parameters": names})

    def load(self, path: Path) -> None:
        assert self._optimizer is not None
        tensors, state = load_checkpoint(path)
        trainable = self._trainable()
        shapes = {name: value.shape for name, value in tensors["weights"].items()}
        if state["parameters"] != list(trainable) or shapes != {name: p.shape for name, p in trainable.items()}:
            raise InputError(
                f"{path} holds other parameters than this policy trains; use the settings it was made with"
            )
        with torch.no_grad():
            for name, value in tensors["weights"].items():
                trainable[name].copy_(value)
        self._optimizer.state.clear()
        for key, value in tensors["optimizer"].items():
            name, _, kind = key.rpartition("|")
            moved = value if kind == "step" else value.to(self.device)
            self._optimizer.state[trainable[name]][kind] = moved.clone()

    def export(self, path: Path) -> None:
        """A PEFT adapter folder or a model folder, each with its tokenizer and a README: see
        :func:`pivotrl.engine.policy_folder.write_policy`."""
        write_policy(
            path,
            self.model,
            self.renderer.tokenizer,
            self._origin,
            merged=self._merged if self._export_as == "adapter" else None,
            folded=self._folded,
        )


class Reference:
    """The frozen reference of a policy as a sampler of its own; it shares the policy's weights."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.identity, self.fits, self.keeping = policy.identity, policy.fits, policy.keeping

    def sample(self, turns: Sequence[Turn], num_samples: int, sampling: Sampling) -> Iterator[SampleGroup]:
        return self._policy._sample(turns, num_samples, sampling, self._policy._as_reference)
