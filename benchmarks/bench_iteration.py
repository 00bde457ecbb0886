"""A whole iteration on one trajectory: profile every pivot, sample groups, update. Against TRL's GRPOTrainer.

    python benchmarks/bench_iteration.py --loads W5

Profiling draws K samples a pivot (``--profile-samples``), training G; all contestants get the same prompts, numbers of
samples and sample lengths, an advantage of either sign in every group, and AdamW at learning rate 0, so that every
repetition meets the same weights. TRL profiles with the trainer's own generation, which is what it offers.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch

import contest
import flop_model
import loads
import measuring
import options as common
import results
from peers import generate, hf_padded, pivotrl_engine, pivotrl_sampler, trl_grpo
from peers.common import Step
from pivotrl.engine.items import Item

Phases = dict[str, float]
"""Seconds of profile, sample and update."""
Iterate = Callable[[Sequence[Item]], Phases]


@dataclass(frozen=True)
class Bench:
    """What an iteration needs to know."""

    setting: common.Setting
    load: loads.Load
    profile_samples: int
    optimizer: torch.optim.Optimizer

    def timed(self, work: Callable[[], Any], phases: Phases, name: str) -> Any:
        """What ``work`` returns; its seconds go into ``phases``."""
        results: list[Any] = []
        phases[name] = measuring.seconds(lambda: results.append(work()), self.setting.device)
        return results[0]


def composed(bench: Bench, draw: generate.Draw, step: Step) -> Iterate:
    """A sampler and an update step, one after the other."""
    load = bench.load

    def iterate(items: Sequence[Item]) -> Phases:
        phases: Phases = {}
        prompts = [item.prompt for item in items]
        bench.timed(lambda: draw(prompts, bench.profile_samples, load.tokens), phases, "profile")
        drawn = bench.timed(lambda: draw(prompts, load.branches, load.tokens), phases, "sample")
        sampled = [Item(prompt, group) for prompt, group in zip(prompts, drawn, strict=True)]

        def update() -> None:
            step(sampled, loads.make_advantages(sampled))
            bench.optimizer.step()

        bench.timed(update, phases, "update")
        return phases

    return iterate


def with_engine(bench: Bench, size: int) -> Iterate:
    model, tokenizer = bench.setting.model, bench.setting.tokenizer
    return composed(bench, pivotrl_sampler.prepare(model, tokenizer), pivotrl_engine.prepare(model, tokenizer, size))


def with_hugging_face(bench: Bench, size: int) -> Iterate:
    model, tokenizer = bench.setting.model, bench.setting.tokenizer
    return composed(bench, generate.prepare(model, tokenizer), hf_padded.prepare(model, tokenizer, size))


class WithTrl:
    """The trainer's own generation, scoring, padding, loss and backward; only the loop around them is ours."""

    def __init__(self, bench: Bench, size: int) -> None:
        def reward(completions: Sequence[Any], **_: Any) -> list[float]:
            return [float(i % 2) for i in range(len(completions))]

        load, setting = bench.load, bench.setting
        rows, batch_size = [{"prompt": [3]}] * load.pivots, load.pivots * load.branches
        self._bench = bench
        self.trainer = trl_grpo.make_trainer(
            setting.model, setting.tokenizer, rows, load.branches, load.tokens, batch_size, size, reward
        )
        self.trainer.current_gradient_accumulation_steps = self.trainer.args.steps_per_generation

    def __call__(self, items: Sequence[Item]) -> Phases:
        bench, trainer = self._bench, self.trainer
        phases: Phases = {}
        prompts = [list(item.prompt) for item in items]
        profiled = [prompt for prompt in prompts for _ in range(bench.profile_samples)]
        sampled = [{"prompt": prompt} for prompt in prompts for _ in range(bench.load.branches)]
        trainer._step = 0  # at which it generates, for all micro-batches of the step
        bench.timed(lambda: trainer._generate_single_turn(profiled, None, {}, bench.profile_samples), phases, "profile")
        bench.timed(lambda: trainer._prepare_inputs(sampled), phases, "sample")
        bench.timed(self._update, phases, "update")
        trainer._metrics["train"].clear()
        return phases

    def _update(self) -> None:
        for micro_batch in self.trainer._buffered_inputs:
            loss = self.trainer.compute_loss(self.trainer.model, micro_batch)
            self.trainer.accelerator.backward(loss)
        self._bench.optimizer.step()


@dataclass(frozen=True)
class Method:
    make: Callable[[Bench, int], Iterate]
    update: ModuleType
    """The peer that updates the same way: micro-batches are tuned on it."""
    work: flop_model.Method
    prefill: flop_model.Prefill


METHODS = {
    "pivotrl": Method(with_engine, pivotrl_engine, "shared", "trunk"),
    "trl-grpo": Method(WithTrl, trl_grpo, "naive", "rows"),
    "hf-naive": Method(with_hugging_face, hf_padded, "naive", "groups"),
}


def flops(bench: Bench, method: Method | None, lora: bool) -> float:
    """Of a method; of the least that must be computed for None."""
    costs = flop_model.costs_of(bench.setting.model.config)
    sizes = loads.lengths(bench.load)
    profiled = loads.lengths(replace(bench.load, branches=bench.profile_samples))
    if method is None:
        return flop_model.sampling_flops("trunk", profiled, costs) + flop_model.least_iteration_flops(
            sizes, costs, lora
        )
    profile = flop_model.sampling_flops(method.prefill, profiled, costs)
    sampling = flop_model.sampling_flops(method.prefill, sizes, costs)
    return profile + sampling + flop_model.update_flops(method.work, sizes, costs, lora)


def contestant(name: str, bench: Bench, lora: bool, kept: dict[str, list[Phases]]) -> contest.Contestant:
    """``kept`` receives the phases of every run that is timed."""
    method, setting = METHODS[name], bench.setting

    def prepare(size: int) -> contest.Run:
        iterate = method.make(bench, size)

        def run(repetition: int) -> None:
            phases = iterate(loads.make_items(bench.load, setting.vocabulary, seed=1000 + repetition))
            if repetition >= 0:
                kept.setdefault(name, []).append(phases)

        return run

    def trial(size: int) -> contest.Run:
        step = method.update.prepare(setting.model, setting.tokenizer, size)
        items = loads.make_items(bench.load, setting.vocabulary)
        items = items[-1:] if method.work == "naive" else items  # one pivot is enough where nothing is shared
        return lambda _: step(items, loads.make_advantages(items))

    return contest.Contestant(name, prepare, flops(bench, method, lora), method.update.MICRO_BATCHES, trial)


def run_load(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    load, setting, lora = bench.load, bench.setting, bool(options.lora)
    kept: dict[str, list[Phases]] = {}
    peak = measuring.peak_flops(setting.device, setting.dtype)
    least = flops(bench, None, lora)

    def probe(name: str, size: int) -> list[str]:
        samples = ["--profile-samples", str(bench.profile_samples)]
        return common.probe_arguments(options, load, name, size) + samples

    rows = contest.compare(
        [contestant(name, bench, lora, kept) for name in METHODS if name in options.contestants],
        base="pivotrl",
        device=setting.device,
        repetitions=options.repetitions,
        warmups=options.warmups,
        fixed=common.fixed_sizes(options),
        bound_seconds=least / peak,
        between=setting.zero_gradients,
        probe=None if options.no_probe else probe,
    )
    for row in rows:
        runs = kept.get(row["name"], [])
        row["phases"] = {key: statistics.median(phases[key] for phases in runs) for key in (runs[0] if runs else {})}
    bound = f"{least / 1e12:.3g} TFLOP at {peak / 1e9:,.0f} GFLOP/s of a square matrix product"
    trained = f"{common.trained_weights(options)}, profile of {bench.profile_samples}"
    return common.entry(options, setting, load, trained, least / peak, bound, rows)


def probe_load(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    size = common.fixed_sizes(options)[options.probe]
    short = loads.Load("warm-up", 8 * bench.load.pivots, bench.load.pivots, bench.load.branches, 2)
    warm = contestant(options.probe, replace(bench, load=short, profile_samples=2), bool(options.lora), {}).prepare(
        size
    )
    own = contestant(options.probe, bench, bool(options.lora), {})
    return contest.probe_one(own, size, bench.setting.device, lambda: warm(-1))


def main() -> None:
    parser = common.parser(__doc__.splitlines()[0], list(METHODS), "W5")
    parser.add_argument("--profile-samples", type=int, default=8, metavar="K")
    options = parser.parse_args()
    setting = common.setting_of(options)
    optimizer = torch.optim.AdamW([p for p in setting.model.parameters() if p.requires_grad], lr=0.0)
    for text in options.loads:
        bench = Bench(setting, loads.parse_load(text), options.profile_samples, optimizer)
        if options.probe:
            print(json.dumps(probe_load(bench, options)))
            return
        entry = run_load(bench, options)
        results.save(options.out, "bench_iteration", entry)
        print(results.table(entry), flush=True)


if __name__ == "__main__":
    main()
