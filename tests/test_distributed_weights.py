"""Whole weights that were changed for sampling never outlive it."""

from __future__ import annotations

import pytest
import torch

from crews import together
from distributed_work import make_site
from pivotrl.engine.distributed.crew import Failed
from pivotrl.engine.distributed.sites import Draw
from pivotrl.protocols import InputError
from pivotrl.records import Sampling


class Failing:
    """Fails in the middle of sampling, when the adapter is folded into the weights."""

    def __init__(self, weights):
        self._weights = weights

    def generate(self, *_):
        with self._weights.folded():
            raise InputError("no room")


def logits_around_a_failure(crew):
    site = make_site(crew, "qwen3", torch.float32, 2, "split")

    def logits():
        site.gather("policy")
        with torch.no_grad():
            return site.weights.model(input_ids=torch.tensor([[5, 6, 7]])).logits.clone()

    before = logits()
    site._generators["policy"] = Failing(site.weights)
    with pytest.raises((InputError, Failed)):
        site.generate(Draw("policy", 1, Sampling(), frozenset(), 0), ([[5]], ["t#0"]))
    return before, logits()


def test_an_adapter_is_not_counted_twice_after_sampling_failed():
    for before, after in together(2, logits_around_a_failure):
        torch.testing.assert_close(after, before, rtol=0, atol=0)
