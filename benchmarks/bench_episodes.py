"""Played episodes that keep their keys and values from turn to turn, against episodes that prefill each turn anew.

    python benchmarks/bench_episodes.py                   32 episodes of 8 turns, 600 tokens an observation
    python benchmarks/bench_episodes.py --go-on           more pairs on top of those in the result file

Both play the same episodes with the same policy through ``play_episodes``, rendering included; they take turns (ABBA),
and each repetition brings new observations. The result is written after every pair, so a run that is cut short
leaves what it has. ``--layers`` takes the model's first layers only: times shrink in proportion, ratios hardly change.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import flop_model
import measuring
import models
import results
from pivotrl.engine.loading import resolve_device, resolve_dtype
from pivotrl.episodes import play_episodes
from pivotrl.policies.hf import Policy
from pivotrl.protocols import Observation, Turn
from pivotrl.records import Action, Message, SampleGroup, Sampling

NAMES = ("kept", "anew")


class Scripted:
    """Answers every action with random words of one token each, and ends after some turns."""

    def __init__(self, number: int, words: Sequence[str], options: argparse.Namespace) -> None:
        self.task_id, self.tags, self.context_window = f"scripted{number}", dict[str, str](), None
        self._random, self._words, self._options = np.random.default_rng(number), words, options
        self._turns = 0

    def _message(self) -> Message:
        return Message(role="user", content="".join(self._random.choice(self._words, self._options.observation)))

    def reset(self) -> tuple[Message, ...]:
        return (self._message(),)

    def step(self, action: Action) -> Observation:
        self._turns += 1
        return Observation((self._message(),), 0.0, done=self._turns == self._options.turns)


class Watched:
    """The policy; what it drew and computed is counted."""

    def __init__(self, policy: Policy, keeping: bool) -> None:
        self._policy = policy
        self.identity, self.fits = policy.identity, policy.fits
        self.drawn: list[tuple[int, ...]] = []
        self.prompt_tokens = self.prefilled = self.kept_bytes = 0
        if keeping:
            self.keeping = policy.keeping

    def sample(self, turns: Sequence[Turn], num_samples: int, sampling: Sampling) -> Iterator[SampleGroup]:
        for group in self._policy.sample(turns, num_samples, sampling):
            self.drawn.append(group.completions_G[0].token_ids_T)
            self.prompt_tokens += group.num_prompt_tokens
            self.prefilled += group.num_prefilled_tokens
            self.kept_bytes = max(self.kept_bytes, self._policy.generator.trunks.num_bytes)
            yield group


def make_policy(options: argparse.Namespace) -> Policy:
    """The model, or its first layers, with room for what is to be kept."""
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device)
    model, tokenizer = models.build(options.model, torch.device("cpu"), dtype)
    if options.layers:
        model.model.layers = model.model.layers[: options.layers]
        model.config.num_hidden_layers = options.layers
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        short = str(dtype).removeprefix("torch.")
        policy = Policy(model=folder, lora_rank=0, trainable=False, dtype=short, device=options.device)
    policy.generator.trunks.max_bytes = int(options.keep_gib * 2**30)
    return policy


def one_token_words(tokenizer: Any) -> list[str]:
    """Words with a space before them that are a token each."""
    return sorted(
        " " + token[1:]
        for token in tokenizer.get_vocab()
        if token.startswith("Ġ") and token[1:].isascii() and token[1:].isalpha()
    )


def play(policy: Policy, keeping: bool, words: Sequence[str], repetition: int, options: argparse.Namespace) -> Watched:
    watched = Watched(policy, keeping)
    first = 1000 * (repetition + 1)
    environments = [Scripted(first + number, words, options) for number in range(options.episodes)]
    ended = list(play_episodes(environments, watched, Sampling(max_tokens=options.action, seed=repetition)))
    if [result.num_turns for result in ended] != [options.turns] * options.episodes:
        raise RuntimeError("an episode ended too soon; does the model's context hold it?")
    return watched


def predicted_flops(name: str, options: argparse.Namespace, costs: flop_model.Costs) -> float:
    """Of all episodes. A turn adds an observation and an action."""
    grown = options.observation + options.action
    prompts = [options.observation + turn * grown for turn in range(options.turns)]
    sizes = [(prompt, [options.action]) for prompt in prompts]
    return options.episodes * flop_model.sampling_flops("groups" if name == "anew" else "trunk", sizes, costs)


def row(name: str, old: dict[str, Any], seconds: list[float], seen: Watched | None) -> dict[str, Any]:
    counted = {} if seen is None else {"prefilled": seen.prefilled, "kept_bytes": seen.kept_bytes}
    return {**old, **counted, "name": name, "seconds": seconds, "median_seconds": statistics.median(seconds)}


def compare(policy: Policy, words: Sequence[str], entry: dict[str, Any], options: argparse.Namespace) -> None:
    """Plays pairs, and writes the result after each."""
    rows = {each["name"]: each for each in entry["rows"]}
    times = {name: list(rows.get(name, {}).get("seconds", [])) for name in NAMES}
    costs = flop_model.costs_of(policy.model.config)
    flops = {name: predicted_flops(name, options, costs) for name in NAMES}
    least = flops["kept"] / measuring.peak_flops(policy.device, policy.model.dtype)
    entry |= {"bound_seconds": least, "bound": f"{flops['kept'] / 1e12:.3g} TFLOP at the speed of a matrix product"}
    small = argparse.Namespace(**{**vars(options), "episodes": min(2, options.episodes), "turns": 2})
    for name in NAMES:  # wakes the kernels up
        play(policy, name == "kept", words, -1, small)
    done = len(times["kept"])
    for repetition in range(done, done + options.repetitions):
        seen: dict[str, Watched] = {}

        def run(name: str) -> None:
            seen[name] = play(policy, name == "kept", words, repetition, options)  # noqa: B023  # called at once

        for name in NAMES if repetition % 2 == 0 else reversed(NAMES):
            gc.collect()
            taken = measuring.seconds(lambda: run(name), policy.device)  # noqa: B023  # called at once
            times[name].append(taken)
            print(f"{repetition + 1} {name}: {taken:.3g} s", file=sys.stderr, flush=True)
        same = sum(one == other for one, other in zip(seen["kept"].drawn, seen["anew"].drawn, strict=True))
        entry["tokens"] = {
            "logical": seen["anew"].prompt_tokens,
            "grouped": seen["anew"].prefilled,
            "unique": seen["kept"].prefilled,
        }
        for name in NAMES:
            rows[name] = row(name, rows.get(name, {}), times[name], seen[name]) | {
                "base": "kept",
                "predicted_flops": flops[name],
                "predicted_ratio": flops[name] / flops["kept"],
                "fraction_of_bound": least / statistics.median(times[name]),
                "ratio": measuring.ratio_interval(times[name], times["kept"]),
                "same_samples": [same, len(seen["anew"].drawn)],
            }
        entry["rows"] = [rows[name] for name in NAMES]
        results.save(options.out, "bench_episodes", entry)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m-instruct", help="as in the other benchmarks")
    parser.add_argument("--layers", type=int, default=0, help="the model's first layers (0: all)")
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--observation", type=int, default=600, help="tokens")
    parser.add_argument("--action", type=int, default=16, help="tokens")
    parser.add_argument("--keep-gib", type=float, default=9.0, help="bound of the keys and values that are kept")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--go-on", action="store_true", help="add to the pairs of the result file")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    policy = make_policy(options)
    entry: dict[str, Any] = {
        "load": f"{options.episodes} episodes of {options.turns} turns "
        f"({options.observation} tokens seen, {options.action} sampled)",
        "model": options.model + (f" ({options.layers} layers)" if options.layers else ""),
        "trained": "played",
        "machine": measuring.machine(policy.device, policy.model.dtype),
        "command": results.command_line(),
        "rows": [],
    }
    path = options.out / "bench_episodes.json"
    if options.go_on and path.exists():
        before = [old for old in json.loads(path.read_text()) if results.identity(old) == results.identity(entry)]
        entry["rows"] = before[0]["rows"] if before else []
    compare(policy, one_token_words(policy.renderer.tokenizer), entry, options)
    print(results.table(entry))


if __name__ == "__main__":
    main()
