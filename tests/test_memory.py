"""What a training pass keeps: counted, and never more than it was told."""

from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from live_memory import LiveMemory
from pivotrl.engine.decoder import forward
from pivotrl.engine.executors import make_executor
from pivotrl.engine.executors.split import SplitExecutor
from pivotrl.engine.forest import SortedSequences, build_forest
from pivotrl.engine.items import Item
from pivotrl.engine.memory import budget, cached_bytes_per_token, kept_bytes_per_token, rows_that_fit, tokens_that_fit
from pivotrl.engine.split_attention import NAME, ForestPass
from tiny_models import CACHE, SPLIT, make_model

WIDTH, HEADS, KEY_HEADS, SIZE, INNER, LAYERS = 96, 6, 2, 16, 256, 4


def model_of(dtype=torch.float32):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=WIDTH, num_attention_heads=HEADS, num_key_value_heads=KEY_HEADS, head_dim=SIZE,
        intermediate_size=INNER, num_hidden_layers=LAYERS, max_position_embeddings=4096,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, attn_implementation=NAME, dtype=dtype).eval()


# --- counting ---------------------------------------------------------------------------------------------------------


def test_a_llama_keeps_what_its_operators_need():
    """A layer: residual, scaled and weighted input of two norms (6 d); queries and output (2 H D); keys and values;
    gate, its activation, up and their product (4 I). The last norm: two."""
    layer = 6 * WIDTH + 2 * HEADS * SIZE + 2 * KEY_HEADS * SIZE + 4 * INNER
    assert kept_bytes_per_token(model_of()) == pytest.approx(4 * (LAYERS * layer + 2 * WIDTH), rel=0.02)


def test_what_no_gradient_goes_through_is_not_kept():
    whole = kept_bytes_per_token(model_of())
    upper = model_of()
    for parameter in [*upper.model.embed_tokens.parameters(), *upper.model.layers[:3].parameters()]:
        parameter.requires_grad_(False)
    assert kept_bytes_per_token(upper) == pytest.approx(whole / 4, rel=0.05)
    adapted = get_peft_model(model_of(), LoraConfig(r=2, target_modules=["q_proj"], layers_to_transform=[3]))
    assert kept_bytes_per_token(adapted) < 0.3 * whole
    frozen = model_of().requires_grad_(False)
    assert kept_bytes_per_token(frozen) == 0
    assert tokens_that_fit(frozen, 4 * WIDTH * LAYERS * 1000) == 768  # one hidden state a layer is reckoned


@pytest.mark.parametrize("family", SPLIT)
def test_split_attention_keeps_what_was_counted(family):
    """Counted is a stock forward; a pass over a forest must keep no copy beside it. (Stock windows keep masks.)"""
    model, held = make_model(family), []
    for length in (64, 192):
        forest = build_forest(SortedSequences([[3 + i % 60 for i in range(length)]]))
        taken = ForestPass(forest, model.device)
        with LiveMemory() as memory:
            graph = forward(model, taken)
            held.append(memory.now)
        del graph
    assert 0.8 < (held[1] - held[0]) / 128 / kept_bytes_per_token(model) < 1.03


def test_half_precision_keeps_about_half():
    assert 0.5 < kept_bytes_per_token(model_of(torch.bfloat16)) / kept_bytes_per_token(model_of()) < 0.65


@pytest.mark.parametrize("family", [*SPLIT, *CACHE])
def test_every_family_can_be_counted(family):
    assert kept_bytes_per_token(make_model(family)) > 2 * 32 * 4  # more than a hidden state of each layer


def test_counting_leaves_nothing_behind():
    model = model_of()
    with LiveMemory() as memory:
        kept_bytes_per_token(model)
    assert memory.now == 0 and all(parameter.grad is None for parameter in model.parameters())


def test_the_budget_is_rounded_down_and_never_nothing():
    model = model_of()
    each = kept_bytes_per_token(model)
    assert tokens_that_fit(model, 1000 * each) == 768
    assert tokens_that_fit(model, 1) == 256
    assert 0 < budget(model) <= 6 << 30


# --- keeping to it ----------------------------------------------------------------------------------------------------


def trajectory(trunk: int, pivots: int, branches: int, tokens: int) -> list[Item]:
    ids = [(5 * i * i + i) % 61 + 3 for i in range(trunk)]
    ends = [trunk * (i + 1) // pivots for i in range(pivots)]
    return [
        Item(ids[:end], [[(end + 7 * branch + i) % 61 + 3 for i in range(tokens)] for branch in range(branches)])
        for end in ends
    ]


def peak(max_tokens: int, items: list[Item]) -> int:
    """Bytes that an update holds at most, gradients of the weights left out."""
    model = model_of()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with LiveMemory() as memory:
        SplitExecutor(model, max_tokens).score(items, loss=lambda part: part.logprobs_S.sum())
    assert memory.now == 0  # no cycle holds a graph
    return memory.peak


@pytest.mark.parametrize(
    ("trunk", "max_tokens", "trunk_is_kept"),
    [(700, 4096, True), (700, 1600, True), (700, 900, False), (700, 600, False), (300, 660, True), (400, 660, False)],
)
def test_an_update_holds_no_more_than_it_was_told(trunk, max_tokens, trunk_is_kept):
    """A trunk and 992 rows of branches: the rows at once, the trunk's keys, values and their gradients, the inputs of
    its layers where no more is kept, and what a layer's backward makes on its way."""
    items, each = trajectory(trunk, 4, 8, 32), kept_bytes_per_token(model_of())
    rows = min(max_tokens, trunk + 4 * 8 * 31)
    cached = 4 * LAYERS * trunk * 2 * KEY_HEADS * SIZE
    at_work = 4 * max(rows, trunk) * (2 * INNER + 4 * WIDTH)
    trunk = 2 * cached + (0 if trunk_is_kept else 4 * LAYERS * trunk * WIDTH + trunk * each // LAYERS)
    found = peak(max_tokens, items)
    assert 0.75 * rows * each < found < rows * each + trunk + at_work


def test_half_the_tokens_hold_half_the_activations():
    """The twin of the bound above: what it bounds grows with what is allowed."""
    items = trajectory(200, 2, 32, 32)
    assert peak(4096, items) > 1.6 * peak(1024, items) > 1.6**2 * peak(512, items)


# --- decoding ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    """A function that makes a model believe in a GPU of so many bytes."""

    def put(model, memory):
        monkeypatch.setattr(type(model), "device", torch.device("cuda"))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=int(memory)))

    return put


def test_a_gpu_decodes_what_fits_and_a_cpu_less(gpu):
    """23 kB a token for SmolLM2-135M in bf16: of 256 tokens, 512 branches fit into a tenth of 80 GB, 8 of 500 MB."""
    model = model_of(torch.bfloat16).requires_grad_(False)
    model.config.num_hidden_layers, model.config.num_key_value_heads, model.config.head_dim = 30, 3, 64
    assert cached_bytes_per_token(model) == 23_040
    assert rows_that_fit(model, 256) == 64
    for memory, rows in ((80e9, 512), (5e8, 8), (1e6, 1)):
        gpu(model, memory)
        assert rows_that_fit(model, 256) == rows


def test_a_gpu_is_shared_with_weights_gradients_moments_and_the_reference(gpu):
    model = model_of()
    weights = sum(parameter.nbytes for parameter in model.parameters())
    for memory, asks, left in ((100, True, 95), (100, False, 99), (5.2, True, 0.52)):
        gpu(model.requires_grad_(asks), memory * weights)
        assert budget(model) == pytest.approx(left * weights / 2, rel=0.01)


def test_executors_that_keep_more_take_fewer_tokens():
    model = model_of()
    assert make_executor("cache", model).max_tokens == make_executor("split", model).max_tokens // 4
    assert make_executor("cache", model, 1000).max_tokens == 1000
