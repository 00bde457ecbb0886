"""The benchmark harness: its arithmetic by hand, and every peer against plain rows before any time is believed."""

import json
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import bench_iteration
import contest
import flop_count
import flop_model
import loads
import measuring
import models
import options
import results
from peers import (
    continuous_batching,
    generate,
    hf_padded,
    hf_padding_free,
    pivotrl_engine,
    pivotrl_sampler,
    prefix_grouper,
    trl_grpo,
    trl_tree,
    vllm_server,
)

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CPU = torch.device("cpu")
LOAD = loads.Load("tiny", 41, 3, 3, 7, 0.6)


def small_model(width=32, heads=4):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        initializer_range=0.3,  # far from uniform outputs, so that a wrong mask or position shows
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


def with_adapter(model):
    adapted = models.with_lora(model, 4)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:  # zero at the start, which would hide the gradient of A
            torch.nn.init.normal_(parameter, std=0.2)
    return adapted.eval()


def gradients(model, step, items, advantages):
    model.zero_grad(set_to_none=True)
    loss = step(items, advantages)
    return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def segment_attention(query, key, value, cu_q, cu_k, max_q, max_k, *, softmax_scale, causal, window_size):
    """What the flash kernel computes, segment by segment: causal, aligned at the end of the keys."""
    outputs = []
    for q0, q1, k0, k1 in zip(cu_q[:-1], cu_q[1:], cu_k[:-1], cu_k[1:], strict=True):
        own, seen = int(q1 - q0), int(k1 - k0)
        mask = torch.ones(own, seen, dtype=torch.bool).tril(seen - own)
        q, k, v = (x.transpose(0, 1)[None] for x in (query[q0:q1], key[k0:k1], value[k0:k1]))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=softmax_scale, enable_gqa=True)
        outputs.append(out[0].transpose(0, 1))
    return torch.cat(outputs)


def one_row_at_a_time(model):
    """The oracle: every completion alone behind its prompt, full logits, nothing clever."""

    def step(items, advantages):
        total = sum(item.num_scored for item in items)
        loss = torch.zeros(())
        for item, values in zip(items, advantages, strict=True):
            for completion, advantage in zip(item.completions, values, strict=True):
                ids = torch.tensor([[*item.prompt, *completion]])
                logprobs = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0, :-1], dim=-1)
                chosen = logprobs.gather(1, ids[0, 1:, None])[len(item.prompt) - 1 :, 0]
                loss = loss - advantage * torch.exp(chosen - chosen.detach()).sum() / total
        loss.backward()
        return loss.item()

    return step


PEERS = {
    "hf padded, alone": lambda m, t: hf_padded.prepare(m, t, 1),
    "hf padded, mixed rows": lambda m, t: hf_padded.prepare(m, t, 4),
    "hf padding-free": lambda m, t: hf_padding_free.prepare(m, t, 4),
    "prefix grouper, one group": lambda m, t: prefix_grouper.prepare(m, t, 1),
    "prefix grouper, mixed groups": lambda m, t: prefix_grouper.prepare(m, t, 2),
    "trl grpo": lambda m, t: trl_grpo.prepare(m, t, 4),
    "trl tree": lambda m, t: trl_tree.prepare(m, t, 8192, kernel=segment_attention),
    "trl tree, several rows": lambda m, t: trl_tree.prepare(m, t, 60, kernel=segment_attention),
    "engine": lambda m, t: pivotrl_engine.prepare(m, t, 64),
}


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", PEERS)
def test_a_peer_computes_the_loss_and_gradient_of_plain_rows(name, lora):
    model = with_adapter(small_model()) if lora else small_model()
    items = loads.make_items(LOAD, 97)
    advantages = loads.make_advantages(items)
    expected_loss, expected = gradients(model, one_row_at_a_time(model), items, advantages)
    try:
        step = PEERS[name](model, models.numbered_tokenizer(97))
    except measuring.NotAvailable as reason:
        pytest.skip(str(reason))
    loss, found = gradients(model, step, items, advantages)
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    assert found.keys() == expected.keys() and len(found) > 5
    for key, gradient in expected.items():
        assert (found[key] - gradient).norm() <= 1e-4 * gradient.norm(), key


# Loads and the FLOP model


def test_counts_of_nested_prompts_by_hand():
    # prompts of 10 and 20 tokens, two branches of 3 each
    counts = loads.count_tokens(loads.lengths(loads.Load("x", 20, 2, 2, 3)))
    assert (counts.logical, counts.grouped, counts.unique) == (72, 42, 32)


def test_prompts_are_nested_and_branches_vary_around_their_mean():
    load = loads.Load("x", 64, 4, 200, 50, 0.5)
    items = loads.make_items(load, 97)
    for shorter, longer in pairwise(items):
        assert longer.prompt[: len(shorter.prompt)] == shorter.prompt
    lengths = [len(completion) for item in items for completion in item.completions]
    assert len(set(lengths)) > 50 and sum(lengths) / len(lengths) == pytest.approx(50, rel=0.1)
    assert loads.make_items(load, 97) == items
    assert min(token for item in items for token in item.prompt) >= 3


@pytest.mark.parametrize("text", ["W9", "1,2,3", "4,8,2,2", "10,0,1,1", "a,b,c,d"])
def test_a_load_that_is_none_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=text):
        loads.parse_load(text)


def test_update_flops_by_hand():
    costs = flop_model.Costs(dense=10.0, attention=4.0, head=6.0)
    sizes = [(2, [1, 1]), (4, [2])]
    # shared: 4 + 4 tokens; 4*4/2 pairs of the trunk, branches 2 * (1*2 + 1/2) + (2*4 + 2); 4 scored
    forward = 10 * 8 + 4 * (8 + 5 + 10) + 6 * 4
    assert flop_model.work_of("shared", sizes).forward(costs) == forward
    assert flop_model.update_flops("shared", sizes, costs) == forward + 20 * 8 + 10 * 23 + 12 * 4
    assert flop_model.update_flops("shared", sizes, costs, adapter=True) == forward + 10 * 8 + 10 * 23 + 6 * 4
    # grouped: the first prompt once more; naive: rows of 3, 3 and 6
    assert flop_model.work_of("grouped", sizes) == flop_model.Work(10, 8 + 2 + 15, 4)
    assert flop_model.work_of("naive", sizes) == flop_model.Work(12, 4.5 + 4.5 + 18, 4)
    # prefill of the trunk once, then the branches
    assert flop_model.sampling_flops("trunk", sizes, costs) == forward
    assert flop_model.sampling_flops("rows", sizes, costs) == 10 * (8 + 4) + 4 * (2 + 2 + 8 + 15) + 6 * 4


QWEN3_8B = {  # load: update naive and grouped, iteration naive, grouped and tree packer, over ours (design note, 2)
    "W0": (11.7, 1.00, 14.5, 1.50, 1.50),
    "W1": (15.5, 2.43, 17.7, 3.00, 1.40),
    "W2": (16.5, 1.56, 18.7, 2.02, 1.39),
    "W3": (21.0, 1.86, 23.7, 2.34, 1.37),
    "W4": (26.3, 2.38, 28.1, 2.76, 1.31),
    "W5": (11.1, 1.79, 13.1, 2.36, 1.44),
}


@pytest.mark.parametrize("name", QWEN3_8B)
def test_the_model_gives_the_ratios_of_the_design_note(name):
    costs, sizes = flop_model.costs_of(models.SHAPES["random:qwen3-8b"]()), loads.lengths(loads.LOADS[name])
    update = {method: flop_model.update_flops(method, sizes, costs) for method in ("naive", "grouped", "shared")}
    iteration = {method: flop_model.iteration_flops(method, sizes, costs) for method in ("naive", "grouped", "shared")}
    least = flop_model.least_iteration_flops(sizes, costs)
    found = (
        update["naive"] / update["shared"],
        update["grouped"] / update["shared"],
        *(iteration[method] / least for method in ("naive", "grouped", "shared")),
    )
    assert found == pytest.approx(QWEN3_8B[name], rel=5e-3)


def test_costs_of_a_configuration_by_hand():
    costs = flop_model.costs_of(small_model().config)
    per_layer = 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 48  # query and output, key and value (2 of 4 heads), MLP
    assert costs == flop_model.Costs(dense=2 * 2 * per_layer, attention=4 * 2 * 4 * 8, head=2 * 32 * 97)


# What is counted


@pytest.mark.parametrize(("name", "method"), [("hf padded, alone", "naive"), ("engine", "shared")])
def test_counted_operations_are_those_of_the_model(name, method):
    model, load = small_model(), loads.Load("x", 192, 3, 3, 24)
    items = loads.make_items(load, 97)
    step = PEERS_TO_COUNT[name](model)
    counted = flop_count.count_flops(lambda: step(items, loads.make_advantages(items)))
    predicted = flop_model.update_flops(method, loads.lengths(load), flop_model.costs_of(model.config))
    assert counted == pytest.approx(predicted, rel=0.05)


PEERS_TO_COUNT = {
    "hf padded, alone": lambda model: hf_padded.prepare(model, None, 1),
    "engine": lambda model: pivotrl_engine.prepare(model, None, 8192),
}


def test_attention_counts_what_the_kernel_visits():
    q, k = torch.randn(1, 2, 6, 8), torch.randn(1, 2, 6, 8)
    attention = torch.nn.functional.scaled_dot_product_attention
    assert flop_count.count_flops(lambda: attention(q, k, k, is_causal=True)) == 4 * 2 * 8 * 21
    assert flop_count.count_flops(lambda: attention(q, k, k)) == 4 * 2 * 8 * 36
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    assert flop_count.count_flops(lambda: attention(q, k, k, mask)) == 4 * 2 * 8 * 36
    assert flop_count.visible_pairs(2, 5, causal=True) == 4 + 5


# Measuring


def test_contestants_take_turns_in_abba_order():
    seen = []
    contestants = {name: lambda repetition, name=name: seen.append((name, repetition)) for name in "ab"}
    times = measuring.interleave(contestants, 3, CPU, between=lambda: seen.append("-"))
    assert [entry for entry in seen if entry != "-"] == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert seen.count("-") == 6 and {len(each) for each in times.values()} == {3}


def test_the_interval_holds_the_ratio_and_grows_with_the_noise():
    base = [1.0, 1.1, 0.9, 1.0, 1.05]
    ratio, low, high = measuring.ratio_interval([3 * t for t in base], base)
    assert (ratio, low, high) == pytest.approx((3, 3, 3))  # pairs that move together leave no doubt
    ratio, low, high = measuring.ratio_interval([2.0, 4.0, 3.0, 2.5, 6.0], base)
    assert ratio == 3 and 2 <= low < 3 < high <= 6
    with pytest.raises(ValueError, match="1 and 2 repetitions"):
        measuring.ratio_interval([1.0], [1.0, 2.0])


def test_peak_memory_is_what_the_work_held_at_once():
    def work():
        block = torch.ones(25_000_000)  # 100 MB
        return (block + 1).sum()  # and as much again

    assert 190e6 < measuring.peak_bytes(work, CPU) < 260e6


def test_the_fastest_size_wins_and_one_that_does_not_fit_ends_the_search():
    def prepare(size):
        def run(_):
            if size == 8:
                raise torch.OutOfMemoryError
            time.sleep(0.02 / size)

        return run

    contestant = contest.Contestant("x", prepare, 1.0, sizes=(1, 2, 4, 8))
    assert contest.choose_size(contestant, None, CPU) == 4
    assert contest.choose_size(contestant, 2, CPU) == 2
    with pytest.raises(measuring.NotAvailable, match="out of memory"):
        contest.choose_size(contest.Contestant("x", prepare, 1.0, sizes=(8, 16)), None, CPU)


def test_who_cannot_run_is_named_with_the_reason_and_the_others_compare():
    def missing(_):
        raise measuring.NotAvailable("not installed: x")

    contestants = [
        contest.Contestant("absent", missing, 2.0),
        contest.Contestant("here", lambda _: lambda _: None, 1.0),
    ]
    absent, here = contest.compare(contestants, "absent", CPU, 2, 1, {}, 1.0, lambda: None)
    assert absent["reason"] == "not installed: x" and "seconds" not in absent
    assert here["ratio"] == pytest.approx((1, 1, 1)) and here["predicted_ratio"] == 1


# Results


ENTRY = {
    "load": "S (512,4,8,32)",
    "model": "tiny",
    "trained": "all weights",
    "tokens": {"logical": 3000, "grouped": 2000, "unique": 1000},
    "bound_seconds": 0.5,
    "bound": "1 TFLOP",
    "command": "python benchmarks/bench_update.py",
    "machine": {"processor": "P", "device": "cpu", "threads": 1, "cores": 2, "dtype": "float32", "date": "2026-01-01",
                "versions": {"torch": "2"}},
    "rows": [
        {"name": "pivotrl", "seconds": [1.0], "median_seconds": 1.0, "ratio": [1, 1, 1], "predicted_ratio": 1.0,
         "base": "pivotrl", "fraction_of_bound": 0.5, "flops": 2e12, "peak_bytes": 3e6, "micro_batch": 4},
        {"name": "absent", "predicted_flops": 1, "reason": "not installed: x"},
    ],
}  # fmt: skip


def test_a_run_replaces_its_entry_and_keeps_the_others(tmp_path):
    results.save(tmp_path, "bench_update", ENTRY)
    results.save(tmp_path, "bench_update", ENTRY | {"load": "W5"})
    path = results.save(tmp_path, "bench_update", ENTRY | {"bound": "again"})
    assert [(e["load"], e["bound"]) for e in json.loads(path.read_text())] == [
        ("W5", "1 TFLOP"),
        (ENTRY["load"], "again"),
    ]


def test_tables_go_between_their_markers_and_nothing_else_changes():
    table = results.table(ENTRY)
    assert "| pivotrl | 1 | 1.00 [1.00, 1.00] | 1.00 (100%) | 2 | 3 | 50% | micro-batch 4 |" in table
    assert "| absent | | | | | | | not installed: x |" in table
    document = "before\n<!-- bench_update -->\nold\n<!-- end -->\nbetween\n<!-- bench_decode -->\nkept\n<!-- end -->\n"
    filled = results.fill(document, {"bench_update": [table]})
    assert filled.startswith("before\n") and "old" not in filled and table in filled
    assert filled.endswith("\nbetween\n<!-- bench_decode -->\nkept\n<!-- end -->\n")
    assert results.fill(filled, {"bench_update": [table]}) == filled
    with pytest.raises(ValueError, match="bench_update.*end"):
        results.fill("<!-- bench_update -->", {"bench_update": [table]})


# Sampling


SAMPLERS = {
    "pivotrl": pivotrl_sampler.prepare,
    "generate": generate.prepare,
    "generate-expanded": generate.prepare_expanded,
    "continuous-batching": continuous_batching.prepare,
    "vllm": vllm_server.prepare,
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_draws_from_the_model_at_temperature_one(name):
    """Sampled log-probabilities average to minus the entropy of where they were drawn; a wrong position, a wrong cache
    or a filter shows as a sum far outside its standard deviation."""
    model = small_model(width=128, heads=2)
    prompts = [item.prompt for item in loads.make_items(loads.Load("x", 70, 2, 1, 1), 97)]
    try:
        drawn = SAMPLERS[name](model, models.numbered_tokenizer(97))(prompts, 60, 6)
    except measuring.NotAvailable as reason:
        pytest.skip(str(reason))
    assert [len(group) for group in drawn] == [60, 60]
    assert all(len(sample) == 6 for group in drawn for sample in group)
    total = variance = 0.0
    for prompt, group in zip(prompts, drawn, strict=True):
        ids = torch.tensor([[*prompt, *sample] for sample in group])
        with torch.no_grad():
            logprobs = torch.log_softmax(model(ids).logits[:, len(prompt) - 1 : -1].double(), dim=-1)
        entropy = -(logprobs.exp() * logprobs).sum(-1)
        spread = (logprobs.exp() * logprobs.square()).sum(-1) - entropy.square()
        chosen = logprobs.gather(-1, ids[:, len(prompt) :, None])[..., 0]
        total += (chosen + entropy).sum().item()
        variance += spread.sum().item()
    assert abs(total) < 5 * variance**0.5
    assert len({tuple(sample) for group in drawn for sample in group}) > 100


# The scripts


def iteration_bench():
    model = small_model()
    setting = options.Setting(model, models.numbered_tokenizer(97), CPU, torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    return bench_iteration.Bench(setting, loads.Load("x", 12, 3, 4, 5), 2, optimizer)


def test_the_trainer_of_trl_samples_the_given_prompts_and_trains_on_all_it_drew():
    bench = iteration_bench()
    try:
        iterate = bench_iteration.WithTrl(bench, 4)
    except measuring.NotAvailable as reason:
        pytest.skip(str(reason))
    items = loads.make_items(bench.load, 97)
    assert iterate(items).keys() == {"profile", "sample", "update"}
    rows = []
    for batch in iterate.trainer._buffered_inputs:
        assert batch["completion_mask"].tolist() == [[1] * 5] * 4
        for ids, mask in zip(batch["prompt_ids"], batch["prompt_mask"], strict=True):
            rows.append(ids[mask.bool()].tolist())
        assert batch["advantages"].abs().min() > 0.5
    assert sorted(rows) == sorted(item.prompt for item in items for _ in range(4))
    assert all(p.grad.abs().sum() > 0 for p in bench.setting.model.parameters())


@pytest.mark.parametrize("name", ["pivotrl", "hf-naive"])
def test_an_iteration_profiles_samples_and_updates(name):
    bench = iteration_bench()
    phases = bench_iteration.METHODS[name].make(bench, 8)(loads.make_items(bench.load, 97))
    assert phases.keys() == {"profile", "sample", "update"} and min(phases.values()) > 0
    assert all(p.grad.abs().sum() > 0 for p in bench.setting.model.parameters())


@pytest.mark.parametrize(
    ("script", "contestants", "extra"),
    [
        ("bench_update", ["pivotrl", "trl-tree"], []),
        pytest.param(
            "bench_update", ["hf-padded", "pivotrl"], ["--lora", "4", "--spread", "0.5"], marks=pytest.mark.slow
        ),
        pytest.param("bench_decode", ["pivotrl", "generate"], [], marks=pytest.mark.slow),
        pytest.param("bench_iteration", ["pivotrl", "hf-naive"], [], marks=pytest.mark.slow),
    ],
)
def test_a_script_runs_from_end_to_end(script, contestants, extra, tmp_path):
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--model", "tiny", "--loads", "T", "--threads", "1"]
    command += ["--repetitions", "2", "--out", str(tmp_path), "--contestants", *contestants, *extra]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (entry,) = json.loads((tmp_path / f"{script}.json").read_text())
    rows = {row["name"]: row for row in entry["rows"]}
    assert rows.keys() == set(contestants)
    for name in set(contestants) - {"trl-tree"}:
        assert len(rows[name]["seconds"]) == 2 and rows[name]["flops"] > 0 and rows[name]["peak_bytes"] > 0
        assert rows[name].get("gradient_error", 0) < 1e-4
        assert f"| {name} |" in result.stdout
    if "trl-tree" in rows:
        assert "CUDA" in rows["trl-tree"]["reason"]
    assert entry["tokens"]["unique"] < entry["tokens"]["grouped"] < entry["tokens"]["logical"]


@pytest.mark.slow
def test_played_episodes_run_from_end_to_end_and_go_on(tmp_path):
    """The real tokenizer and one layer of the real model; a second run adds to the pairs of the first."""
    command = [sys.executable, str(BENCHMARKS / "bench_episodes.py"), "--layers", "1", "--threads", "1", "--go-on"]
    command += ["--episodes", "2", "--turns", "3", "--observation", "40", "--action", "4", "--repetitions", "1"]
    for pairs in (1, 2):
        result = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        (entry,) = json.loads((tmp_path / "bench_episodes.json").read_text())
        assert [len(row["seconds"]) for row in entry["rows"]] == [pairs, pairs]
    kept, anew = entry["rows"]
    assert kept["prefilled"] < 0.6 * anew["prefilled"] and kept["kept_bytes"] > 0 == anew["kept_bytes"]
    assert kept["same_samples"] == [6, 6]
    assert "| anew |" in result.stdout
