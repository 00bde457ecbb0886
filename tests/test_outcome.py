"""What an action leads to: the verifier that plays on, against exhaustive truth, and its noise.

Run alone: python -m pytest tests/test_outcome.py
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("plancraft")

from pivotrl import plugins
from pivotrl.advantages import action_variance
from pivotrl.environments.plancraft import CraftingTable, parse_action, parse_observation, restore
from pivotrl.plugins.describing import describe
from pivotrl.policies.tabular import Policy
from pivotrl.protocols import InputError, NotRestorable, Observation, Turn
from pivotrl.readers.plancraft import expert_moves, read
from pivotrl.records import Action, Message, SampleGroup, Sampling, Trajectory, Verdict
from pivotrl.samplers.scripted import Sampler as Scripted
from pivotrl.seeding import uniforms
from pivotrl.verifiers.outcome import Outcome

LOG = "Craft an item of type: oak_planks\ninventory:\n - oak_log [I1] quantity 1"
"""Two moves away from planks; the only log may also be burnt to charcoal, from which there is no way back."""
MENU = (
    "move: from [I1] to [A1] with quantity 1",
    "move: from [0] to [I2] with quantity 4",
    "move: from [A1] to [I1] with quantity 1",
    "move: from [I1] to [I4] with quantity 1",
    "smelt: from [I1] to [I3] with quantity 1",
)
GOOD, NOTHING, ASTRAY, DEAD_END = MENU[0], MENU[1], MENU[3], MENU[4]
MAX_TURNS = 6
START = Turn(
    Trajectory(
        id="planks",
        task_id="planks",
        messages=(Message(role="user", content=LOG),),
        context_window=1,
        metadata={"impossible": False, "path": ["oak_planks"]},
    ),
    1,
)


class Playing:
    """A policy given by the text it writes at a turn, from a uniform number."""

    identity: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, act: Callable[[Turn, float], str]) -> None:
        self._act, self.num_turns = act, 0

    def fits(self, turn: Turn, max_tokens: int) -> bool:
        return True

    def sample(self, turns: Sequence[Turn], num_samples: int, sampling: Sampling) -> Iterator[SampleGroup]:
        for turn in turns:
            self.num_turns += num_samples
            texts = [self._act(turn, uniforms(sampling.seed, turn.id, i, 1)[0]) for i in range(num_samples)]
            scripted = Scripted(script={turn.id: texts})
            yield from scripted.sample([turn], num_samples, sampling)


def at_random(turn: Turn, uniform: float) -> str:
    return MENU[int(uniform * len(MENU))]


def planned(turn: Turn, uniform: float, path: Sequence[str] = ("oak_planks",)) -> str:
    """The published planner, from what the agent sees."""
    target, inventory = parse_observation(turn.context[-1].content or "")
    task = {"impossible": False, "slotted_inventory": inventory, "optimal_path": path, "target": target}
    try:
        return expert_moves(task)[0]
    except ValueError:
        return "impossible: nothing to be done"


State = tuple[tuple[int, str, int], ...]


@cache
def chance(state: State, turns_left: int) -> float:
    """Exact probability that the random player still crafts the planks, by trying everything."""
    return statistics.fmean(chance_after(state, move, turns_left) for move in MENU)


def chance_after(state: State, move: str, turns_left: int) -> float:
    table = CraftingTable({slot: {"type": kind, "quantity": count} for slot, kind, count in state})
    table.apply(parse_action(move))
    if table.holds("oak_planks"):
        return 1.0
    left = tuple(sorted((slot, item["type"], item["quantity"]) for slot, item in table.state.items()))
    return chance(left, turns_left - 1) if turns_left > 1 else 0.0


def judged(text: str, player: Any = None, turn: Turn = START, **options: Any) -> Verdict:
    options = {"environment": partial(restore, max_turns=MAX_TURNS), "sampler": player or Playing(at_random), **options}
    return Outcome(**options)(turn, Action(content=text))


# --- against the truth --------------------------------------------------------------------------------------------


def test_the_reward_is_the_exact_chance_of_success_up_to_its_own_standard_error() -> None:
    state: State = ((10, "oak_log", 1),)
    truth = {move: chance_after(state, move, MAX_TURNS) for move in MENU}
    assert truth[DEAD_END] == truth[ASTRAY] == 0.0 < 0.1 < truth[NOTHING] < truth[GOOD] < 0.9
    for move in (GOOD, NOTHING, DEAD_END):
        verdict = judged(move, continuations=600)
        assert verdict.reward is not None
        error = verdict.details["standard_error"]
        assert abs(verdict.reward - truth[move]) <= 4 * error, (move, verdict.reward, truth[move], error)
        assert verdict.details["rewards"].count(1.0) == round(verdict.reward * 600)


def test_a_good_player_passes_what_leads_on_and_fails_what_leads_nowhere() -> None:
    good, dead = judged(GOOD, Playing(planned)), judged(DEAD_END, Playing(planned))
    assert (good.outcome, good.reward, good.reason) == ("pass", 1.0, "reaches_threshold")
    assert (dead.outcome, dead.reward, dead.reason) == ("fail", 0.0, "below_threshold")
    assert good.details["ends"] == {"crafted": 4} and good.details["standard_error"] == 0.0


def test_the_expert_passes_at_every_turn_of_real_tasks_and_giving_up_fails() -> None:
    for trajectory in read(Path("val"), difficulty=("easy",), max_tasks=6):
        play = Playing(partial(planned, path=trajectory.metadata["path"]))
        for index in range(1, len(trajectory.messages), 2):
            turn = Turn(trajectory, index)
            verdict = Outcome(environment="plancraft", continuations=2, sampler=play)(turn, turn.expected_action)
            assert verdict.outcome == "pass" and verdict.reward == 1.0, verdict
            given_up = Outcome(environment="plancraft", sampler=play)(turn, Action(content="impossible: no"))
            assert given_up.outcome == "fail" and given_up.details["ends"] == {"stopped_possible_task": 4}


def test_the_threshold_decides_between_pass_and_fail_and_leaves_the_reward_alone() -> None:
    verdicts = [judged(GOOD, continuations=40, threshold=threshold) for threshold in (0.05, 0.95)]
    assert [verdict.outcome for verdict in verdicts] == ["pass", "fail"]
    assert verdicts[0].reward == verdicts[1].reward and 0.0 < (verdicts[0].reward or 0.0) < 1.0


# --- resume, cost -------------------------------------------------------------------------------------------------


def test_turn_action_and_seed_fix_the_verdict() -> None:
    """So a resumed run, in which other verdicts come before, gives the same one."""
    alone = judged(GOOD, continuations=30)
    others = [judged(move, continuations=30) for move in MENU]
    assert others[0] == alone == judged(GOOD, continuations=30)
    elsewhere = Turn(START.trajectory.model_copy(update={"id": "other"}), 1)
    assert judged(GOOD, continuations=30, turn=elsewhere).details["rewards"] != alone.details["rewards"]
    assert judged(GOOD, continuations=30, seed=1).details["rewards"] != alone.details["rewards"]
    assert len(set(alone.details["rewards"])) == 2, "continuations differ among each other"


def test_every_turn_that_was_bought_is_counted() -> None:
    for move in (GOOD, DEAD_END, "impossible: no", "nonsense"):
        player = Playing(at_random)
        verdict = judged(move, player, continuations=5)
        assert verdict.details["num_rollout_turns"] == player.num_turns
        assert (player.num_turns == 0) == (move == "impossible: no")


def test_a_verdict_that_is_not_reached_counts_its_turns_too() -> None:
    player = Playing(at_random)
    verdict = judged(DEAD_END, player, max_turns=3, continuations=5)
    assert (verdict.outcome, verdict.reason) == ("no_verdict", "no_end_within_max_turns")
    assert verdict.details["num_rollout_turns"] == player.num_turns == 15


def test_turns_before_count_towards_the_limit_of_the_environment() -> None:
    before = (START.trajectory.messages[0], Message(role="assistant", content="nonsense")) * 5
    late = Turn(START.trajectory.model_copy(update={"messages": (*before, START.trajectory.messages[0])}), 11)
    assert judged(GOOD, Playing(planned), turn=late).details["ends"] == {"too_many_turns": 4}
    assert judged(GOOD, Playing(planned)).details["ends"] == {"crafted": 4}


# --- policies ------------------------------------------------------------------------------------------------------


def test_the_tabular_policy_plays_on_from_a_demonstration() -> None:
    trajectory = next(t for t in read(Path("val"), difficulty=("easy",), max_tasks=12) if len(t.messages) >= 6)
    turn = Turn(trajectory, len(trajectory.messages) - 1)  # the last move: the demonstrated one crafts the target
    verify = plugins.load("verifiers", "outcome(environment='plancraft(max_turns=12)')").with_policy(Policy())
    verdict = verify(turn, turn.expected_action)
    assert verdict.outcome == "pass" and verdict.details["num_rollout_turns"] == 0
    away = verify(turn, Action(content="move: from [I30] to [I31] with quantity 1"))
    assert away.reward is not None and away.details["num_rollout_turns"] > 0
    assert verify.in_process, "a policy with torch must not run in a forked child"


def test_the_name_in_a_manifest_tells_the_options_and_not_the_policy() -> None:
    verify = plugins.load("verifiers", "outcome(environment='plancraft', continuations=7)")
    assert describe(verify) == describe(verify.with_policy(Policy()))
    assert "continuations=7" in describe(verify)


# --- no verdict ----------------------------------------------------------------------------------------------------


class Ending:
    """An environment that ends at once."""

    def __init__(self, reward: float | None, fault: str = "") -> None:
        self.answer = Observation((), reward=reward, done=not fault, reason="over", fault=fault)

    def step(self, action: Action) -> Observation:
        return self.answer

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("environment", "outcome", "reason"),
    [
        (Ending(0.75), "pass", "reaches_threshold"),
        (Ending(0.25), "fail", "below_threshold"),
        (Ending(None), "no_verdict", "no_final_reward"),
        (Ending(1.5), "no_verdict", "reward_out_of_range"),
        (Ending(math.nan), "no_verdict", "reward_out_of_range"),
        (Ending(None, "sandbox_failed"), "no_verdict", "sandbox_failed"),
    ],
)
def test_what_an_environment_says_at_the_end(environment: Ending, outcome: str, reason: str) -> None:
    verdict = judged("x", environment=lambda turn: environment)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def test_a_state_that_cannot_be_restored_gives_no_verdict() -> None:
    def never(turn: Turn) -> Any:
        raise NotRestorable("replay_differs", "message 3")

    assert judged("x", environment=never).reason == "replay_differs"
    bare = Turn(Trajectory(id="x", task_id="x", messages=(Message(role="user", content="hello"),)), 1)
    verdict = judged("x", turn=bare)
    assert (verdict.outcome, verdict.reason) == ("no_verdict", "not_a_plancraft_turn")


def test_an_empty_action_fails_without_a_turn_being_bought() -> None:
    player = Playing(at_random)
    assert judged(" \n", player).reason == "empty_action" and player.num_turns == 0


@pytest.mark.parametrize(
    "options", [{"continuations": 0}, {"threshold": 0.0}, {"threshold": 1.5}, {"max_turns": 0}, {"policy": "expert"}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="outcome"):
        Outcome(environment="plancraft", **options)


def test_without_a_policy_or_with_an_environment_that_cannot_restore_it_says_so() -> None:
    with pytest.raises(InputError, match="with_policy"):
        Outcome(environment="plancraft")(START, Action(content=GOOD))
    with pytest.raises(InputError, match="restore"):
        judged(GOOD, environment="json:dumps")
    with pytest.raises(InputError, match="no option 'level'"):
        judged(GOOD, environment="plancraft(level=3)")


# --- the variance between actions ----------------------------------------------------------------------------------


def simulate(values: Sequence[float], num_samples: int, num_continuations: int, trials: int) -> list[float]:
    """Estimates from groups of actions of these chances of success, every continuation a coin toss."""
    generator = random.Random(0)
    estimates = []
    for _ in range(trials):
        chosen = [generator.choice(values) for _ in range(num_samples)]
        rewards = [[float(generator.random() < p) for _ in range(num_continuations)] for p in chosen]
        estimate = action_variance(rewards)
        assert estimate is not None
        estimates.append(estimate)
    return estimates


def test_the_variance_between_actions_is_estimated_without_bias() -> None:
    values = (0.1, 0.9)
    estimates = simulate(values, num_samples=12, num_continuations=4, trials=1500)
    truth = statistics.pvariance(values)
    error = statistics.stdev(estimates) / math.sqrt(len(estimates))
    assert abs(statistics.fmean(estimates) - truth) <= 4 * error
    naive = truth + statistics.fmean(p * (1 - p) for p in values) / 4
    assert naive - truth > 8 * error, "what the noise would add shows at this size"


def test_actions_of_one_value_show_next_to_no_variance_and_never_less_than_none() -> None:
    estimates = simulate([0.5], num_samples=12, num_continuations=4, trials=500)
    assert min(estimates) == 0.0
    assert statistics.fmean(estimates) < 0.25 / 4 / 4, "a quarter of the noise in a mean"


def test_equal_actions_share_their_noise() -> None:
    """Three kinds of action among twelve samples; equal ones have the very same continuations."""
    generator, values, estimates, naive = random.Random(1), {"a": 0.1, "b": 0.5, "c": 0.9}, [], []
    for _ in range(3000):
        rewards_of = {a: [float(generator.random() < p) for _ in range(4)] for a, p in values.items()}
        chosen = [generator.choice("abc") for _ in range(12)]
        rewards = [rewards_of[action] for action in chosen]
        estimates.append(action_variance(rewards, chosen) or 0.0)
        naive.append(action_variance(rewards) or 0.0)
    truth = statistics.pvariance(values.values())
    error = statistics.stdev(estimates) / math.sqrt(len(estimates))
    assert abs(statistics.fmean(estimates) - truth) <= 4 * error
    assert truth - statistics.fmean(naive) > 4 * error, "taking them for different actions subtracts too much"


@pytest.mark.parametrize("rewards", [[], [[1.0, 0.0]], [[1.0], [0.0]], [[1.0, 0.0], [1.0]]])
def test_too_few_rewards_give_no_variance(rewards: list[list[float]]) -> None:
    assert action_variance(rewards) is None
