"""The same code on CUDA: run by `make test-gpu` where there is a GPU, deselected (and counted) elsewhere."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, LlamaConfig

import test_episode_trunks as episodes
from pivotrl import cut, train
from pivotrl.engine import cuda_graphs
from pivotrl.engine.cuda_graphs import cuda_graph
from pivotrl.engine.executors import make_executor
from pivotrl.engine.flash_cuda import FlashCuda
from pivotrl.engine.items import Item
from pivotrl.engine.kernels import Math, kernel_for
from pivotrl.engine.memory import kept_bytes_per_token
from pivotrl.engine.sampling import draw
from pivotrl.engine.split_attention import NAME
from pivotrl.engine.visibility import Sight, Spans
from pivotrl.policies.hf import Policy
from pivotrl.protocols import TrainingGroup, UpdateOptions
from pivotrl.records import Sampling
from test_training import SMALL, even_length, logs
from tiny import save_tiny_model
from tiny_models import SPLIT, make_model, random_items, weights_of

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def gradients(model, executor_name: str, seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """(log-probabilities, gradients), on the CPU in fp32."""
    items = random_items(seed)
    weights_S = weights_of(items).to(model.device)
    model.zero_grad(set_to_none=True)
    scored = make_executor(executor_name, model, 40).score(
        items, loss=lambda part: (weights_S[part.index_S] * part.logprobs_S).sum()
    )
    found = {name: p.grad.float().cpu() for name, p in model.named_parameters() if p.grad is not None}
    return scored.logprobs_S.float().cpu(), found


def error(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    off = sum(float((found[name] - gradient).pow(2).sum()) for name, gradient in expected.items())
    return (off / sum(float(gradient.pow(2).sum()) for gradient in expected.values())) ** 0.5


@pytest.mark.parametrize("family", SPLIT)
def test_split_on_cuda_has_the_gradient_of_rows(family: str) -> None:
    """fp32 goes through the written-out kernel, bf16 through flash attention: no further off than naive bf16."""
    exact = make_model(family)
    for seed in range(4):
        logprobs_S, expected = gradients(exact, "reference", seed)
        single = make_model(family).cuda()
        torch.testing.assert_close(gradients(single, "split", seed)[0], logprobs_S, rtol=0.0, atol=1e-3)
        assert error(gradients(single, "split", seed)[1], expected) < 1e-3
    errors = {"reference": 0.0, "split": 0.0}
    half = make_model(family, torch.bfloat16).cuda()
    for seed in range(10, 18):
        _, expected = gradients(exact, "reference", seed)
        for name in errors:
            errors[name] += error(gradients(half, name, seed)[1], expected)
    assert errors["split"] < 1.2 * errors["reference"]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_sampler_on_cuda_reports_its_own_probabilities(family: str, dtype: torch.dtype) -> None:
    network = make_model(family, dtype).cuda()
    prompts = [list(range(3, 3 + length)) for length in (30, 12, 13, 1)]
    with torch.no_grad():
        drawn = draw(network, prompts, [f"t{i}" for i in range(4)], 8, Sampling(max_tokens=40), frozenset({2}))
    items = [Item(prompt, [one.token_ids_T for one in group]) for prompt, group in zip(prompts, drawn, strict=True)]
    expected = make_executor("reference", network).score(items).logprobs_S.float().cpu()
    sampled = torch.tensor([logprob for group in drawn for one in group for logprob in one.logprobs_T])
    assert (sampled - expected).abs().mean() < (1e-3 if dtype == torch.float32 else 0.05)


AMPERE = pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0), reason="flash attention wants Ampere"
)

# --- the flash kernel -------------------------------------------------------------------------------------------------


@AMPERE
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("heads", [(4, 4), (6, 2)])
@pytest.mark.parametrize(
    ("sight", "rows", "columns"),
    [
        (Sight(0.125), 70, 300),
        (Sight(0.125), 1, 300),
        (Sight(0.125, causal=True), 300, 300),
        (Sight(0.125, causal=True, window=40), 300, 300),
    ],
)
def test_flash_attention_is_the_written_out_one(dtype, heads, sight: Sight, rows: int, columns: int) -> None:
    """Outputs, log-sum-exps and gradients, the latter for merged rows; no further off than half precision is."""
    generator = torch.Generator("cuda").manual_seed(0)

    def numbers(count: int, length: int) -> torch.Tensor:
        return torch.randn(3, count, length, 64, generator=generator, device="cuda")

    query, key, value = numbers(heads[0], rows), numbers(heads[1], columns), numbers(heads[1], columns)
    grad = numbers(heads[0], rows)
    half = [t.to(dtype) for t in (query, key, value, grad)]
    assert isinstance(kernel_for(half[0], sight), FlashCuda)
    wide = [t.float() for t in half]
    expected, expected_lse = Math().forward(*wide[:3], sight)
    found, lse = FlashCuda().forward(*half[:3], sight)
    torch.testing.assert_close(lse, expected_lse, rtol=0.0, atol=5e-3)
    torch.testing.assert_close(found.float(), expected, rtol=0.0, atol=2e-2)
    merged, merged_lse = expected + 0.1, expected_lse + 0.7
    for one, other in zip(
        FlashCuda().backward(half[3], *half[:3], merged.to(dtype), merged_lse, sight),
        Math().backward(wide[3], *wide[:3], merged, merged_lse, sight),
        strict=True,
    ):
        assert (one.float() - other).norm() < 2e-2 * other.norm()


@AMPERE
def test_flash_attention_sees_no_padding() -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    query, key, value = (
        torch.randn(4, 2, n, 64, generator=generator, device="cuda", dtype=torch.bfloat16) for n in (3, 96, 96)
    )
    length_B = torch.tensor([1, 31, 64, 96], dtype=torch.int32, device="cuda")
    found, lse = FlashCuda().forward(query, key, value, Sight(0.125, length_B=length_B))
    expected, expected_lse = Math().forward(query.float(), key.float(), value.float(), Sight(0.125, length_B=length_B))
    torch.testing.assert_close(lse, expected_lse, rtol=0.0, atol=5e-3)
    torch.testing.assert_close(found.float(), expected, rtol=0.0, atol=2e-2)


@AMPERE
@pytest.mark.parametrize("each", [[(300, 0, 40), (200, 40, 900), (7, 900, 1000)], [(3, 100, 400), (70, 700, 900)]])
def test_spans_go_through_one_launch(each: list[tuple[int, int, int]]) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    rows = sum(number for number, _, _ in each)
    query, key, value = (
        torch.randn(1, 3, n, 64, generator=generator, device="cuda", dtype=torch.bfloat16) for n in (rows, 1000, 1000)
    )
    spans, masks = Spans.of(each, 1000, query.device), [None] * len(each)
    found, lse = FlashCuda().forward_spans(query, key, value, spans, 0.125, masks)
    wide = [t.float() for t in (query, key, value)]
    expected, expected_lse = Math().forward_spans(*wide, spans, 0.125, masks)
    torch.testing.assert_close(lse, expected_lse, rtol=0.0, atol=5e-3)
    torch.testing.assert_close(found.float(), expected, rtol=0.0, atol=2e-2)


# --- CUDA graphs ------------------------------------------------------------------------------------------------------


def decode(network, capture, stop: frozenset[int]):
    prompts = [list(range(3, 3 + length)) for length in (40, 12, 13, 1)]
    with torch.no_grad():
        groups = draw(network, prompts, [f"t{i}" for i in range(4)], 16, Sampling(max_tokens=90), stop, capture=capture)
    return [one for group in groups for one in group]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stop", [frozenset({2}), frozenset(range(2, 6))])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma3", "mistral, beyond its window"])
def test_graphs_replay_what_the_step_does(family: str, stop: frozenset[int], dtype: torch.dtype, caplog) -> None:
    """The tokens of static buffers without a graph, and in fp32 those of the CPU without static buffers."""
    cuda_graphs._warn.cache_clear()
    replays = []

    def counted(step):
        replay = cuda_graph(step)

        def one():
            replays.append(1)
            return replay()

        return one

    network = make_model(family, dtype).cuda()
    graphs, launches = decode(network, counted, stop), decode(network, lambda step: step, stop)
    assert replays and "without CUDA graphs" not in caplog.text
    for others in [launches, *([decode(make_model(family), None, stop)] if dtype == torch.float32 else [])]:
        same = [(one, other) for one, other in zip(graphs, others, strict=True) if one.token_ids_T == other.token_ids_T]
        assert len(same) >= 0.9 * len(graphs)  # rounding tips a token now and then
        for one, other in same:
            assert one.logprobs_T == pytest.approx(other.logprobs_T, abs=1e-3 if dtype == torch.float32 else 0.1)


def test_graphs_take_the_launches_out_of_decoding() -> None:
    """Ten layers, 64 branches of 200 tokens: prints steps and launches per second with and without graphs."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 10, "num_attention_heads": 8}
    config = LlamaConfig(vocab_size=4096, num_key_value_heads=2, max_position_embeddings=2048, **sizes)
    network = AutoModelForCausalLM.from_config(config, attn_implementation=NAME, dtype=torch.bfloat16).cuda().eval()
    prompts = [list(range(3, 3 + length)) for length in (1500, 1000, 500, 200)]

    def run(capture) -> float:
        start = time.perf_counter()
        with torch.no_grad():
            draw(network, prompts, list("abcd"), 16, Sampling(max_tokens=200), frozenset(), capture=capture)
        torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds = {}
    for name, capture in (("launch by launch", lambda step: step), ("graphs", cuda_graph)):
        run(capture)
        seconds[name] = min(run(capture) for _ in range(3))
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
            run(capture)
        starts = ("cudaLaunch", "cuLaunch", "cudaGraphLaunch")
        launches = sum(event.count for event in profiled.key_averages() if event.key.startswith(starts))
        steps = 200 / seconds[name]
        print(f"\n{name}: {steps:.0f} steps/s, {launches / 200:.0f} launches a step, {steps * launches / 200:.0f}/s")
    assert seconds["graphs"] < seconds["launch by launch"]


def test_a_record_that_fails_leaves_the_process_as_it_was() -> None:
    """Our own stream goes on, and another step can be recorded after it."""
    numbers, before = torch.ones(4, device="cuda"), torch.cuda.current_stream()
    with pytest.raises(RuntimeError):
        cuda_graph(lambda: numbers * numbers[0].item())
    assert torch.cuda.current_stream() == before
    replay = cuda_graph(lambda: numbers * 2)
    numbers.fill_(3.0)
    assert replay().tolist() == [6.0] * 4


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_kept_episodes_draw_the_same_from_recorded_steps(family: str) -> None:
    network = make_model(family).cuda()
    expected = episodes.Game().play(network, length=40)
    found = episodes.kept(episodes.Game(), network, length=40)
    assert sum(map(sum, found.prefilled)) < sum(sum(map(len, prompts)) for prompts in found.prompts)
    episodes.assert_same(found, expected, 1e-3)


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_counted_activations_are_those_of_the_device(family: str) -> None:
    """What a pass of 192 tokens holds after its forward, beside what one of 64 does."""
    network = make_model(family, torch.bfloat16).cuda()
    held = []
    for length in (64, 64, 192):  # the first warms libraries up
        input_ids = torch.arange(length, device="cuda")[None] % 60
        before = torch.cuda.memory_allocated()
        graph = network.get_decoder()(input_ids=input_ids, use_cache=False)
        held.append(torch.cuda.memory_allocated() - before)
        del graph
    # Each tensor is rounded up to 512 bytes, and these are small.
    assert kept_bytes_per_token(network) == pytest.approx((held[2] - held[1]) / 128, rel=0.25)


# --- the policy -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("tiny")))


def test_cuda_samples_and_gradients_are_those_of_the_cpu(model: str) -> None:
    turns, _ = cut(logs())
    policies = {name: Policy(model=model, lora_rank=0, dtype="float32", device=name) for name in ("cpu", "cuda")}
    groups = {name: list(policy.sample(turns, 4, Sampling(max_tokens=12))) for name, policy in policies.items()}
    drawn = {name: [c.token_ids_T for g in found for c in g.completions_G] for name, found in groups.items()}
    batch = [
        TrainingGroup(turn, group.completions_G, [1.0, -1.0, 1.0, -1.0])
        for turn, group in zip(turns, groups["cpu"], strict=True)
    ]
    norms = {name: policy.update(batch, 1e-3, UpdateOptions())["gradient/norm"] for name, policy in policies.items()}
    same = sum(a == b for a, b in zip(drawn["cpu"], drawn["cuda"], strict=True))
    assert same >= len(drawn["cpu"]) - 1  # rounding may tip one token in a rare case
    assert norms["cuda"] == pytest.approx(norms["cpu"], rel=0.05)


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_training_runs_in_bf16_and_resumes(model: str, tmp_path: Path, lora_rank: int) -> None:
    policy = Policy(model=model, lora_rank=lora_rank, device="cuda")
    assert policy.model.dtype == torch.bfloat16
    rows = train(policy, cut(logs())[0], even_length, tmp_path, SMALL)
    assert len(rows) == SMALL.num_steps
    again = Policy(model=model, lora_rank=lora_rank, device="cuda")
    assert train(again, cut(logs())[0], even_length, tmp_path, SMALL) == rows
