"""The CUDA kernel without a GPU: its operators' signatures, and what we pass to them, against written-out attention.

Read in PyTorch 2.13 (torch/nn/attention/varlen.py and, for the operators below it, ATen's flash_api.cpp):

- `_varlen_attn` calls `aten::_flash_attention_forward`. Query [sum of rows, H, D], keys [sum of keys, Hkv, D], grouped
  heads included; boundaries int32 on the device; the largest lengths are plain integers. The log-sum-exp is fp32,
  [H, sum of rows] (the docstring of `varlen_attn` says [rows, H]; the fake kernel and the C++ say otherwise).
- `is_causal` sets the right window to 0 and aligns rows and keys at their ends, so it fits as many keys as rows. A
  window (w, 0) shows w keys before the row's own; transformers counts the row's own, so we pass w - 1.
- `seqused_k`: int32 [sequences], contiguous, on the device; takes the place of a sequence's key length and is not cut
  to it. Forward only, which holds for decoding.
- Half precision only, head sizes that are multiples of 8 and at most 256, compute capability 8.0: it raises otherwise
  and pads nothing, so `kernel_for` looks elsewhere.
- One row a sequence and grouped heads make the forward take heads for rows; it puts output and log-sum-exp back.
- `_varlen_attn_backward` takes gradient, output and log-sum-exp as given and computes sum(gradient * output) itself, so
  those of merged rows are right. The gradient must have the query's dtype. Results have the layout of query, key and
  value; those of grouped keys are summed inside. `rng_state` is read with dropout only. There is no `seqused_k`.
- The backward adds d query up with atomics unless deterministic algorithms are asked for: bits may differ between runs.

Run on a GPU: tests/test_gpu.py.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from functools import partial
from itertools import chain

import pytest
import torch

from pivotrl.engine import flash_cuda, split_attention, trunk_attention
from pivotrl.engine.cuda_graphs import HostWatch
from pivotrl.engine.decoder import forward as split_forward
from pivotrl.engine.executors import make_executor
from pivotrl.engine.executors.split import SplitExecutor
from pivotrl.engine.flash_cuda import FlashCuda, fits
from pivotrl.engine.forest import SortedSequences, build_forest
from pivotrl.engine.kernels import FlashCpu, Math, merge
from pivotrl.engine.sampling import draw
from pivotrl.engine.split_attention import TrunkState
from pivotrl.engine.static_decoding import StaticPass
from pivotrl.engine.visibility import Sight, Spans
from pivotrl.records import Sampling
from tape import tape
from tiny_models import make_model, random_items, weights_of

varlen = pytest.importorskip("torch.nn.attention.varlen", reason="this PyTorch has no variable-length attention")

FORWARD = (
    "torch_attn::_varlen_attn(Tensor query, Tensor key, Tensor value, Tensor cu_seq_q, Tensor? cu_seq_k, SymInt max_q, "
    "SymInt max_k, bool is_causal=False, float? scale=None, SymInt[]? window_size=None, bool enable_gqa=False, "
    "Tensor? seqused_k=None, Tensor? block_table=None, SymInt? num_splits=None) -> (Tensor, Tensor, Tensor)"
)
BACKWARD = (
    "torch_attn::_varlen_attn_backward(Tensor grad_out, Tensor query, Tensor key, Tensor value, Tensor out, "
    "Tensor lse, Tensor cu_seq_q, Tensor cu_seq_k, SymInt max_q, SymInt max_k, bool is_causal, Tensor rng_state, "
    "float? scale=None, SymInt[]? window_size=None) -> (Tensor, Tensor, Tensor)"
)


@pytest.mark.parametrize(("name", "expected"), [("_varlen_attn", FORWARD), ("_varlen_attn_backward", BACKWARD)])
def test_the_operators_have_the_signature_that_was_read(name, expected):
    """Another one wants another reading: of the list above, then of FlashCuda."""
    assert str(getattr(torch.ops.torch_attn, name).default._schema) == expected


@pytest.mark.parametrize(
    ("dtype", "size", "taken"),
    [
        (torch.bfloat16, 64, True),
        (torch.float16, 256, True),
        (torch.float32, 64, False),
        (torch.bfloat16, 60, False),
        (torch.bfloat16, 264, False),
    ],
)
def test_what_the_operators_refuse_is_not_given_to_them(dtype, size, taken):
    assert fits(dtype, size) == taken


# --- what we pass -----------------------------------------------------------------------------------------------------


def sequences(query, key, cu_q, cu_k, causal, left, right, used):
    """(rows, keys, hidden [n, M]) of each sequence, as the operators count them."""
    assert cu_q.dtype == cu_k.dtype == torch.int32
    assert cu_q[-1] == len(query) and cu_k[-1] == len(key)
    if causal:
        left, right = -1, 0
    for number, ((a, b), (c, d)) in enumerate(
        zip(itertools.pairwise(cu_q.tolist()), itertools.pairwise(cu_k.tolist()), strict=True)
    ):
        if used is not None:
            assert used.dtype == torch.int32 and used.is_contiguous() and len(used) == len(cu_k) - 1
            d = c + int(used[number])
        distance = torch.arange(b - a)[:, None] + (d - c) - (b - a) - torch.arange(d - c)
        hidden = torch.zeros(distance.shape, dtype=torch.bool)
        if left >= 0:
            hidden |= distance > left
        if right >= 0:
            hidden |= -distance > right
        yield slice(a, b), slice(c, d), hidden


def forward(
    query,
    key,
    value,
    cu_q,
    cu_k,
    max_q,
    max_k,
    dropout,
    causal,
    debug,
    *,
    scale=None,
    window_size_left=None,
    window_size_right=None,
    seqused_k=None,
    alibi_slopes=None,
    block_table=None,
    num_splits=None,
):
    """`aten::_flash_attention_forward`, written out."""
    assert max_q == int(cu_q.diff().max()) and max_k == int(cu_k.diff().max())
    output, lse = torch.zeros_like(query), torch.zeros(query.shape[1], len(query))
    group = query.shape[1] // key.shape[1]
    for rows, keys, hidden in sequences(query, key, cu_q, cu_k, causal, window_size_left, window_size_right, seqused_k):
        k, v = (t[keys].repeat_interleave(group, dim=1) for t in (key, value))
        scores = torch.einsum("nhd,mhd->hnm", query[rows], k) * scale
        scores = scores.masked_fill(hidden, -torch.inf)
        lse[:, rows] = scores.logsumexp(-1)
        output[rows] = torch.einsum("hnm,mhd->nhd", scores.softmax(-1), v)
    nothing = torch.zeros(2, dtype=torch.uint64)
    return output, lse, nothing, nothing.clone(), torch.zeros(0)


def backward(
    grad,
    query,
    key,
    value,
    output,
    lse,
    cu_q,
    cu_k,
    max_q,
    max_k,
    dropout,
    causal,
    rng_state,
    unused,
    *,
    scale=None,
    window_size_left=None,
    window_size_right=None,
):
    """`aten::_flash_attention_backward`, written out from the gradient, the output and the log-sum-exp."""
    assert grad.dtype == query.dtype and lse.shape == (query.shape[1], len(query)) and lse.is_contiguous()
    group = query.shape[1] // key.shape[1]
    d_query, d_key, d_value = (torch.zeros_like(t) for t in (query, key, value))
    for rows, keys, hidden in sequences(query, key, cu_q, cu_k, causal, window_size_left, window_size_right, None):
        k, v = (t[keys].repeat_interleave(group, dim=1) for t in (key, value))
        scores = torch.einsum("nhd,mhd->hnm", query[rows], k) * scale
        weights = torch.exp(scores.masked_fill(hidden, -torch.inf) - lse[:, rows, None])
        own = (grad[rows] * output[rows]).sum(-1).T[..., None]
        d_scores = weights * (torch.einsum("nhd,mhd->hnm", grad[rows], v) - own) * scale
        d_query[rows] = torch.einsum("hnm,mhd->nhd", d_scores, k)
        for whole, part in (
            (d_key, torch.einsum("hnm,nhd->mhd", d_scores, query[rows])),
            (d_value, torch.einsum("hnm,nhd->mhd", weights, grad[rows])),
        ):
            whole[keys] = part.unflatten(1, (-1, group)).sum(2)
    return d_query, d_key, d_value


@pytest.fixture
def on_the_cpu():
    """PyTorch's own Python down to the operators that have no CPU kernel; those are written out above."""
    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("_flash_attention_forward", forward, "CPU")
        library.impl("_flash_attention_backward", backward, "CPU")
        yield


def tensors(batch, heads, rows, columns, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((heads[0], rows), (heads[1], columns), (heads[1], columns))
    return [torch.randn(batch, h, n, 8, generator=generator) for h, n in shapes]


SIGHTS = {
    "all": (Sight(0.3), 5, 9),
    "one row": (Sight(0.3), 1, 9),
    "causal": (Sight(0.3, causal=True), 7, 7),
    "window": (Sight(0.3, causal=True, window=3), 7, 7),
    "window of one": (Sight(0.3, causal=True, window=1), 4, 4),
}


@pytest.mark.parametrize("heads", [(4, 4), (6, 2)])
@pytest.mark.parametrize("name", SIGHTS)
def test_forward_and_backward_pass_the_operators_what_they_mean(on_the_cpu, name, heads):
    sight, rows, columns = SIGHTS[name]
    query, key, value = tensors(3, heads, rows, columns)
    expected, expected_lse = Math().forward(query, key, value, sight)
    found, lse = FlashCuda().forward(query, key, value, sight)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)
    torch.testing.assert_close(lse, expected_lse, rtol=0.0, atol=1e-5)
    grad = torch.randn(query.shape, generator=torch.Generator().manual_seed(1))
    # Not the part's own output and log-sum-exp: those of rows that see more than this part.
    output, lse = expected + 0.1, expected_lse + 0.7
    for one, other in zip(
        FlashCuda().backward(grad, query, key, value, output, lse, sight),
        Math().backward(grad, query, key, value, output, lse, sight),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0.0, atol=1e-5)


def test_keys_behind_a_sequences_length_are_not_seen(on_the_cpu):
    """The keys that a decoding branch has room for and does not have yet."""
    query, key, value = tensors(3, (6, 2), 4, 9)
    sight = Sight(0.3, length_B=torch.tensor([1, 5, 9], dtype=torch.int32))
    found, lse = FlashCuda().forward(query, key, value, sight)
    for number, length in enumerate((1, 5, 9)):
        one = slice(number, number + 1)
        expected, expected_lse = Math().forward(query[one], key[one, :, :length], value[one, :, :length], Sight(0.3))
        torch.testing.assert_close(found[one], expected, rtol=0.0, atol=1e-5)
        torch.testing.assert_close(lse[one], expected_lse, rtol=0.0, atol=1e-5)


def test_parts_merge_to_the_whole(on_the_cpu):
    query, key, value = tensors(1, (6, 2), 5, 12)
    expected, expected_lse = Math().forward(query, key, value, Sight(0.3))
    output, lse = FlashCuda().forward(query, key[:, :, :5], value[:, :, :5], Sight(0.3))
    output, lse = output.clone(), lse.clone()
    merge(output, lse, *FlashCuda().forward(query, key[:, :, 5:], value[:, :, 5:], Sight(0.3)))
    torch.testing.assert_close(output, expected, rtol=0.0, atol=1e-5)
    torch.testing.assert_close(lse, expected_lse, rtol=0.0, atol=1e-5)


SPANS = {
    "all keys are seen": [(3, 0, 4), (2, 4, 9), (1, 9, 12)],
    "keys between and behind that nobody sees": [(3, 1, 4), (2, 6, 9)],
    "one row on one key": [(1, 3, 4)],
}


@pytest.mark.parametrize("name", SPANS)
def test_one_call_does_what_a_call_for_each_span_does(on_the_cpu, name):
    each = SPANS[name]
    query, key, value = tensors(1, (2, 2), sum(rows for rows, _, _ in each), 12)
    spans = Spans.of(each, 12, query.device)
    masks = [None] * len(each)
    expected, expected_lse = Math().forward_spans(query, key, value, spans, 0.3, masks)
    first = 0
    for rows, low, high in each:
        alone, _ = Math().forward(
            query[:, :, first : first + rows], key[:, :, low:high], value[:, :, low:high], Sight(0.3)
        )
        torch.testing.assert_close(expected[:, :, first : first + rows], alone, rtol=0.0, atol=0.0)
        first += rows
    for kernel in (FlashCuda(), FlashCpu()):
        found, lse = kernel.forward_spans(query, key, value, spans, 0.3, masks)
        torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)
        torch.testing.assert_close(lse, expected_lse, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("each", [[(1, 0, 5), (1, 4, 9)], [(1, 4, 9), (1, 0, 4)], [(1, 3, 3)], [(1, 8, 13)]])
def test_spans_that_are_no_cut_of_the_keys_are_refused(each):
    with pytest.raises(ValueError, match="do not follow"):
        Spans.of(each, 12, torch.device("cpu"))


# --- the whole engine on it -------------------------------------------------------------------------------------------


@pytest.fixture
def as_on_a_gpu(on_the_cpu, monkeypatch):
    """Kernels chosen as for half precision on CUDA; the kernels used are counted."""
    used = Counter()

    def choose(query, sight):
        kernel = FlashCuda() if sight.mask is None else Math()
        used[type(kernel).__name__] += 1
        return kernel

    for module in (split_attention, trunk_attention):
        monkeypatch.setattr(module, "kernel_for", choose)
    return used


def weighted(weights_S, part):
    return (weights_S[part.index_S] * part.logprobs_S).sum()


@pytest.mark.parametrize("max_tokens", [4096, 40])
@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral, beyond its window"])
def test_gradients_of_the_kernels_a_gpu_would_choose(as_on_a_gpu, family, max_tokens):
    model = make_model(family)
    for seed in (10, 11):
        items = random_items(seed)
        found = []
        for executor in (make_executor("reference", model), SplitExecutor(model, max_tokens)):
            model.zero_grad(set_to_none=True)
            scored = executor.score(items, loss=partial(weighted, weights_of(items)))
            found.append((scored.logprobs_S, torch.cat([p.grad.flatten() for p in model.parameters()])))
        torch.testing.assert_close(found[1][0], found[0][0], rtol=0.0, atol=1e-4)
        assert (found[1][1] - found[0][1]).abs().max() < 1e-4 * found[0][1].abs().max()
    assert as_on_a_gpu["FlashCuda"] > 0


@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral, beyond its window"])
def test_samples_of_the_kernels_a_gpu_would_choose(as_on_a_gpu, family):
    model = make_model(family)
    prompts = [[3 + (5 * i * i) % 61 for i in range(length)] for length in (40, 12, 13, 40)]
    ids, sampling = [f"t{i}" for i in range(4)], Sampling(max_tokens=60)
    with torch.no_grad():
        recorded = draw(model, prompts, ids, 4, sampling, frozenset({2, 3}), capture=tape)
        expected = draw(model, prompts, ids, 4, sampling, frozenset({2, 3}), executor="cache")
    for found, other in zip(chain(*recorded), chain(*expected), strict=True):
        assert found.token_ids_T == other.token_ids_T
        assert found.logprobs_T == pytest.approx(other.logprobs_T, abs=1e-4)
    assert as_on_a_gpu["FlashCuda"] > 0


@pytest.mark.parametrize("num_pivots", [1, 4, 9])
def test_a_layer_reads_all_segments_in_one_launch(as_on_a_gpu, monkeypatch, num_pivots):
    """One call for the trunk and one for the branches' own tokens, however many pivots there are."""
    calls = Counter()
    for name in ("forward", "forward_spans"):
        original = getattr(FlashCuda, name)
        monkeypatch.setattr(FlashCuda, name, lambda *given, n=name, o=original: (calls.update([n]), o(*given))[1])
    model = make_model("llama")
    trunk = [3 + (5 * i * i) % 61 for i in range(40)]
    prompts = [trunk[: 40 - 4 * i] for i in range(num_pivots)]
    with torch.no_grad():
        draw(model, prompts, [f"t{i}" for i in range(num_pivots)], 2, Sampling(max_tokens=3), frozenset(), capture=tape)
    prefill = calls["forward"] - 2 * 2  # two steps after the first token, two layers
    assert calls["forward_spans"] == 2 * 2
    assert prefill > 0 and (num_pivots > 1 or prefill == 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "mistral, beyond its window"])
@torch.no_grad()
def test_only_the_first_step_of_a_layout_meets_the_host(monkeypatch, family, dtype):
    """On a device that holds no numbers and chooses the kernels of a GPU: what is recorded later on neither reads
    values nor sends any, and comes out in the model's dtype."""
    monkeypatch.setattr(flash_cuda, "is_there", lambda _: True)
    device = torch.device("meta")
    model = make_model(family, dtype).to(device)
    prompts = [[3 + (5 * i * i) % 61 for i in range(length)] for length in (40, 12, 13, 1)]
    forest = build_forest(SortedSequences(prompts), share_above=0, cut_at_ends=True)
    shape, trunk = (1, len(forest.token_ids_T), model.config.num_key_value_heads, 8), TrunkState()
    for layer in range(model.config.num_hidden_layers):
        for tensors in (trunk.keys, trunk.values):
            tensors[layer] = torch.zeros(shape, dtype=dtype, device=device).transpose(1, 2)
    state = StaticPass(forest, trunk, [forest.leaf_of[i] for i in range(4) for _ in range(3)], device)
    layouts = set()
    for _ in range(40):  # the room grows on the way
        state.advance(torch.zeros(12, dtype=torch.long, device=device))
        watch = HostWatch() if state.layout in layouts else contextlib.nullcontext()
        layouts.add(state.layout)
        with watch:
            hidden = split_forward(model, state)
        assert hidden.dtype == dtype and hidden.shape == (12, 32)
    assert len(layouts) == 2
