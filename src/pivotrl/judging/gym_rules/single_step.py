"""Server ``single_step_tool_use_with_argument_comparison``: tool calls by name, keys, types and shared words.

A message is an action without calls; its text does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pivotrl.judging.gym_rules.result import Call, GymFails, GymResult, parse, result
from pivotrl.judging.messages.pairing import match_all

RewardMode = Literal["binary_strict", "fractional", "f1"]


class Category(StrEnum):
    """Gym's categories; ``NO_ACTION_FOUND`` is missing because every action of ours is a message or calls."""

    NO_EXPECTED_TOOL_CALL = "No tool call was found when one was expected"
    EXPECTED_CHAT_MESSAGE_FOUND = "A chat message was found as expected"
    NO_EXPECTED_CHAT_MESSAGE = "A tool call was executed when a chat message was expected"
    UNEXPECTED_TOOL = "The tool in a tool call is not the expected tool"
    ARGUMENTS_DECODE_ERROR = "An error occurred when decoding the arguments string in a tool call as a JSON object"
    ARGUMENT_VALUE_TYPE_DIFFERENT = "The type of an argument value in a tool call is different than the expected type"
    ARGUMENT_OBJECT_KEYS_DIFFERENT = (
        "The keys in an object in an argument value in a tool call are different than the keys in the expected object"
    )
    ARGUMENT_LIST_LENGTH_DIFFERENT = (
        "A list in an argument value in a tool call has a different length than the expected list"
    )
    ARGUMENT_VALUE_DIFFERENT = "An argument value in a tool call is different than the expected value"
    EXPECTED_TOOL_CALL = "A tool call that matches the expected tool call was found"
    FUNCTION_CALL_BATCH_LENGTH_DIFFERENT = "The number of tool calls in a batch is different than expected"
    EXPECTED_TOOL_CALL_BATCH = "A tool-call batch that matches the expected tool calls was found"


@dataclass(frozen=True)
class Comparator:
    """Gym's ``tool_call_comparator_config``, under its names and with its defaults."""

    word_count_similarity_threshold: float
    """Shared words over the words of both texts; two identical texts have 0.5."""
    floating_point_comparison_threshold: float = 1e-6
    parallel_tool_call_rewarding: bool = False
    """Whether the number of calls counts; the three below do nothing otherwise."""
    allow_subset: bool = False
    allow_superset: bool = False
    parallel_tool_call_reward_mode: RewardMode = "binary_strict"

    def compare(self, expected: Sequence[Call], actual: Sequence[Call]) -> GymResult:
        """Reward an action; no calls mean a message.

        Raises:
            GymFails: arguments that are expected, and that had to be compared, are no JSON.
        """
        if not expected:
            if actual:
                return result(0.0, Category.NO_EXPECTED_CHAT_MESSAGE)
            return result(1.0, Category.EXPECTED_CHAT_MESSAGE_FOUND)
        if not actual:
            return result(0.0, Category.NO_EXPECTED_TOOL_CALL)
        if len(expected) == len(actual) == 1:
            fault = self._compare_call(expected[0], actual[0])
            return result(0.0, fault) if fault else result(1.0, Category.EXPECTED_TOOL_CALL)
        if not self._admits(len(expected), len(actual)):
            return result(0.0, Category.FUNCTION_CALL_BATCH_LENGTH_DIFFERENT)
        return self._compare_batch(expected, actual)

    def _admits(self, num_expected: int, num_actual: int) -> bool:
        if num_expected == num_actual or not self.parallel_tool_call_rewarding:
            return True
        return self.allow_subset if num_actual < num_expected else self.allow_superset

    def _compare_batch(self, expected: Sequence[Call], actual: Sequence[Call]) -> GymResult:
        faults = [[self._compare_call(one, other) for other in actual] for one in expected]
        edges = [[j for j, fault in enumerate(row) if fault is None] for row in faults]
        # Which expected calls go without decides the category, and that depends on who is served first: the choosiest.
        order = sorted(range(len(edges)), key=lambda i: len(edges[i]))
        matched = {order[i] for i in match_all([edges[i] for i in order])}
        reward = self._reward(len(matched), len(expected), len(actual))
        counts = {"num_matched": len(matched), "num_expected": len(expected), "num_actual": len(actual)}
        if reward == 1.0:
            single = len(expected) == 1
            return result(1.0, Category.EXPECTED_TOOL_CALL if single else Category.EXPECTED_TOOL_CALL_BATCH, **counts)
        if len(matched) in (len(expected), len(actual)):
            return result(reward, Category.FUNCTION_CALL_BATCH_LENGTH_DIFFERENT, **counts)
        unmatched = min(set(range(len(expected))) - matched)
        reached = [fault for fault in faults[unmatched] if fault not in (None, Category.UNEXPECTED_TOOL)]
        return result(reward, reached[0] if reached and reached[0] else Category.UNEXPECTED_TOOL, **counts)

    def _reward(self, num_matched: int, num_expected: int, num_actual: int) -> float:
        if not self.parallel_tool_call_rewarding:
            return float(num_matched == num_expected)
        if self.parallel_tool_call_reward_mode == "f1":
            return 2 * num_matched / (num_expected + num_actual)
        required = min(num_expected, num_actual) if self.allow_subset else num_expected
        if self.parallel_tool_call_reward_mode == "fractional":
            return num_matched / required
        return float(num_matched == required)

    def _compare_call(self, expected: Call, actual: Call) -> Category | None:
        if expected[0] != actual[0]:
            return Category.UNEXPECTED_TOOL
        try:
            wanted = parse(expected[1])
        except ValueError as error:
            raise GymFails(str(error)) from error
        try:
            given = parse(actual[1])
        except ValueError:
            return Category.ARGUMENTS_DECODE_ERROR
        return self._compare_value(wanted, given)

    def _compare_value(self, expected: Any, actual: Any) -> Category | None:
        if not isinstance(actual, type(expected)):  # a boolean is an integer here
            return Category.ARGUMENT_VALUE_TYPE_DIFFERENT
        if isinstance(expected, dict):
            if expected.keys() != actual.keys():
                return Category.ARGUMENT_OBJECT_KEYS_DIFFERENT
            return self._first_fault((value, actual[key]) for key, value in expected.items())
        if isinstance(expected, list):
            if len(expected) != len(actual):
                return Category.ARGUMENT_LIST_LENGTH_DIFFERENT
            return self._first_fault(zip(expected, actual, strict=True))
        if isinstance(expected, float):
            same = abs(actual - expected) < self.floating_point_comparison_threshold
        elif isinstance(expected, str):
            same = self._same_text(expected, actual)
        else:
            same = expected == actual
        return None if same else Category.ARGUMENT_VALUE_DIFFERENT

    def _first_fault(self, pairs: Iterable[tuple[Any, Any]]) -> Category | None:
        return next(filter(None, (self._compare_value(one, other) for one, other in pairs)), None)

    def _same_text(self, expected: str, actual: str) -> bool:
        wanted, given = Counter(expected.lower().split()), Counter(actual.lower().split())
        if min(wanted.total(), given.total()) < 2:
            return expected == actual
        shared = (wanted & given).total()
        return shared / (wanted.total() + given.total()) >= self.word_count_similarity_threshold
