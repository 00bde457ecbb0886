"""Trajectories are dealt whole, and so that processes have about equal work."""

from __future__ import annotations

import itertools
import random

from pivotrl.engine.distributed.dealing import cost, deal, deal_examples, deal_prompts, together
from pivotrl.protocols.tokens import Drawn, Example


def test_every_piece_is_dealt_once_and_loads_are_near_the_best():
    generator = random.Random(0)
    for _ in range(200):
        costs = [generator.expovariate(1.0) for _ in range(generator.randint(0, 7))]
        number = generator.randint(1, 4)
        dealt = deal(costs, number)
        assert sorted(itertools.chain(*dealt)) == list(range(len(costs))) and len(dealt) == number
        best = min(
            (
                max(sum(c for c, at in zip(costs, places, strict=True) if at == p) for p in range(number))
                for places in itertools.product(range(number), repeat=len(costs))
            ),
            default=0.0,
        )
        longest = max(sum(costs[i] for i in mine) for mine in dealt)
        assert longest <= best * (4 / 3 - 1 / (3 * number)) + 1e-9  # Graham's bound for longest first


def test_a_trajectory_is_never_split():
    keys = ["b#1", "a#1", "b#3", "", "a#9", "", "c"]
    assert together(keys) == [[0, 2], [1, 4], [3], [5], [6]]
    examples = [Example([1, 2, 3], [Drawn([4], [0.0], True)], [1.0], [0.1], key) for key in keys]
    shares = [{each.key.rpartition("#")[0] for each in mine} - {""} for mine in deal_examples(examples, 3, 32)]
    assert sum(map(len, shares)) == len(set().union(*shares)) == 2


def test_an_episode_stays_with_its_process():
    owners: dict[str, int] = {}
    first = deal_prompts([[1]] * 4, ["a#1", "b#1", "c#1", "d#1"], 8, 2, 32, owners)
    of = {"abcd"[i]: process for process, mine in enumerate(first) for i in mine}
    prompts = [[1] * 900, [1], [1]]
    second = deal_prompts(prompts, ["a#2", "b#2", "e#1"], 8, 2, 32, owners)
    assert [process for process, mine in enumerate(second) if 0 in mine] == [of["a"]]
    assert [process for process, mine in enumerate(second) if 1 in mine] == [of["b"]]
    assert [process for process, mine in enumerate(second) if 2 in mine] == [1 - of["a"]]


def test_cost_counts_shared_tokens_once_and_attention_with_its_length():
    long, width = list(range(100)), 64
    assert cost([long, [*long, 7]], width) == cost([[*long, 7]], width)
    assert cost([[1, *range(50)], [2, *range(50)]], width) == 2 * cost([list(range(51))], width)
    exact = sum(1 + p / (6 * width) for p in range(100))
    assert abs(cost([long], width) - exact) < 100 / (12 * width) + 1e-9
