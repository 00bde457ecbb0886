"""One training step in one and in two processes, samples from one and two Ray workers, and a simulation of more.

    python benchmarks/bench_scaling.py            about eight minutes on two idle cores
    python benchmarks/bench_scaling.py --quick    a tiny model and little work, to try the script out

A device is a core here: every process computes with one thread. The simulation is fed with what one process needs and
with the speed of the link; the two processes that were really measured tell whether it can be believed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file

import host
import results
from options import RESULTS
from pivotrl import Turn, plugins
from pivotrl.engine.distributed.dealing import cost, together
from pivotrl.engine.distributed.launch import join
from pivotrl.engine.forest import input_sequences
from pivotrl.engine.items import Item
from pivotrl.engine.locating import locate
from pivotrl.policies.hf import Policy
from pivotrl.protocols import UpdateOptions
from pivotrl.protocols.tokens import Drawn, Example, token_weights
from pivotrl.records import Sampling
from pivotrl.report.planning.scaling import IGNORED, Line, Measured, Step, simulate, step_of

ORDER = (1, 2, 2, 1)
"""Processes of the measured runs: drift of the machine meets both alike."""
SIMULATED = (1, 2, 8, 64)
MICRO = Path(__file__).parents[1] / "recipes" / "evidence" / "micro" / "model"


def turns_of(trajectories: int, each: int) -> list[Turn]:
    """Turns of Errands: the real lengths of an agent's trajectories."""
    read = plugins.load("readers", f"errands(tasks={trajectories}, demonstrator='privileged')")
    turns = []
    for trajectory in read("train"):
        places = [place for place, message in enumerate(trajectory.messages) if message.role == "assistant"]
        kept = places[:: max(1, len(places) // each)][:each]
        turns += [Turn(trajectory, place) for place in kept]
    return turns


def examples_of(policy: Any, turns: Sequence[Turn], branches: int, tokens: int) -> list[Example]:
    """Each turn with made-up completions, so that every process count learns from the same."""
    generator = torch.Generator().manual_seed(0)
    most = len(policy.renderer.tokenizer)

    def completion() -> list[int]:
        length = int(torch.randint(tokens // 2, tokens + 1, (), generator=generator))
        drawn: list[int] = torch.randint(3, most, (length,), generator=generator).tolist()
        return drawn

    prompts = [list(policy.renderer.prompt(turn)) for turn in turns]
    drawn = [[completion() for _ in range(branches)] for _ in turns]
    weights = iter(token_weights([len(one) for group in drawn for one in group], "token"))
    return [
        Example(
            prompt,
            [Drawn(one, [-3.0] * len(one), True) for one in group],
            [(-1.0) ** place for place in range(branches)],
            [next(weights) for _ in group],
            turn.id,
        )
        for turn, prompt, group in zip(turns, prompts, drawn, strict=True)
    ]


def costs_of(policy: Any, examples: Sequence[Example], max_tokens: int) -> tuple[list[float], list[float]]:
    """What dealing reckons for each trajectory: (to learn, to sample)."""
    width = policy.model.config.get_text_config().hidden_size
    learning, sampling = [], []
    for numbers in together([example.key for example in examples]):
        ours = [examples[i] for i in numbers]
        items = [Item(each.prompt, [c.token_ids_T for c in each.completions_G]) for each in ours]
        learning.append(cost(input_sequences(items), width))
        drawn = sum(len(each.completions_G) for each in ours) * max_tokens
        sampling.append(cost([each.prompt for each in ours], width) + drawn)
    return learning, sampling


def seconds(work: Any) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def sample(policy: Any, batch: Sequence[Example], options: argparse.Namespace) -> float:
    """Seconds."""
    prompts, keys = [example.prompt for example in batch], [example.key for example in batch]
    sampling = Sampling(max_tokens=options.tokens, seed=0)
    return seconds(lambda: list(policy.generator.generate(prompts, keys, options.branches, sampling, frozenset())))


def learn(policy: Any, batch: Sequence[Example]) -> float:
    """Seconds."""
    return seconds(lambda: policy.learner.update(batch, 1e-5, UpdateOptions(kl_coefficient=0.0)))


def train(options: argparse.Namespace, crew: Any) -> dict[str, Any]:
    """In the leader: a small step that also warms up, a large one, and what the simulation needs."""
    policy: Any = Policy(model=options.model, lora_rank=options.lora, device="cpu", dtype="float32")
    turns = turns_of(options.trajectories, options.turns)
    examples = examples_of(policy, turns, options.branches, options.tokens)
    number = max(1, options.trajectories // 6)
    few = [examples[i] for numbers in together([e.key for e in examples])[:number] for i in numbers]
    found: dict[str, Any] = {"times": {}}
    for name, batch in (("warm", few), ("small", few), ("large", examples)):
        times = {"sampling": sample(policy, batch, options), "learning": learn(policy, batch)}
        found["times"][name] = times | dict(
            zip(("cost", "sampled"), costs_of(policy, batch, options.tokens), strict=True)
        )
    policy.export(Path(options.export))
    trained = policy.weights.trained().values()
    found["optimizer"], found["messages"] = 0.0, policy.model.config.get_text_config().num_hidden_layers + 1
    found["gathered_bytes"] = 4 * sum(p.numel() for p in policy.model.parameters())
    found["summed_bytes"] = 4 * sum(p.numel() for p in trained)
    if crew is None:
        for parameter in trained:
            parameter.grad = torch.zeros_like(parameter)
        found["optimizer"] = min(seconds(policy.learner.optimizer.step) for _ in range(3))
    return found


def link(options: argparse.Namespace) -> dict[str, float]:
    """Two processes: seconds of gathers and sums of a large tensor, and of a tiny one."""
    dist.init_process_group("gloo")
    size, rank = dist.get_world_size(), dist.get_rank()
    del options, rank

    def exchange(number: int) -> None:
        whole, shard = torch.ones(number * size), torch.ones(number)
        dist.all_gather_into_tensor(whole, shard)
        dist.reduce_scatter_tensor(shard, whole)

    large, tiny = 1 << 22, 16
    exchange(large)
    slow = statistics.median(seconds(lambda: exchange(large)) for _ in range(7))
    fast = statistics.median(seconds(lambda: exchange(tiny)) for _ in range(51))
    moved = 2 * 4.0 * large * (size - 1)  # what passes a process in the gather and in the sum
    return {"bandwidth": moved / max(slow - fast, 1e-9), "latency": fast / 2}


def draw(options: argparse.Namespace) -> dict[str, Any]:
    """Samples from Ray workers."""
    turns = turns_of(options.trajectories, options.turns)
    spec = f"ray(policy=\"hf(model='{options.model}', dtype='float32', device='cpu')\", workers={options.processes})"
    sampler = plugins.load("samplers", spec)
    try:
        sampling = Sampling(max_tokens=options.tokens, seed=0)
        list(sampler.sample(turns[: 2 * options.processes], 1, sampling))
        groups: list[Any] = []
        taken = seconds(lambda: groups.extend(sampler.sample(turns, options.branches, sampling)))
        return {"sampling": taken, "tokens": [list(c.token_ids_T) for g in groups for c in g.completions_G]}
    finally:
        sampler.close()


def in_processes(work: str, number: int, options: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """Run this script again, in so many processes of one thread each; what the leader prints last.

    Raises:
        RuntimeError: a process failed.
    """
    given = {**vars(options), **more, "work": work, "processes": number}
    taken = [name for name in given if name not in ("out", "quick", "simulated")]
    flags = [text for name in taken if given[name] is not None for text in (f"--{name}", str(given[name]))]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
    spread = number > 1 and work != "draw"
    command = [sys.executable, *(launch if spread else ()), __file__, *flags]
    threads = str(more.get("threads", 1))
    found = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": threads}
    )
    lines = [line for line in found.stdout.splitlines() if line.startswith("{")]
    if found.returncode or not lines:
        raise RuntimeError(found.stderr[-3000:])
    print(f"{work}, {number} processes, {threads} threads: done", file=sys.stderr, flush=True)
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def worker(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads or 1)
    if options.work == "draw":
        print(json.dumps(draw(options)), flush=True)
        return
    if options.work == "link":
        found = link(options)
        if dist.get_rank() == 0:
            print(json.dumps(found), flush=True)
        return
    crew = join() if "RANK" in os.environ else None
    if crew is not None and crew.rank:
        crew.follow(lambda name, given: Policy(**given))
        return
    with crew.leading() if crew is not None else contextlib.nullcontext():
        found = train(options, crew)
    print(json.dumps(found), flush=True)


def distance(one: Path, other: Path, start: Path) -> tuple[float, float]:
    """How far two exports lie from each other, as a share of how far training went: (norm, largest number)."""
    first, second = (load_file(next(folder.glob("*.safetensors"))) for folder in (one, other))
    names = first.keys() & second.keys()
    base = load_file(next(start.glob("*.safetensors"))) if "adapter" not in next(one.glob("*.safetensors")).name else {}
    apart = [first[name] - second[name] for name in names]
    went = [first[name] - base[name] if name in base else first[name] for name in names]
    norms = [sum(float(t.double().square().sum()) for t in tensors) ** 0.5 for tensors in (apart, went)]
    return norms[0] / norms[1], max(float(t.abs().max()) for t in apart)


def measured_of(runs: Sequence[dict[str, Any]], line: dict[str, float]) -> Measured:
    """From the runs of one process: medians."""
    first = runs[0]

    def through(kind: str, costs: str) -> Line:
        points = [
            (sum(first["times"][size][costs]), statistics.median(run["times"][size][kind] for run in runs))
            for size in ("small", "large")
        ]
        return Line.through(points[0], points[1])

    optimizer = statistics.median(run["optimizer"] for run in runs)
    learning = through("learning", "cost")
    return Measured(
        sampling=through("sampling", "sampled"),
        learning=Line(max(0.0, learning.fixed - optimizer), learning.each),
        optimizer=optimizer,
        gathered_bytes=first["gathered_bytes"],
        summed_bytes=first["summed_bytes"],
        messages=first["messages"],
        bandwidth=line["bandwidth"],
        latency=line["latency"],
    )


def whole(run: dict[str, Any]) -> float:
    return float(run["times"]["large"]["sampling"] + run["times"]["large"]["learning"])


def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """An entry of the results."""
    runs: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    for place, number in enumerate(ORDER):
        runs[number].append(in_processes("train", number, options, export=folder / f"{number}-{place}"))
    threaded = in_processes("train", 1, options, export=folder / "threads", threads=2)
    line = in_processes("link", 2, options)
    drawn = {number: in_processes("draw", number, options) for number in (1, 2)}
    measured = measured_of(runs[1], line)
    large = runs[1][0]["times"]["large"]
    told = [step_of(measured, large["cost"], large["sampled"], number) for number in (1, 2)]
    taken = {number: statistics.median(map(whole, found)) for number, found in runs.items()}
    apart, largest = distance(folder / "1-0", folder / "2-1", locate(options.model))
    same = sum(a == b for a, b in zip(drawn[1]["tokens"], drawn[2]["tokens"], strict=True))
    simulated = [
        {
            "trajectories": each,
            "steps": [_row(simulate(measured, large["cost"], large["sampled"], n, each)) for n in SIMULATED],
        }
        for each in options.simulated
    ]
    return {
        "load": f"{options.trajectories} trajectories of {options.turns} turns, {options.branches} x {options.tokens}",
        "model": options.model,
        "trained": f"LoRA {options.lora}" if options.lora else "all weights",
        "machine": host.machine("torch", "transformers", "ray") | {"threads": 1, "device": "cpu", "dtype": "float32"},
        "command": results.command_line(),
        "seconds": {
            str(number): [run["times"]["large"] | {"cost": 0, "sampled": 0} for run in found]
            for number, found in runs.items()
        },
        "two_threads": whole(threaded),
        "faster": taken[1] / taken[2],
        "told": [_row(step) for step in told],
        "measured_two": taken[2],
        "weights_apart": {"norm": apart, "largest": largest},
        "replicas": {
            "seconds": {str(number): found["sampling"] for number, found in drawn.items()},
            "faster": drawn[1]["sampling"] / drawn[2]["sampling"],
            "same_samples": [same, len(drawn[1]["tokens"])],
        },
        "fed": asdict(measured),
        "simulated": simulated,
        "ignored": list(IGNORED),
    }


def _row(step: Step) -> dict[str, float]:
    return asdict(step) | {"seconds": step.seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--lora", type=int, default=0, metavar="RANK", help="train an adapter (0: all weights)")
    parser.add_argument("--trajectories", type=int, default=12)
    parser.add_argument("--turns", type=int, default=2, help="of each trajectory")
    parser.add_argument("--branches", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=16, help="of a completion, at most")
    parser.add_argument("--simulated", type=int, nargs="+", default=[64, 512], help="trajectories in a step")
    parser.add_argument("--quick", action="store_true", help="the micro model and six short trajectories")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON results")
    for name, kind in (("work", str), ("processes", int), ("threads", int), ("export", str)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        worker(options)
        return
    if options.quick:
        options.model, options.trajectories, options.branches, options.tokens = str(MICRO), 6, 2, 6
    with tempfile.TemporaryDirectory() as place:
        entry = compare(options, Path(place))
    results.save(options.out, "bench_scaling", entry)
    print(results.scaling_table(entry), flush=True)


if __name__ == "__main__":
    main()
