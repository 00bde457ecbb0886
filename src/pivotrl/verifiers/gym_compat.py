"""NeMo Gym's own reward for a turn: the same decision, reward and category as its pivot servers, their holes included.

For profiling what Gym will train on, and for comparing. For training, use a stricter verifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from pivotrl.judging.gym_rules import single_step, swe_pivot, terminal_multi_harness, terminus_judge, xlam_fc
from pivotrl.judging.gym_rules.result import Call, GymFails, GymResult
from pivotrl.options import NotNegative, Share
from pivotrl.protocols import InputError, Turn
from pivotrl.records import Action, ToolCall, Verdict

Server = Literal[
    "single_step_tool_use_with_argument_comparison",
    "swe_pivot",
    "terminus_judge",
    "terminal_multi_harness",
    "xlam_fc",
]
SERVERS: tuple[Server, ...] = get_args(Server)


def verify(
    turn: Turn,
    action: Action,
    *,
    server: Server = "single_step_tool_use_with_argument_comparison",
    word_count_similarity_threshold: Share = 0.1,
    floating_point_comparison_threshold: NotNegative = 1e-6,
    parallel_tool_call_rewarding: bool = False,
    allow_subset: bool = False,
    allow_superset: bool = False,
    parallel_tool_call_reward_mode: single_step.RewardMode = "binary_strict",
    reward_mode: swe_pivot.RewardMode = "binary",
    string_similarity_threshold: Share = 0.9,
    release: swe_pivot.Release = "0.6",
) -> Verdict:
    """Pass when Gym's reward is 1; below that fail, with Gym's reward, which some modes grade.

    Options have the names of Gym's configurations. What a row says besides its expected action (the harness, the
    declared tools, a threshold of its own) is taken from where the ``nemo_gym`` reader keeps it. Only the demonstrated
    action counts, never its alternatives.

    Args:
        word_count_similarity_threshold, floating_point_comparison_threshold, parallel_tool_call_rewarding,
            allow_subset, allow_superset, parallel_tool_call_reward_mode: of the default server; see
            :class:`pivotrl.judging.gym_rules.single_step.Comparator`. Shipped thresholds: 0.1, 0.3 and, for coding
            agents, 0.
        reward_mode: of ``swe_pivot``; see :func:`pivotrl.judging.gym_rules.swe_pivot.compare`.
        string_similarity_threshold: of ``terminus_judge`` (0.9 or 0.95 in Gym) and ``terminal_multi_harness`` (0.9);
            a row's own threshold goes first.
        release: of Gym. It matters only for ``swe_pivot``: up to 0.6 a shell call without a command passes.

    The reason is Gym's category or failure code (``match`` for its ``none``, ``partial_credit`` for a graded reward);
    ``details["category"]`` has Gym's own text. If Gym's server would fail on the row, there is no verdict:
    gym_fails, no_expected_action, threshold_not_a_number.

    Raises:
        InputError: the server, mode or release is unknown. Never for an action.
    """
    _require("server", server, Server)
    _require("parallel_tool_call_reward_mode", parallel_tool_call_reward_mode, single_step.RewardMode)
    _require("reward_mode", reward_mode, swe_pivot.RewardMode)
    _require("release", release, swe_pivot.Release)
    expected = turn.expected_action
    if not expected.tool_calls and expected.content is None:
        return Verdict.unknown("no_expected_action")
    row = _object(turn.trajectory.metadata.get("foreign"))
    threshold = row.get("threshold")
    if threshold is None:
        threshold = string_similarity_threshold
    elif not isinstance(threshold, int | float):
        return Verdict.unknown("threshold_not_a_number", threshold=threshold)
    wanted, given = _calls(expected.tool_calls), _calls(action.tool_calls)
    try:
        if server == "swe_pivot":
            found = swe_pivot.compare(wanted, given, reward_mode=reward_mode, release=release)
        elif server == "terminus_judge":
            said = "" if wanted else expected.content or ""
            harness = _object(row.get("metadata")).get("harness")
            found = terminus_judge.compare(said, action.content or "", harness=harness, threshold=threshold)
        elif server == "terminal_multi_harness":
            found = terminal_multi_harness.compare(
                wanted,
                given,
                action.content or "",
                harness=str(row.get("harness") or "generic"),
                schemas=_schemas(turn, row),
                threshold=threshold,
            )
        elif server == "xlam_fc":
            found = xlam_fc.compare(wanted, given)
        else:
            found = single_step.Comparator(
                word_count_similarity_threshold=word_count_similarity_threshold,
                floating_point_comparison_threshold=floating_point_comparison_threshold,
                parallel_tool_call_rewarding=parallel_tool_call_rewarding,
                allow_subset=allow_subset,
                allow_superset=allow_superset,
                parallel_tool_call_reward_mode=parallel_tool_call_reward_mode,
            ).compare(wanted, given)
    except GymFails as error:
        return Verdict.unknown("gym_fails", error=str(error))
    except RecursionError:  # Gym's server breaks too, but an action must not get out of a verdict
        return Verdict.failed("nested_too_deeply")
    return _verdict(found)


def _require(name: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise InputError(f"gym_compat: {name} is {value!r}; give one of {', '.join(get_args(choices))}")


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _calls(calls: Sequence[ToolCall]) -> list[Call]:
    return [(call.name, call.arguments) for call in calls]


def _schemas(turn: Turn, row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The row's ``declared_tools``, nested or flat, else the tools of the request."""
    declared = row.get("declared_tools")
    if not isinstance(declared, list):
        return {tool.name: tool.parameters for tool in turn.trajectory.tools}
    functions = [_object(_object(tool).get("function")) or _object(tool) for tool in declared]
    return {
        function["name"]: function["parameters"]
        for function in functions
        if isinstance(function.get("name"), str) and isinstance(function.get("parameters"), dict)
    }


def _verdict(found: GymResult) -> Verdict:
    details = {**found.detail, **({"category": found.category} if found.category else {})}
    if found.reward >= 1.0:
        return Verdict.passed(found.reason, **details)
    return Verdict.failed(found.reason, found.reward, **details)
