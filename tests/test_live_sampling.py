"""Requests that come and go draw what each draws alone.

Run alone: python -m pytest tests/test_live_sampling.py
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra 'hf'")

import numpy as np
import torch

from pivotrl.engine.conversation_trunks import ConversationTrunks
from pivotrl.engine.live_sampling import LiveBatch
from pivotrl.engine.token_choice import processed, race
from pivotrl.policies.hf import Policy
from pivotrl.protocols.live import Ask
from pivotrl.records import Sampling
from pivotrl.seeding import race_times
from tiny import save_tiny_model

_ROOM = 1 << 30


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return Policy(model=str(save_tiny_model(tmp_path_factory.mktemp("model"))), trainable=False, device="cpu")


def asks(policy: Policy, number: int = 16) -> dict[str, Ask]:
    """Prompts that share a beginning, with many ways of sampling."""
    draw = random.Random(0)
    ways: list[dict[str, Any]] = [{}, {"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.9}, {"top_k": 20}]
    found = {}
    for i in range(number):
        prompt = (1,) * 20 + tuple(draw.randrange(3, 250) for _ in range(draw.randrange(5, 80)))
        sampling = Sampling(max_tokens=draw.choice([1, 5, 40]), seed=i, **ways[i % 4])
        found[f"r{i}"] = Ask(prompt, sampling, policy.renderer.stop_ids, num_samples=1 + i % 3, num_top=2)
    return found


def live(policy: Policy) -> LiveBatch:
    found = policy.generator.live()
    assert found is not None
    return found


def drawn(batch: LiveBatch, asked: dict[str, Ask], order: Iterable[str], every: int) -> dict[tuple[str, int], Any]:
    """(request, sample) -> (token ids, why it ended); a request joins every few steps."""
    found: dict[tuple[str, int], list[int]] = {}
    ends: dict[tuple[str, int], Any] = {}
    pending, steps = list(order), 0
    while pending or batch.is_busy:
        if pending and steps % every == 0:
            key = pending.pop(0)
            batch.admit({key: asked[key]})
        for key, news in batch.step().items():
            for one in news:
                found.setdefault((key, one.sample), []).extend(token.token_id for token in one.tokens)
                if one.finish:
                    ends[key, one.sample] = one.finish
        steps += 1
    return {key: (tokens, ends[key]) for key, tokens in found.items()}


def test_samples_do_not_depend_on_who_else_is_there(policy: Policy) -> None:
    asked = asks(policy)
    alone = {}
    for key in asked:
        alone |= drawn(live(policy), asked, [key], 1)
    assert drawn(live(policy), asked, asked, 1) == alone
    assert drawn(live(policy), asked, reversed(list(asked)), 7) == alone


def test_greedy_samples_are_those_of_the_sampler(policy: Policy) -> None:
    asked = {key: ask for key, ask in asks(policy).items() if ask.sampling.temperature == 0.0}
    together = drawn(live(policy), asked, asked, 2)
    for key, ask in asked.items():
        (group,) = policy.generator.generate([ask.prompt], [""], 1, ask.sampling, ask.stop_ids)
        (one,) = group.completions_G
        assert together[key, 0] == (list(one.token_ids_T), "stop" if one.stopped else "length")


def test_samples_have_the_distribution_of_the_sampler() -> None:
    sampling, number = Sampling(temperature=0.7, top_k=4, top_p=0.95), 4000
    logits_NV = torch.tensor([[2.0, 1.5, 0.3, -1.0, 1.0, 0.0]]).expand(number, -1)
    times = torch.from_numpy(np.stack([race_times(1, "", 0, place, 6) for place in range(number)]))
    shares = torch.bincount(race(logits_NV, times, sampling), minlength=6) / number
    assert shares.tolist() == pytest.approx(processed(logits_NV[:1], sampling).exp()[0].tolist(), abs=0.03)


def test_logprobs_are_the_models_own_at_every_temperature(policy: Policy) -> None:
    ask = Ask((1, 9, 8, 7), Sampling(temperature=0.3, top_k=3, max_tokens=6), frozenset(), num_top=4)
    batch, tokens = live(policy), []
    batch.admit({"a": ask})
    while batch.is_busy:
        tokens += [token for news in batch.step().get("a", ()) for token in news.tokens]
    ids = torch.tensor([[*ask.prompt, *(token.token_id for token in tokens)]])
    with torch.no_grad():
        expected = torch.log_softmax(policy.model(input_ids=ids).logits[0].float(), dim=-1)
    for place, token in enumerate(tokens, start=len(ask.prompt) - 1):
        assert token.logprob == pytest.approx(expected[place, token.token_id].item(), abs=1e-4)
        assert [pair[1] for pair in token.top] == pytest.approx(expected[place].topk(4).values.tolist(), abs=1e-4)


def test_a_conversation_computes_only_what_is_new(policy: Policy) -> None:
    batch, stop_ids = live(policy), policy.renderer.stop_ids
    first = Ask(tuple(range(3, 103)), Sampling(max_tokens=10, temperature=0.0), stop_ids)
    assert batch.admit({"a": first}) == {"a": 0}
    tokens: list[int] = []
    while batch.is_busy:
        tokens += [token.token_id for news in batch.step().get("a", ()) for token in news.tokens]
    second = Ask((*first.prompt, *tokens, 50, 51, 52), first.sampling, stop_ids)
    assert batch.admit({"b": second}) == {"b": 100 + len(tokens) - 1}
    again = drawn(batch, {"c": second}, ["c"], 1)["c", 0]
    assert again == drawn(live(policy), {"c": second}, ["c"], 1)["c", 0], "what is kept does not change a sample"


def test_what_is_cancelled_leaves_and_the_others_go_on(policy: Policy) -> None:
    asked = asks(policy, 3)
    alone = drawn(live(policy), asked, ["r2"], 1)["r2", 0]
    batch = live(policy)
    batch.admit(asked)
    before = batch.num_rows
    batch.cancel("r1")
    assert batch.num_rows == before - asked["r1"].num_samples
    tokens = []
    while batch.is_busy:
        news = batch.step()
        assert "r1" not in news
        tokens += [token.token_id for one in news.get("r2", ()) if one.sample == 0 for token in one.tokens]
    assert tokens == alone[0]


def test_room_is_bounded(policy: Policy) -> None:
    asked = asks(policy, 2)
    batch = LiveBatch(policy.model, ConversationTrunks(_ROOM), max_rows=2)
    assert batch.fits([asked["r1"]]) and not batch.fits([asked["r0"], asked["r1"]])
    batch.admit({"r1": asked["r1"]})
    assert not batch.fits([asked["r0"]])


def test_memory_that_runs_out_ends_what_grows_and_not_the_engine(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asks(policy, 2)
    batch = live(policy)
    batch.admit(asked)
    batch.step()
    with monkeypatch.context() as patch:

        def run_out() -> None:
            raise torch.OutOfMemoryError

        patch.setattr(batch, "_compute", run_out)
        news = batch.step()
    assert all(any(one.fault for one in news[key]) for key in asked) and not batch.is_busy
    assert drawn(batch, asked, ["r1"], 1)["r1", 0] == drawn(live(policy), asked, ["r1"], 1)["r1", 0]


def test_kept_conversations_are_bounded_and_the_oldest_leave(policy: Policy) -> None:
    def one(first: int) -> Ask:
        return Ask(tuple(range(first, first + 60)), Sampling(max_tokens=2, temperature=0.0), frozenset())

    def play(batch: LiveBatch, ask: Ask) -> int:
        cached = batch.admit({"x": ask})["x"]
        while batch.is_busy:
            batch.step()
        return cached

    large = live(policy)
    play(large, one(3))
    each = large.trunks.num_bytes
    batch = LiveBatch(policy.model, ConversationTrunks(2 * each))
    for first in (3, 70, 140):
        assert play(batch, one(first)) == 0
    assert len(batch.trunks) == 2 and batch.trunks.num_bytes <= 2 * each
    assert play(batch, one(140)) > 0, "the latest is kept"
    assert play(batch, one(3)) == 0, "the oldest has left"
