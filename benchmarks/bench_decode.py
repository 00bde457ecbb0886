"""Sampling N x G branches of one trajectory: the engine's sampler and its peers, prefill included.

    python benchmarks/bench_decode.py --loads W5
    VLLM_PYTHON=... python benchmarks/bench_decode.py --loads W5 --contestants pivotrl vllm

Every branch is R tokens long whatever it samples, at temperature 1 over the whole vocabulary. Each repetition brings a
new trunk, so that no prefix cache lives on from the one before.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import contest
import flop_model
import loads
import measuring
import options as common
import results
from peers import continuous_batching, generate, pivotrl_sampler, vllm_server

CONTESTANTS: dict[str, tuple[Callable[[Any, Any], generate.Draw], flop_model.Prefill]] = {
    "pivotrl": (pivotrl_sampler.prepare, "trunk"),
    "pivotrl-plain": (functools.partial(pivotrl_sampler.prepare, products="plain"), "trunk"),
    "pivotrl-packed": (functools.partial(pivotrl_sampler.prepare, products="packed"), "trunk"),
    "pivotrl-bfloat16": (functools.partial(pivotrl_sampler.prepare, products="bfloat16"), "trunk"),
    "generate": (generate.prepare, "groups"),
    "generate-expanded": (generate.prepare_expanded, "rows"),
    "continuous-batching": (continuous_batching.prepare, "trunk"),
    "vllm": (vllm_server.prepare, "trunk"),
}

_NOT_COUNTED = ("pivotrl", "pivotrl-packed", "pivotrl-bfloat16", "vllm")
"""Products outside PyTorch's own, or perhaps: counting FLOPs would miss them."""


def contestants(names: Sequence[str], load: loads.Load, setting: common.Setting) -> list[contest.Contestant]:
    sizes, costs = loads.lengths(load), flop_model.costs_of(setting.model.config)

    def maker(name: str) -> Callable[[int], contest.Run]:
        def prepare(_: int) -> contest.Run:
            draw = CONTESTANTS[name][0](setting.model, setting.tokenizer)

            def run(repetition: int) -> None:
                items = loads.make_items(load, setting.vocabulary, seed=1000 + repetition)
                drawn = draw([item.prompt for item in items], load.branches, load.tokens)
                short = [len(s) for group in drawn for s in group if len(s) != load.tokens]
                if short or [len(group) for group in drawn] != [load.branches] * load.pivots:
                    raise RuntimeError(f"{name} did not draw {load.branches} samples of {load.tokens} tokens a prompt")

            return run

        return prepare

    return [
        contest.Contestant(
            name,
            maker(name),
            flop_model.sampling_flops(CONTESTANTS[name][1], sizes, costs),
            countable=name not in _NOT_COUNTED,
        )
        for name in names
    ]


def bound(load: loads.Load, setting: common.Setting) -> tuple[float, str]:
    """(seconds, how): the trunk's FLOPs, then every step the larger of its FLOPs and its bytes.

    A step reads the weights, the trunk's keys and values and those of every branch, each once.
    """
    config = setting.model.config.get_text_config()
    costs = flop_model.costs_of(setting.model.config)
    peak = measuring.peak_flops(setting.device, setting.dtype)
    speed = measuring.bandwidth(setting.device)
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = setting.dtype.itemsize
    cached = 2 * config.num_hidden_layers * config.num_key_value_heads * head_size * width
    weights = (costs.dense + costs.head) / 2 * width
    rows = load.pivots * load.branches
    prompts = [prompt for prompt, _ in loads.lengths(load)]
    total = flop_model.sampling_flops("trunk", [(prompt, [1] * load.branches) for prompt in prompts], costs) / peak
    for step in range(1, load.tokens):
        pairs = load.branches * sum(prompt + step for prompt in prompts)
        flops = flop_model.Work(rows, pairs, rows).forward(costs)
        total += max(flops / peak, (weights + cached * (load.trunk + rows * step)) / speed)
    return total, f"{peak / 1e9:,.0f} GFLOP/s and {speed / 1e9:,.1f} GB/s, measured"


def run_load(load: loads.Load, setting: common.Setting, options: argparse.Namespace) -> dict[str, Any]:
    least, how = bound(load, setting)
    rows = contest.compare(
        contestants([name for name in CONTESTANTS if name in options.contestants], load, setting),
        base="pivotrl",
        device=setting.device,
        repetitions=options.repetitions,
        warmups=options.warmups,
        fixed={},
        bound_seconds=least,
        between=lambda: None,
        probe=None if options.no_probe else lambda name, size: common.probe_arguments(options, load, name, size),
    )
    for row in rows:
        if "seconds" in row:
            row["tokens_per_second"] = load.pivots * load.branches * load.tokens / row["median_seconds"]
    return common.entry(options, setting, load, "sampling", least, how, rows)


def probe(options: argparse.Namespace, load: loads.Load, setting: common.Setting) -> dict[str, Any]:
    (contestant,) = contestants([options.probe], load, setting)
    draw = CONTESTANTS[options.probe][0](setting.model, setting.tokenizer)
    return contest.probe_one(contestant, 0, setting.device, lambda: draw([[3, 4, 5, 6, 7, 8, 9, 10]], 2, 3))


def main() -> None:
    options = common.parser(__doc__.splitlines()[0], list(CONTESTANTS), "W5").parse_args()
    setting = common.setting_of(options)
    for text in options.loads:
        load = loads.parse_load(text)
        if options.probe:
            print(json.dumps(probe(options, load, setting)))
            return
        entry = run_load(load, setting, options)
        results.save(options.out, "bench_decode", entry)
        print(results.table(entry), flush=True)


if __name__ == "__main__":
    main()
