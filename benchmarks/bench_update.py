"""One update step, forward and backward, of the engine and of its peers on the same batch.

    python benchmarks/bench_update.py --loads W5 M S
    python benchmarks/bench_update.py --model random:qwen3-1.7b --loads W0 W1 W2 W3 --repetitions 10

The batch is a trajectory with N pivots and G sampled branches each; the loss is the token-level mean of the clipped
policy loss, on policy. Every contestant's gradient is compared with that of padded rows before its time counts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch

import contest
import flop_model
import loads
import measuring
import options as common
import results
from peers import hf_padded, hf_padding_free, pivotrl_engine, prefix_grouper, trl_grpo, trl_tree
from pivotrl.engine.items import Item

CONTESTANTS: dict[str, tuple[ModuleType, flop_model.Method]] = {
    "hf-padded": (hf_padded, "naive"),  # first: the others are checked against its gradient
    "pivotrl": (pivotrl_engine, "shared"),
    "hf-padding-free": (hf_padding_free, "naive"),
    "prefix-grouper": (prefix_grouper, "grouped"),
    "trl-grpo": (trl_grpo, "naive"),
    "trl-tree": (trl_tree, "shared"),
}


class GradientCheck:
    """Relative error of the whole gradient against the first contestant's."""

    def __init__(self, setting: common.Setting) -> None:
        self._parameters = [p for p in setting.model.parameters() if p.requires_grad]
        self._reference: list[torch.Tensor] | None = None

    def __call__(self, name: str) -> dict[str, Any]:
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if self._reference is None:
            self._reference = [gradient.clone() for gradient in gradients]
            return {}
        pairs = list(zip(gradients, self._reference, strict=True))
        off = sum(float((a.float() - b.float()).square().sum()) for a, b in pairs)
        size = sum(float(b.float().square().sum()) for _, b in pairs)
        return {"gradient_error": (off / size) ** 0.5 if size else 0.0}


def contestants(
    names: Sequence[str], load: loads.Load, setting: common.Setting, lora: bool
) -> list[contest.Contestant]:
    items = loads.make_items(load, setting.vocabulary)
    advantages = loads.make_advantages(items)
    sizes = loads.lengths(load)
    costs = flop_model.costs_of(setting.model.config)

    def maker(module: ModuleType, count: int) -> Callable[[int], contest.Run]:
        """On the last ``count`` items, which have the longest prompts."""

        def prepare(size: int) -> contest.Run:
            step = module.prepare(setting.model, setting.tokenizer, size)
            return lambda _: step(items[-count:], advantages[-count:])

        return prepare

    return [
        contest.Contestant(
            name,
            maker(CONTESTANTS[name][0], len(items)),
            flop_model.update_flops(CONTESTANTS[name][1], sizes, costs, lora),
            CONTESTANTS[name][0].MICRO_BATCHES,
            # Rows that share nothing are tuned on one pivot: the whole batch would take minutes per size.
            maker(CONTESTANTS[name][0], 1) if CONTESTANTS[name][1] == "naive" else None,
        )
        for name in names
    ]


def run_load(load: loads.Load, setting: common.Setting, options: argparse.Namespace) -> dict[str, Any]:
    costs, sizes = flop_model.costs_of(setting.model.config), loads.lengths(load)
    least = flop_model.update_flops("shared", sizes, costs, bool(options.lora))
    peak = measuring.peak_flops(setting.device, setting.dtype)
    names = [name for name in CONTESTANTS if name in options.contestants]
    rows = contest.compare(
        contestants(names, load, setting, bool(options.lora)),
        base="pivotrl",
        device=setting.device,
        repetitions=options.repetitions,
        warmups=options.warmups,
        fixed=common.fixed_sizes(options),
        bound_seconds=least / peak,
        between=setting.zero_gradients,
        after_warmup=GradientCheck(setting),
        probe=None if options.no_probe else lambda name, size: common.probe_arguments(options, load, name, size),
    )
    bound = f"{least / 1e12:.3g} TFLOP at {peak / 1e9:,.0f} GFLOP/s of a square matrix product"
    return common.entry(options, setting, load, common.trained_weights(options), least / peak, bound, rows)


def probe(options: argparse.Namespace, load: loads.Load, setting: common.Setting) -> dict[str, Any]:
    size = common.fixed_sizes(options)[options.probe]
    (contestant,) = contestants([options.probe], load, setting, bool(options.lora))
    step = CONTESTANTS[options.probe][0].prepare(setting.model, setting.tokenizer, size)
    small = Item([3, 4, 5, 6, 7, 8, 9, 10], [[11, 12, 13], [14, 15, 16]])
    return contest.probe_one(contestant, size, setting.device, lambda: step([small], [[1.0, -1.0]]))


def main() -> None:
    parser = common.parser(__doc__.splitlines()[0], list(CONTESTANTS), "W5")
    parser.add_argument(
        "--spread", type=float, default=0.0, help="standard deviation of log R (0: every branch R tokens)"
    )
    options = parser.parse_args()
    setting = common.setting_of(options)
    for text in options.loads:
        load = loads.parse_load(text, options.spread)
        if options.probe:
            print(json.dumps(probe(options, load, setting)))
            return
        entry = run_load(load, setting, options)
        results.save(options.out, "bench_update", entry)
        print(results.table(entry), flush=True)


if __name__ == "__main__":
    main()
