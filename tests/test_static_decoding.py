"""Decoding in static buffers, recorded once per layout and replayed: the tokens and log-probabilities of the plain way.

A CUDA graph cannot be made here. `tape` stands for it: it writes a step's operators down and runs them again on the
same tensors, so whatever the step decides in Python is frozen, as in a graph. The graph itself: tests/test_gpu.py.
"""

from __future__ import annotations

import logging
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pivotrl.engine import cuda_graphs, decoding, static_decoding
from pivotrl.engine.cuda_graphs import HostWatch, RecordedStep
from pivotrl.engine.decoder import forward
from pivotrl.engine.forest import SortedSequences, build_forest
from pivotrl.engine.head import Head
from pivotrl.engine.sampling import draw
from pivotrl.engine.split_attention import ForestPass, TrunkState
from pivotrl.engine.static_decoding import StaticPass, bucket
from pivotrl.engine.trunk_attention import Plans
from pivotrl.records import Sampling
from tape import tape
from test_sampling import nested_prompts, prompts_of
from tiny_models import SPLIT, make_model

RECORDED = [family for family in SPLIT if family != "qwen3 moe"]
"""The eager experts of the tests' MoE read counts on the host, which no graph can record."""
OFTEN = frozenset(range(2, 9))
"""Stop tokens that end branches all the time."""


class Counted:
    """A capture that counts its records, and the replays of each."""

    def __init__(self, capture=tape):
        self.capture, self.replays = capture, []

    def __call__(self, step):
        replay, number = self.capture(step), len(self.replays)
        self.replays.append(0)

        def counted():
            self.replays[number] += 1
            return replay()

        return counted


@torch.no_grad()
def sample(model, capture, stop=frozenset({2}), seed=0, num_samples=3, **options):
    prompts = [*nested_prompts(seed), *prompts_of(seed)]
    sampling = Sampling(**{"max_tokens": 70, "seed": seed, **options})
    ids = [f"log#{number}" for number in range(len(prompts))]
    return [one for group in draw(model, prompts, ids, num_samples, sampling, stop, capture=capture) for one in group]


def assert_same(found, expected, tolerance):
    assert [(one.token_ids_T, one.stopped) for one in found] == [(one.token_ids_T, one.stopped) for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs_T == pytest.approx(other.logprobs_T, abs=tolerance)


@pytest.mark.parametrize("stop", [frozenset({2}), OFTEN])
@pytest.mark.parametrize("family", RECORDED)
def test_replays_draw_the_tokens_of_the_plain_way(family, stop):
    """70 tokens go through four layouts of the room; frequent stops through as many of the rows."""
    model = make_model(family)
    recorded = Counted()
    assert_same(sample(model, recorded, stop), sample(model, None, stop), 1e-5)
    assert len(recorded.replays) > 1 and min(recorded.replays) > 0


@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral, beyond its window"])
def test_segments_read_in_pieces_give_the_same(family, monkeypatch):
    """As on a GPU, where pieces of a long segment are read side by side."""
    model = make_model(family, torch.float64)
    whole = sample(model, None)
    for module in (decoding, static_decoding):
        monkeypatch.setattr(module, "Plans", partial(Plans, piece=7))
    for capture in (None, tape):
        assert_same(sample(model, capture), whole, 1e-6)


@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral, beyond its window"])
def test_replays_are_exact_in_double_precision(family):
    model = make_model(family, torch.float64)
    for seed in range(3):
        options = {"temperature": 0.8, "top_p": 0.9} if seed else {"temperature": 0.0}
        assert_same(
            sample(model, tape, OFTEN, seed, **options), sample(model, None, OFTEN, seed, **options), 1e-6
        )  # log-probabilities come out of single-precision norms


@given(st.integers(1, 5000))
def test_a_bucket_holds_what_it_is_for_and_little_more(number):
    assert number <= bucket(number) <= max(1.5 * number, number + 1)
    assert bucket(bucket(number)) == bucket(number)
    assert bucket(number) <= bucket(number + 1)


# --- dead rows and layouts ----------------------------------------------------------------------------------------


def start(model, num_branches):
    """A trunk of 20 tokens with branches behind its 12th and its last; (state, step)."""
    trunk_ids = [3 + (5 * i * i) % 61 for i in range(20)]
    forest = build_forest(SortedSequences([trunk_ids[:12], trunk_ids]), share_above=0, cut_at_ends=True)
    trunk = TrunkState()
    forward(model, ForestPass(forest, model.device, keep=trunk))
    leaves = [forest.leaf_of[number * 2 // num_branches] for number in range(num_branches)]
    state, head = StaticPass(forest, trunk, leaves, model.device), Head.of(model)
    return state, lambda: head.logits(forward(model, state))


def tokens(num_branches, step):
    return torch.tensor([3 + (7 * row + 11 * step) % 60 for row in range(num_branches)])


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3 moe"])
@torch.no_grad()
def test_nan_in_dead_rows_changes_nothing(family):
    """Rows beyond the branches, and a branch that has finished: bit for bit where rows meet nowhere. (An expert's
    matrix product takes as many rows as are routed to it, so its rounding may change.)"""
    model = make_model(family)
    results = []
    for poisoned in (False, True):
        state, step = start(model, 5)
        for number in range(4):
            state.advance(tokens(5, number))
            if poisoned and number == 2:
                for buffers in (state._keys, state._values):
                    for buffer in buffers.values():
                        assert len(buffer) == 6
                        buffer[[1, 5]] = torch.nan
            logits = step()
        results.append(logits)
    clean, spoiled = results
    assert bool(spoiled[[1, 5]].isnan().all())
    tolerance = 1e-5 if family == "qwen3 moe" else 0.0
    torch.testing.assert_close(spoiled[[0, 2, 3, 4]], clean[[0, 2, 3, 4]], rtol=0.0, atol=tolerance)


@torch.no_grad()
def test_branches_that_move_together_go_on_as_they_were():
    """Also while the room for tokens grows."""
    model = make_model("llama")
    kept, chosen = [], torch.tensor([0, 2, 4])
    for move in (False, True):
        state, step = start(model, 5)
        for number in range(100):
            row = tokens(5, number)
            if move and number >= 30:
                row = row[chosen]
            if move and number == 30:
                assert not state.is_sparse(5) and state.is_sparse(3)
                state.keep(chosen)
            state.advance(row)
            logits = step()
        assert state.layout == (6 if move else 5)  # rooms of 32, 48, 64, 96 and 128
        kept.append(logits[:3] if move else logits[chosen])
    torch.testing.assert_close(kept[1], kept[0], rtol=0.0, atol=2e-5)


@torch.no_grad()
def test_each_layout_is_recorded_once_when_it_has_stood_for_a_while():
    state, step = start(make_model("llama"), 5)
    recorded = Counted()
    run = RecordedStep(step, state, recorded, torch.nn.Identity())
    for number in range(40):
        if number == 10:
            state.keep(torch.tensor([0, 1, 2, 3]))
        if number == 12:  # too soon for a record of four rows
            state.keep(torch.tensor([0, 1]))
        state.advance(tokens(5 if number < 10 else 4 if number < 12 else 2, number))
        expected, found = step(), run()
        torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-6)
    # Steps 3 to 9 of five branches, 15 to 31 of two, and 35 to 39 in a larger room; one more to check each record.
    assert recorded.replays == [8, 18, 6]
    assert run.num_replays == 7 + 17 + 5


# --- when recording fails -------------------------------------------------------------------------------------------


@pytest.fixture
def said(caplog):
    cuda_graphs._warn.cache_clear()
    caplog.set_level(logging.WARNING)
    return caplog


def test_what_cannot_be_recorded_is_decoded_launch_by_launch_and_said_once(said):
    model = make_model("qwen3 moe")
    found = [sample(model, tape, seed=seed) for seed in range(2)]
    for seed in range(2):
        assert_same(found[seed], sample(model, None, seed=seed), 1e-5)
    assert said.text.count("decoding continues without CUDA graphs") == 1
    assert "not permitted in a recorded step" in said.text


def test_a_graph_that_reads_the_wrong_buffers_is_noticed(said):
    model = make_model("llama")

    def wrong(step):
        replay = tape(step)
        return lambda: replay().flip(0)

    assert_same(sample(model, wrong), sample(model, None), 1e-5)
    assert "a replay differs" in said.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can make graphs")
def test_a_graph_without_a_gpu_is_such_a_failure(said):
    model = make_model("llama")
    assert_same(sample(model, cuda_graphs.cuda_graph), sample(model, None), 1e-5)
    assert "decoding continues without CUDA graphs" in said.text


def test_running_out_of_memory_while_recording_ends_nothing(said):
    def too_large(step):
        raise torch.OutOfMemoryError("CUDA out of memory")

    model = make_model("llama")
    assert_same(sample(model, too_large), sample(model, None), 1e-5)
    assert "out of memory" in said.text


def test_a_model_that_cannot_be_recorded_is_not_tried_again(said):
    """A record that fails may cost a GPU memory for good."""
    tries = []

    def spoilt(step):
        tries.append(1)
        try:
            raise RuntimeError("an operator that cannot be captured")
        except RuntimeError:
            raise RuntimeError("operation failed due to a previous error during capture")  # noqa: B904  # as CUDA does

    model = make_model("llama")
    for seed in range(3):
        assert_same(sample(model, spoilt, seed=seed), sample(model, None, seed=seed), 1e-5)
    assert tries == [1]
    assert "an operator that cannot be captured" in said.text and "previous error" not in said.text
    recorded = Counted()
    sample(make_model("llama"), recorded)  # another model is none the worse
    assert recorded.replays


WATCHED = {
    "a value read": lambda x: x * x[0, 0].item(),
    "a number put on the device": lambda x: x * torch.tensor([2.0, 3.0]),
    "a mask as index": lambda x: x[x > 0],
    "places of a mask": lambda x: (x > 0).nonzero(),
    "distinct values": torch.unique,
    "as many copies as a tensor says": lambda x: x.repeat_interleave(torch.arange(2), dim=0),
}


@pytest.mark.parametrize("name", WATCHED)
def test_what_no_graph_can_hold_is_seen_before_one_is_begun(name):
    with pytest.raises(RuntimeError, match="not permitted in a recorded step"), HostWatch():
        WATCHED[name](torch.ones(2, 2))
    with HostWatch():
        found = torch.ones(2, 2)[torch.arange(1)].repeat_interleave(2, dim=0)  # an index that is no mask, and a number
    assert found.shape == (2, 2)
