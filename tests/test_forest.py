"""The prefix forest: every sequence is found in it, and what is shared is there once."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pivotrl.engine.forest import SortedSequences, build_forest, input_sequences, micro_batches
from pivotrl.engine.items import Item
from tiny_models import random_items

sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=9)


@given(sequences, st.sampled_from([0, 1, 4, 100]), st.booleans())
def test_every_sequence_is_in_the_forest(given_sequences, share_above, cut):
    ordered = SortedSequences(given_sequences)
    forest = build_forest(ordered, share_above, cut)
    for number, original in enumerate(ordered.order):
        tokens = given_sequences[original]
        rows = forest.rows(number, 0, len(tokens))
        assert forest.token_ids_T[rows].tolist() == tokens
        assert forest.position_ids_T[rows].tolist() == list(range(len(tokens)))
        assert forest.rows(number, 1, len(tokens)).tolist() == rows[1:].tolist()
        if cut:
            assert rows[-1] == forest.segments[forest.leaf_of[number]].end - 1


@given(sequences, st.sampled_from([0, 4]), st.booleans())
def test_descendants_stand_right_behind_their_segment(given_sequences, share_above, cut):
    segments = build_forest(SortedSequences(given_sequences), share_above, cut).segments
    for index, segment in enumerate(segments):
        for other_index, other in enumerate(segments):
            ancestor = other.parent
            while ancestor not in (-1, index):
                ancestor = segments[ancestor].parent
            assert (ancestor == index) == (segment.end <= other.start and other.end <= segment.until), other_index
        if segment.parent >= 0:
            above = segments[segment.parent]
            assert segment.depth == above.depth + above.end - above.start
        else:
            assert segment.depth == 0


@given(sequences)
def test_sharing_all_computes_each_prefix_once(given_sequences):
    ordered = SortedSequences(given_sequences)
    prefixes = {tuple(tokens[: i + 1]) for tokens in given_sequences for i in range(len(tokens))}
    assert len(build_forest(ordered, share_above=0).token_ids_T) == len(prefixes) == ordered.num_unique_tokens()


def test_a_short_prefix_is_computed_anew_for_each_branch():
    """Two tokens shared by three branches save four: too little at a threshold of five, enough at four."""
    ordered = SortedSequences([[7, 8, 1, 1], [7, 8, 2, 2], [7, 8, 3, 3]])
    assert len(build_forest(ordered, share_above=5).token_ids_T) == 12
    assert len(build_forest(ordered, share_above=4).token_ids_T) == 8


def test_a_trajectory_is_one_trunk():
    """Nested prompts with branches: a chain of segments, cut where a pivot is, and nothing behind the last one."""
    trunk = list(range(100, 200))
    items = [Item(trunk[:end], [[branch, 1, 2] for branch in range(4)]) for end in (30, 60, 90)]
    forest = build_forest(SortedSequences(input_sequences(items)))
    inner = [segment for segment in forest.segments if not segment.is_leaf]
    assert sorted((s.depth, s.depth + s.end - s.start) for s in inner) == [(0, 30), (30, 60), (60, 90)]
    assert len(forest.token_ids_T) == 90 + 3 * 4 * 2


def test_completions_of_one_token_need_no_branch():
    forest = build_forest(SortedSequences(input_sequences([Item([5, 6, 7], [[1], [2], [1]])])))
    assert forest.token_ids_T.tolist() == [5, 6, 7]


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("max_tokens", [1, 40, 200, 10_000])
def test_batches_hold_every_sequence_once_and_are_cut_where_it_is_cheap(seed, max_tokens):
    given_sequences = input_sequences(random_items(seed))
    whole = SortedSequences(given_sequences)
    batches = micro_batches(whole, max_tokens)
    assert sorted(i for batch in batches for i in batch.order) == list(range(len(given_sequences)))
    extra = sum(batch.num_unique_tokens() for batch in batches) - whole.num_unique_tokens()
    assert extra <= (len(batches) - 1) * (max_tokens // 8)
    if max_tokens == 10_000:
        assert len(batches) == 1


def test_unrelated_sequences_are_batched_by_size():
    generator = random.Random(0)
    rows = [[first, *(generator.randrange(3, 9) for _ in range(9))] for first in range(100, 120)]
    assert [len(batch) for batch in micro_batches(SortedSequences(rows), 45)] == [4] * 5


def test_an_empty_batch_has_no_batches():
    assert micro_batches(SortedSequences([]), 10) == []


def test_large_token_ids_sort_as_numbers():
    rows = [[70_000, 1], [255, 9], [256, 3], [70_000]]
    ordered = SortedSequences(rows)
    assert [rows[i] for i in ordered.order] == sorted(rows)
    assert ordered.shared == [0, 0, 0, 1]
    assert all(ids.dtype == np.int64 for ids in ordered.ids)
