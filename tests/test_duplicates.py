"""Copies, beginnings and near copies are found whichever comes first, and nothing else is; evaluation texts are found
in the trajectories that hold them.

Run alone: python -m pytest tests/test_duplicates.py
"""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pivotrl.reading.chat_messages import chat_messages
from pivotrl.reading.duplicates.finding import DuplicateFinder
from pivotrl.reading.duplicates.hash_table import HashTable
from pivotrl.reading.duplicates.shingles import shingle_hashes, text_of_messages, word_hashes
from pivotrl.records import Message, ToolCall, Trajectory

DATA = Path(__file__).parent / "data"


def episodes() -> list[Trajectory]:
    """Six episodes of tau-bench airline, as they were logged."""
    rows = json.loads((DATA / "tau_bench/gpt-4o-airline.json").read_text())
    return [trajectory(f"{row['task_id']}-{row['trial']}", *chat_messages(row["traj"])) for row in rows]


def trajectory(id: str, *messages: Message, **fields: Any) -> Trajectory:
    return Trajectory(id=id, task_id=id, messages=messages, **fields)


def user(text: str) -> Message:
    return Message(role="user", content=text)


def agent(text: str) -> Message:
    return Message(role="assistant", content=text)


def renamed(original: Trajectory, **changed: Any) -> Trajectory:
    return original.model_copy(update={"id": "copy", "task_id": "copy", **changed})


# --- copies and beginnings ----------------------------------------------------------------------------------------


def test_real_episodes_are_no_copies_and_their_copies_are_found() -> None:
    finder = DuplicateFinder()
    originals = episodes()
    assert [finder.add(episode) for episode in originals] == [None] * 6
    for original in originals:
        found = finder.add(renamed(original))
        assert found is not None and (found.kind, found.other) == ("exact", original.id)
        for length in (2, len(original.messages) - 1):
            found = finder.add(renamed(original, messages=original.messages[:length]))
            assert found is not None and found.kind == "prefix"
            named = next(episode for episode in originals if episode.id == found.other)
            assert named.messages[:length] == original.messages[:length]


def test_a_beginning_that_comes_first_is_found_when_the_rest_comes() -> None:
    whole = episodes()[0]
    finder = DuplicateFinder()
    for length in (3, 7, len(whole.messages)):
        found = finder.add(renamed(whole, id=f"first {length}", messages=whole.messages[:length]))
        if length == 3:
            assert found is None
        else:  # the longest of the earlier ones
            assert found is not None and (found.kind, found.other) == (
                "extension",
                {7: "first 3"}.get(length, "first 7"),
            )
            assert found.num_messages == {7: 3}.get(length, 7)
    for length, kind in ((3, "exact"), (5, "prefix"), (7, "exact"), (8, "prefix")):
        found = finder.add(renamed(whole, messages=whole.messages[:length]))
        assert found is not None and found.kind == kind


def test_what_makes_messages_the_same() -> None:
    call = ToolCall(name="f", arguments='{"x": 1}', id="call_1")
    base = trajectory("a", user("do"), Message(role="assistant", tool_calls=(call,)), agent("done"))

    def kind_after_base(*messages: Message, **fields: Any) -> str | None:
        finder = DuplicateFinder()
        finder.add(base)
        found = finder.add(trajectory("b", *messages, **fields))
        return None if found is None else found.kind

    other_id = Message(role="assistant", tool_calls=(call.model_copy(update={"id": "call_2"}),))
    empty_text = Message(role="assistant", content="", tool_calls=(call,))
    assert kind_after_base(user("do"), other_id, agent("done")) == "exact"
    assert kind_after_base(user("do"), empty_text, agent("done")) == "exact"
    for changed in (
        Message(role="assistant", tool_calls=(call.model_copy(update={"arguments": '{"x": 2}'}),)),
        Message(role="assistant", tool_calls=(call, call)),
        Message(role="assistant", tool_calls=(call,), reasoning="hm"),
        Message(role="assistant", content='f{"x": 1}'),
    ):
        assert kind_after_base(user("do"), changed, agent("done")) in (None, "near")
    assert kind_after_base(*base.messages, context_window=2) in (None, "near")


def test_texts_that_are_cut_elsewhere_are_not_the_same() -> None:
    finder = DuplicateFinder()
    assert finder.add(trajectory("a", Message(role="assistant", content="ab", reasoning="c"))) is None
    assert finder.add(trajectory("b", Message(role="assistant", content="a", reasoning="bc"))) is None
    assert finder.add(trajectory("c", user("ab c"), user("d"))) is None
    found = finder.add(trajectory("d", user("ab"), user("c d")))
    assert found is not None and (found.kind, found.other) == ("near", "c")  # the same words


def test_rows_of_pivots_are_no_beginnings_of_one_another() -> None:
    """Each row repeats the turns before as context only; dropping the shorter would drop its pivot."""
    messages = episodes()[0].messages
    turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
    finder = DuplicateFinder(threshold=1.0)
    for number, turn in enumerate(turns):
        excluded = dict.fromkeys(turns[:number], "context_only")
        row = trajectory(f"row {number}", *messages[: turn + 1], excluded=excluded)
        found = finder.add(row)
        assert found is None or found.kind == "near"
        found = finder.add(renamed(row))
        assert found is not None and found.kind == "exact"


def test_nothing_is_a_copy_of_nothing() -> None:
    finder = DuplicateFinder()
    assert [finder.add(trajectory(id)) for id in "ab"] == [None, None]
    assert finder.add(trajectory("c", user("..."))) is None
    assert finder.add(trajectory("d", user("!!!"))) is None  # without a word there is nothing to be near to


# --- near copies --------------------------------------------------------------------------------------------------


def shingles_of(text: str) -> set[tuple[str, ...]]:
    """By strings and sets, without any hash of ours."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}


def jaccard(one: str, other: str) -> float:
    a, b = shingles_of(one), shingles_of(other)
    return len(a & b) / len(a | b)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9, 0.97])
@pytest.mark.parametrize("num_words", [60, 400, 3000])
def test_near_copies_are_those_of_the_brute_force_oracle(threshold: float, num_words: int) -> None:
    generator = random.Random(f"{threshold} {num_words}")
    slack = 0.2 if num_words < 100 else 0.07
    checked = {True: 0, False: 0}
    finder = DuplicateFinder(threshold)
    for case in range(40):
        words = [f"w{generator.randrange(10**6)}" for _ in range(num_words)]
        text = " ".join(words)
        assert finder.add(trajectory(f"{case}", user(text))) is None
        changed = words[:]
        for _ in range(int(generator.random() ** 2 * num_words / 10)):
            changed[generator.randrange(num_words)] = "other"
        copy = " ".join(changed)
        similarity = jaccard(text, copy)
        found = finder.add(trajectory(f"copy of {case}", user(copy.upper())))
        if found is not None and similarity < 1.0:
            assert found.kind == "near" and found.other == str(case)
            assert abs(found.similarity - similarity) < slack
        if abs(similarity - threshold) > slack or similarity == 1.0:
            checked[similarity > threshold] += 1
            assert (found is not None) == (similarity > threshold), similarity
    assert sum(checked.values()) > 10 and (checked[True] > 0 or threshold + slack > 1)


def test_estimates_on_real_episodes() -> None:
    """Every pair of the six, with a threshold that lets all through: the estimate is close to the truth. By eye: the
    two trials of task 41 have a third of their shingles in common, no other two a tenth."""
    originals = episodes()
    texts = [text_of_messages(message for message in t.messages if message.role != "system") for t in originals]
    num_shared = 0
    for one, first in zip(texts, originals, strict=True):
        for other, second in zip(texts, originals, strict=True):
            if first.id < second.id:
                finder = DuplicateFinder(threshold=0.02)
                finder.add(first)
                found, truth = finder.add(second), jaccard(one, other)
                num_shared += truth > 0.1
                assert (0.0 if found is None else found.similarity) == pytest.approx(truth, abs=0.1)
    assert num_shared == 1


def test_the_system_message_makes_no_near_copies() -> None:
    policy = Message(role="system", content=episodes()[0].messages[0].content)
    finder = DuplicateFinder()
    assert finder.add(trajectory("a", policy, user("cancel my flight to Rome"), agent("Which one is it?"))) is None
    assert finder.add(trajectory("b", policy, user("what does a bag cost?"), agent("Fifty dollars."))) is None


def test_a_near_copy_of_a_near_copy_and_its_exact_copy() -> None:
    words = [f"w{i}" for i in range(1000)]
    finder = DuplicateFinder()
    finder.add(trajectory("a", user(" ".join(words))))
    second = user(" ".join(["x", *words[1:]]))
    found = finder.add(trajectory("b", second))
    assert found is not None and (found.kind, found.other) == ("near", "a")
    found = finder.add(trajectory("c", second))
    assert found is not None and (found.kind, found.other) == ("exact", "b")


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, float("nan")])
def test_a_bad_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        DuplicateFinder(threshold)


def test_memory_does_not_grow_with_the_texts() -> None:
    finder = DuplicateFinder()
    num_messages, num_trajectories = 20, 1000
    for number in range(num_trajectories):
        text = f"message of {number} " + "and so on " * 50
        finder.add(trajectory(str(number), *(user(f"{text} {i}") for i in range(num_messages))))
    assert finder.num_bytes / num_trajectories < 2 * (256 + 8 * 12 / 0.7 + num_messages * 12 / 0.7)


SCRIPT = """
import random
from pivotrl.reading.duplicates.finding import DuplicateFinder
from pivotrl.records import Message, Trajectory
generator = random.Random(0)
finder = DuplicateFinder(0.8)
for number in range(60):
    words = [str(generator.randrange(50)) for _ in range(30)]
    copies = [words, words[:-1] + ["x"], words[:]]
    for i, copy in enumerate(copies):
        message = Message(role="user", content=" ".join(copy))
        print(finder.add(Trajectory(id=f"{number}.{i}", task_id="t", messages=(message,))))
"""


def test_answers_do_not_depend_on_the_hash_seed() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1")
    }  # fmt: skip
    assert len(outputs) == 1 and outputs.pop().count("exact") == 60
    assert word_hashes("a").tolist() == word_hashes("A").tolist() == [12609935244270955673]


# --- hashes -------------------------------------------------------------------------------------------------------

WORD = re.compile("[\u3000-\ud7ff][0-9a-z\x80-\u2fff\ue000-\U0010ffff]*|[0-9a-z\x80-\u2fff\ue000-\U0010ffff]+")
pieces = st.sampled_from(
    ["a", "B", "the", " ", "\n", ".", "-", "0", "é", "漢", "字", "한", "🙈", "\0", "_", "x" * 5000]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces | st.text(max_size=3), max_size=40).map("".join))
def test_words_are_those_of_a_regular_expression(text: str) -> None:
    folded = "".join(chr(ord(letter) + 32) if "A" <= letter <= "Z" else letter for letter in text)
    words = WORD.findall(folded.replace("\ud800", ""))
    if max(map(len, words), default=0) < 4000:
        assert [word_hashes(word).tolist() for word in words] == [[one] for one in word_hashes(text).tolist()]
        assert len(set(words)) == len(set(word_hashes(text).tolist()))


def test_a_long_text_has_the_words_of_its_parts() -> None:
    generator = random.Random(0)
    words = ["w" * generator.randrange(1, 60) + str(generator.randrange(1000)) for _ in range(20_000)]
    hashes = word_hashes(" ".join(words))  # longer than what is hashed at once
    assert hashes.tolist() == [word_hashes(word)[0] for word in words]
    assert len(np.unique(shingle_hashes(hashes, 5))) == len(hashes) - 4
    assert len(shingle_hashes(hashes[:3], 5)) == 1 and len(shingle_hashes(hashes[:0], 5)) == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 2**64 - 1) | st.sampled_from([64, 128, 192]), st.integers(0, 2**32 - 1))))
def test_the_table_is_a_dict_whose_first_entries_stay(entries: list[tuple[int, int]]) -> None:
    table, model = HashTable(), dict[int, int]()
    for key, number in entries:
        assert table.get(key) == model.get(key)
        table.add(key, number)
        model.setdefault(key, number)
    assert len(table) == len(model) and all(table.get(key) == number for key, number in model.items())
