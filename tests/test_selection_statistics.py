"""What a profile says of each turn, what is advised, and which turns stay under limits and budgets."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from pivotrl.protocols import InputError
from pivotrl.records import Action, Completion, SampleGroup, Selection, ToolCall, Verdict
from pivotrl.selection import Facts, SelectionOptions, select
from pivotrl.selection.actions import action_entropy, entropy, tools_called
from pivotrl.selection.options import settings_of
from pivotrl.storage.record_files import decode_line, encode_line


def completion(text: str = "x", length: int = 1, **changes: object) -> Completion:
    ids = tuple(range(length))
    return Completion(
        action=Action(content=text), text=text, token_ids_T=ids, logprobs_T=(-1.0,) * length, finish_reason="stop"
    ).model_copy(update=changes)


def group(name: str, *rewards: float | None, length: int = 1, prompt: int = 10, **changes: object) -> SampleGroup:
    verdicts = [
        Verdict.unknown("down") if r is None else Verdict(outcome="pass" if r > 0 else "fail", reward=r, reason="r")
        for r in rewards
    ]
    drawn = (completion(length=length, **changes),) * len(rewards)
    return SampleGroup(turn_id=name, completions_G=drawn, verdicts_G=tuple(verdicts), num_prompt_tokens=prompt)


def passes(name: str, number: int, total: int = 8, **changes: object) -> SampleGroup:
    return group(name, *[1] * number, *[0] * (total - number), **changes)  # type: ignore[arg-type]


def rows(groups: list[SampleGroup], facts: Facts = Facts(), **options: object) -> dict[str, Selection]:
    return {row.turn_id: row for row in select(groups, SelectionOptions(**options), facts)}  # type: ignore[arg-type]


def chosen(groups: list[SampleGroup], facts: Facts = Facts(), **options: object) -> list[str]:
    return [name for name, row in rows(groups, facts, **options).items() if row.selected]


SPREAD = [passes(f"p{number}#{number}", number) for number in range(9)]
"""Turns with 0 to 8 passes of 8."""


def test_the_posterior_of_a_single_turn_is_that_of_a_beta_binomial() -> None:
    """One turn alone: two parts of Jeffreys' prior and one of its own likelihood, hence between the two."""
    row = rows([passes("one#1", 3, 4)], selection_group_size=8)["one#1"]
    exact = stats.beta(3.5, 1.5)
    assert row.pass_rate == pytest.approx(exact.mean(), abs=0.06)
    assert row.pass_rate_low is not None and row.pass_rate_high is not None
    assert row.pass_rate_low < 0.75 < row.pass_rate_high
    mixed = 1 - exact.expect(lambda p: p**8) - exact.expect(lambda p: (1 - p) ** 8)
    assert row.chance_mixed == pytest.approx(mixed, abs=0.1)


def test_turns_of_a_profile_inform_each_other() -> None:
    """A turn that failed four times among many that always fail is a surer failure than among many that waver."""
    sure = rows([group("a#1", 0, 0, 0, 0), *[passes(f"b{i}#1", 0, 16) for i in range(200)]])["a#1"]
    unsure = rows([group("a#1", 0, 0, 0, 0), *[passes(f"b{i}#1", 4, 16) for i in range(200)]])["a#1"]
    assert (sure.chance_mixed or 1) < 0.1 < 0.5 < (unsure.chance_mixed or 0)
    assert (sure.route, unsure.route) == ("imitate", "practise")


def test_likely_mixed_drops_a_lucky_turn_that_the_papers_rule_keeps() -> None:
    """One pass of 32 is mixed, but the next group of 4 hardly will be."""
    profile = [passes("lucky#1", 1, 32), passes("half#1", 12, 32), *[passes(f"x{i}#1", 0, 32) for i in range(20)]]
    assert chosen(profile, rule="mixed") == ["lucky#1", "half#1"]
    found = rows(profile, rule="likely_mixed", selection_group_size=4)
    assert [name for name, row in found.items() if row.selected] == ["half#1"]
    assert found["lucky#1"].reason == "unlikely_mixed" and found["x0#1"].reason == "always_fail"


def test_likely_mixed_keeps_a_turn_that_two_samples_could_not_show_to_be_mixed() -> None:
    profile = [group("short#1", 0, 0), *[passes(f"x{i}#1", 4 + i % 3, 16) for i in range(60)]]
    assert "short#1" not in chosen(profile, rule="mixed")
    assert "short#1" in chosen(profile, rule="likely_mixed")


def test_the_mean_of_the_posterior_must_lie_below_the_limit() -> None:
    found = rows(SPREAD, rule="likely_mixed", max_mean=0.5)
    assert all((row.pass_rate or 1) < 0.5 for row in found.values() if row.selected)
    assert found["p6#6"].reason == "too_easy"


def test_routes_come_from_the_posterior_and_imitate_selects_one_of_them() -> None:
    profile = [*SPREAD, group("none#1", None, None), *[passes(f"z{i}#1", 0) for i in range(9)]]
    found = rows(profile, rule="imitate", selection_group_size=4)
    assert {name for name, row in found.items() if row.selected} == {"p0#0", "p1#1", *(f"z{i}#1" for i in range(9))}
    assert "p1#1" not in chosen(profile, rule="imitate", selection_group_size=16)  # a larger group may have a pass
    assert found["p4#4"].route == found["p4#4"].reason == "practise"
    assert found["p8#8"].route == found["p8#8"].reason == "leave"
    unknown = found["none#1"]
    assert (unknown.reason, unknown.route, unknown.pass_rate, unknown.deviation) == ("no_verdict", "leave", None, None)


def test_graded_rewards_count_as_mixed_by_their_own_spread() -> None:
    """A verifier that always gives 0.5 is no coin: its groups are never mixed. Grades of 0.9 to 1 are always mixed,
    but vary little."""
    profile = [
        group("same#1", *[0.5] * 8),
        group("high#1", 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 1.0),
        group("coin#1", 0, 1, 0, 1, 0, 1, 0, 1),
    ]
    found = rows(profile, rule="all")
    same, high, coin = (found[f"{name}#1"] for name in ("same", "high", "coin"))
    assert (same.chance_mixed or 0) < 0.5 < 0.9 < (high.chance_mixed or 0) and (coin.chance_mixed or 0) > 0.9
    assert same.deviation == 0
    assert 0 < (high.deviation or 0) < 0.1 < 0.4 < (coin.deviation or 0)


@pytest.mark.parametrize("probabilities", [(1.0,), (0.5, 0.5), (0.7, 0.2, 0.1), (0.25,) * 4])
@pytest.mark.parametrize("count", [2, 4, 6])
def test_the_entropy_estimate_is_on_average_the_series_that_its_docstring_says(
    probabilities: tuple[float, ...], count: int
) -> None:
    """Exact mean over all sequences of n draws, against the series."""
    mean = math.fsum(
        math.prod(probabilities[kind] for kind in draws) * entropy([draws.count(kind) for kind in set(draws)])
        for draws in itertools.product(range(len(probabilities)), repeat=count)
    )
    assert mean == pytest.approx(math.fsum(p * (1 - p) ** j / j for p in probabilities for j in range(1, count)))


def test_the_plain_entropy_would_be_too_small() -> None:
    generator, kinds = np.random.default_rng(0), 6
    counts_R = generator.multinomial(16, [1 / kinds] * kinds, size=2000)
    ours = np.mean([entropy([int(k) for k in counts if k]) for counts in counts_R])
    plain = np.mean([stats.entropy(counts / 16) for counts in counts_R])
    assert ours == pytest.approx(math.log(kinds), abs=0.03)
    assert plain < math.log(kinds) - 0.1


def test_equal_actions_are_counted_as_one() -> None:
    def calls(arguments: str) -> Completion:
        call = ToolCall(name="find", arguments=arguments)
        return completion(arguments, action=Action(tool_calls=(call,)))

    assert action_entropy([calls('{"a": 1, "b": 2}'), calls('{"b":2,"a":1}')]) == 0
    assert action_entropy([calls('{"a": 1}'), calls('{"a": 2}')]) == pytest.approx(1.0)  # H_1 - H_0, at most so much
    assert action_entropy([completion(" yes "), completion("yes")]) == 0
    assert action_entropy([completion("a", parse_error="bad"), completion("b", parse_error="bad")]) == 0
    assert action_entropy([calls("{not json"), calls("{not json}")]) == pytest.approx(1.0)
    assert action_entropy([completion()]) is None
    assert action_entropy([completion(), completion("", fault="server_unavailable")]) is None


def test_order_by_signal_keeps_the_turns_of_greatest_deviation() -> None:
    assert chosen(SPREAD, rule="all", order="signal", max_pivots=3) == ["p3#3", "p4#4", "p5#5"]
    assert chosen(SPREAD, rule="all", order="random", max_pivots=3) != ["p3#3", "p4#4", "p5#5"]


def test_signal_for_each_token_prefers_short_turns() -> None:
    profile = [passes("long#1", 4, length=400), passes("short#1", 2, length=20), passes("prompt#1", 4, prompt=50_000)]
    assert chosen(profile, rule="all", order="signal", max_pivots=1)[0] in ("long#1", "prompt#1")
    assert chosen(profile, rule="all", order="signal_per_token", max_pivots=1) == ["short#1"]


def test_budgets_buy_one_visit_to_each_pivot() -> None:
    profile = [passes(f"t{i}#1", 4, length=10) for i in range(20)]
    sizes = {"selection_group_size": 4, "rule": "all"}
    assert len(chosen(profile, budget_rollout_turns=19, **sizes)) == 4
    assert len(chosen(profile, budget_tokens=200, **sizes)) == 5
    fast = Facts(seconds_per_token=0.5)
    assert len(chosen(profile, fast, budget_seconds=61.0, **sizes)) == 3
    assert len(chosen(profile, fast, budget_seconds=61.0, budget_tokens=80, max_pivots=9, **sizes)) == 2
    found = rows(profile, budget_tokens=200, **sizes)
    assert sum(row.reason == "over_budget" for row in found.values()) == 15
    assert all(row.group_tokens == 40 for row in found.values())


def test_a_turn_that_no_longer_fits_is_passed_over() -> None:
    profile = [passes("large#1", 4, length=100), passes("small#1", 2, length=10)]
    assert chosen(profile, rule="all", order="signal", budget_tokens=100, selection_group_size=4) == ["small#1"]


def test_caps_hold_per_trajectory_tool_and_message_and_keep_the_best() -> None:
    profile = [passes(f"a#{i}", i) for i in range(1, 8)] + [passes(f"b#{i}", 4) for i in range(3)]
    assert chosen(profile, rule="all", order="signal", max_per_trajectory=1)[0] == "a#4"
    assert len(chosen(profile, rule="all", max_per_trajectory=2)) == 4
    tools = {g.turn_id: "find" if g.turn_id.startswith("a") else "(message)" for g in profile}
    assert chosen(profile, Facts(tools), rule="all", max_per_tool=2, order="signal")[-3:] == ["b#0", "b#1", "b#2"]
    kept = chosen(profile, Facts(tools), rule="all", max_messages=0)
    assert kept == [f"a#{i}" for i in range(1, 8)]
    found = rows(profile, Facts(tools), rule="all", max_messages=1)
    assert sum(row.reason == "over_cap" for row in found.values()) == 2


def test_the_same_turns_stay_drawn_when_others_are_added() -> None:
    profile = [passes(f"t{i}#1", 4) for i in range(40)]
    few = chosen(profile[:20], rule="all", max_pivots=10)
    assert set(chosen(profile, rule="all", max_pivots=10)) & {g.turn_id for g in profile[:20]} <= set(few)


def test_what_is_not_known_is_refused_by_its_flag() -> None:
    texts = [passes("t#1", 4, token_ids_T=(), logprobs_T=())]
    for options, flag in (
        ({"budget_seconds": 5.0}, "--budget-seconds 5 needs the seconds"),
        ({"budget_tokens": 5}, "--budget-tokens 5 needs token counts"),
        ({"order": "signal_per_token"}, "--order signal_per_token needs token counts"),
        ({"max_per_tool": 5}, "--max-per-tool needs the tool"),
        ({"max_messages": 5}, "--max-messages needs the tool"),
    ):
        with pytest.raises(InputError, match=flag):
            rows(texts, **options)
    assert chosen(texts, budget_rollout_turns=16) == ["t#1"]
    assert rows(texts)["t#1"].group_tokens is None
    with pytest.raises(InputError, match="--order signal does not fit the rule random"):
        SelectionOptions(rule="random", order="signal")
    with pytest.raises(InputError, match="--selection-group-size"):
        SelectionOptions(selection_group_size=1)


@pytest.mark.parametrize("rule", ["mixed", "mean_only", "likely_mixed", "imitate", "random", "all"])
@pytest.mark.parametrize(
    "profile",
    [
        [],
        [group("none#1")],
        [group("t#1", None, None)],
        [group("t#1", 1)],
        [group("t#1", 0.3, 0.3)],
        [group("t#1", None), group("u#1", 1, 0, 1, 0, 0), group("v#1", 0, 0)],
    ],
    ids=["empty", "no samples", "no verdict", "one sample", "graded", "uneven"],
)
def test_small_and_odd_profiles_have_a_row_for_each_turn(rule: str, profile: list[SampleGroup]) -> None:
    found = select(profile, SelectionOptions(rule=rule, order="signal" if rule != "random" else "random", max_pivots=1))  # type: ignore[arg-type]
    assert [row.turn_id for row in found] == [group.turn_id for group in profile]
    for row in found:
        assert row == decode_line(encode_line(row)[:-1], Selection)
        assert row.reason == "no_verdict" or row.pass_rate is not None


def test_rows_of_older_versions_still_read_and_are_written_as_they_were() -> None:
    row = rows(SPREAD)["p3#3"]
    line = b'{"turn_id":"p3#3","selected":true,"reason":"pivot","reward_mean":0.375,"reward_variance":0.234375,'
    assert encode_line(row.without_evidence()).startswith(line + b'"num_scored":8,"_crc32"')
    old = decode_line(encode_line(row.without_evidence())[:-1], Selection)
    assert old.pass_rate is None and old.without_evidence() == old and old.selected


def test_options_of_older_versions_are_noted_as_they_noted_them() -> None:
    assert settings_of(SelectionOptions()) == {
        "rule": "mixed",
        "max_mean": 0.6,
        "max_pivots": None,
        "selection_seed": 0,
    }
    assert settings_of(SelectionOptions(order="signal", max_pivots=3))["order"] == "signal"


def test_tools_are_named_by_what_the_action_calls() -> None:
    calls = tuple(ToolCall(name=name, arguments="{}") for name in ("find", "open", "find"))
    assert tools_called(Action(tool_calls=calls)) == "find + open"
    assert tools_called(Action(content="hello")) == "(message)"
