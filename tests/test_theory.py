"""Proposition 3.1 and Theorems 3.2 and 3.3 of the paper, on tables where everything can be computed exactly.

The last part checks the estimators that recipes/evidence/theory.py uses on the micro model.
"""

import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from pivotrl.advantages import group_advantages
from pivotrl.policies.tabular import Policy
from pivotrl.protocols import TrainingGroup, Turn, UpdateOptions
from pivotrl.records import Message, Sampling, Trajectory
from pivotrl.seeding import derive_seed

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "evidence"))
import theory_estimates as estimates
import theory_page

MESSAGES = (Message(role="user", content="go"), Message(role="assistant", content="act"))
TURN = Turn(Trajectory(id="log", task_id="task", messages=MESSAGES), 1)


def random_policy(generator, num_actions=50):
    logits = 1.5 * generator.normal(size=num_actions)
    return np.exp(logits) / np.exp(logits).sum()


def tilted(reference, rewards, beta):
    """pi_beta(a) proportional to pi_0(a) exp(r(a) / beta): the exact optimum of E r - beta KL(pi || pi_0)."""
    weights = reference * np.exp((rewards - rewards.max()) / beta)
    return weights / weights.sum()


def kl(policy, other):
    return float((policy * np.log(policy / other)).sum())


# --- Proposition 3.1 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["leave_one_out", "group"])
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.3])
def test_equal_rewards_move_nothing(estimator, reward):
    policy = Policy()
    (group,) = policy.sample([TURN], 16, Sampling())
    advantages = group_advantages([reward] * 16, estimator)
    assert advantages == [0.0] * 16
    before = policy.probabilities(TURN)
    for num_epochs in (1, 3):
        metrics = policy.update(
            [TrainingGroup(TURN, group.completions_G, advantages)], 10.0, UpdateOptions(num_epochs=num_epochs)
        )
        assert metrics["gradient/norm"] == 0.0
        assert metrics["loss/policy"] == 0.0
    assert (policy.probabilities(TURN) == before).all()


def test_mixed_rewards_move_the_policy():
    """The twin that must fail: one success among sixteen is enough for a gradient."""
    policy = Policy()
    (group,) = policy.sample([TURN], 16, Sampling())
    rewards = [float(c.token_ids_T == group.completions_G[0].token_ids_T) for c in group.completions_G]
    assert 0.0 < sum(rewards) < 16.0
    update = [TrainingGroup(TURN, group.completions_G, group_advantages(rewards))]
    assert policy.update(update, 1.0, UpdateOptions())["gradient/norm"] > 0.0


# --- Theorem 3.2 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(10))
def test_the_signal_at_a_state_is_the_standard_deviation_of_its_reward(seed, beta):
    generator = np.random.default_rng(seed)
    reference = random_policy(generator)
    rewards = (generator.random(50) < generator.random()).astype(float) if seed % 2 else generator.random(50)
    policy = tilted(reference, rewards, beta)
    deviation = math.sqrt(policy @ (rewards - policy @ rewards) ** 2)

    # Fisher norm of the natural gradient of E r over the logits: gradient' F^+ gradient.
    gradient = policy * (rewards - policy @ rewards)
    fisher = np.diag(policy) - np.outer(policy, policy)
    natural = np.linalg.pinv(fisher, rcond=1e-12, hermitian=True) @ gradient
    assert math.sqrt(natural @ fisher @ natural) == pytest.approx(deviation, rel=1e-9, abs=1e-12)
    assert math.sqrt(gradient @ natural) == pytest.approx(deviation, rel=1e-9, abs=1e-12)

    # Fisher speed of pi_beta in beta: the population score gamma = sqrt(Var) / beta^2.
    step = 1e-5 * beta
    above, below = tilted(reference, rewards, beta + step), tilted(reference, rewards, beta - step)
    speed = (np.log(above) - np.log(below)) / (2 * step)
    assert math.sqrt(policy @ speed**2) == pytest.approx(deviation / beta**2, rel=1e-6, abs=1e-9)


def test_for_binary_rewards_the_signal_peaks_at_one_success_in_two():
    masses = np.linspace(0.01, 0.99, 99)
    deviations = [math.sqrt(mass * (1 - mass)) for mass in masses]
    assert masses[int(np.argmax(deviations))] == pytest.approx(0.5)


# --- Theorem 3.3 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(10))
def test_the_optimum_raises_the_acceptable_mass_and_keeps_all_odds_within_it(seed, beta):
    generator = np.random.default_rng(100 + seed)
    reference = random_policy(generator)
    acceptable = generator.permutation(50) < generator.integers(1, 49)
    optimum = tilted(reference, acceptable.astype(float), beta)
    mass, share = reference[acceptable].sum(), optimum[acceptable].sum()

    # (i) the closed form, above the reference's mass.
    assert share == pytest.approx(mass * math.exp(1 / beta) / (mass * math.exp(1 / beta) + 1 - mass), rel=1e-12)
    assert mass < share < 1.0

    # (ii) one common factor inside M and one outside: order and conditional distributions stay.
    ratio = optimum / reference
    assert np.ptp(ratio[acceptable]) < 1e-12
    assert np.ptp(ratio[~acceptable]) < 1e-12

    # (iii) among policies with that acceptable mass it is nearest to the reference, and it wins the objective.
    for _ in range(50):
        competitor = random_policy(generator)
        competitor[acceptable] *= share / competitor[acceptable].sum()
        competitor[~acceptable] *= (1 - share) / competitor[~acceptable].sum()
        assert kl(competitor, reference) > kl(optimum, reference)
        other = random_policy(generator)
        value = other[acceptable].sum() - beta * kl(other, reference)
        assert value < share - beta * kl(optimum, reference)


def test_a_weaker_anchor_gives_more_acceptable_mass():
    reference = random_policy(np.random.default_rng(0))
    acceptable = np.arange(50) < 5
    shares = [tilted(reference, acceptable.astype(float), beta)[acceptable].sum() for beta in (8.0, 4.0, 2.0, 1.0, 0.5)]
    assert reference[acceptable].sum() < shares[0]
    assert shares == sorted(set(shares))


# --- Theorem 3.3 in a closed loop: the package's policy, sampled groups, its advantages -------------------------------


def train_with_kl(advantages_of, beta, num_steps=400, group_size=64):
    """(menu probabilities averaged over the last third of training, those of the reference)."""
    policy = Policy(num_alternatives=3, spread=0.0, seed=14)
    reference = policy.probabilities(TURN)
    options = UpdateOptions(kl_coefficient=beta, max_gradient_norm=1e9)
    visited = []
    for step in range(num_steps):
        (group,) = policy.sample([TURN], group_size, Sampling(seed=derive_seed(1, step)))
        rewards = [float(completion.token_ids_T[0] <= 1) for completion in group.completions_G]
        rate = 2.0 * 0.1 ** (step / num_steps)  # fast at first, then with little noise
        policy.update([TrainingGroup(TURN, group.completions_G, advantages_of(rewards))], rate, options)
        visited.append(policy.probabilities(TURN))
    return np.mean(visited[-num_steps // 3 :], axis=0), reference


def check_shape(policy, reference):
    """(ii): the odds within the acceptable pair, and within the rest, are those of the reference."""
    ratio = np.log(policy / reference)
    assert np.ptp(ratio[:2]) < 0.15
    assert np.ptp(ratio[2:]) < 0.15
    assert ratio[:2].min() > ratio[2:].max() + 0.5


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_training_on_centred_rewards_ends_at_the_closed_form(beta):
    policy, reference = train_with_kl(lambda rewards: [r - sum(rewards) / len(rewards) for r in rewards], beta)
    check_shape(policy, reference)
    expected = tilted(reference, np.array([1.0, 1.0, 0.0, 0.0]), beta)
    assert policy == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("estimator", ["leave_one_out", "group"])
def test_training_on_normalised_advantages_ends_there_with_beta_times_the_deviation(estimator):
    """Dividing by the deviation sqrt(q (1 - q)) multiplies the pull of the reward, so beta counts for that much less:
    q solves logit q - logit rho = 1 / (beta sqrt(q (1 - q)))."""
    beta = 2.0
    policy, reference = train_with_kl(lambda rewards: group_advantages(rewards, estimator), beta)
    check_shape(policy, reference)
    mass = reference[:2].sum()
    low, high = mass, 1.0 - 1e-9
    for _ in range(60):
        share = (low + high) / 2
        gain = math.log(share / (1 - share)) - math.log(mass / (1 - mass))
        low, high = (share, high) if gain * beta * math.sqrt(share * (1 - share)) < 1.0 else (low, share)
    assert policy[:2].sum() == pytest.approx(low, abs=0.02)


# --- the estimators of recipes/evidence/theory.py, on the tabular policy ----------------------------------------------

ACCEPTED = np.array([True, True, False, False, False])


def table():
    """(probabilities, scores over the logits) of a tabular policy at the turn."""
    share = Policy(num_alternatives=4, spread=0.0, seed=3).probabilities(TURN)
    return share, np.eye(5) - share


def test_the_natural_norm_is_the_deviation_and_the_plain_one_is_not():
    share, scores = table()
    mass = share[ACCEPTED].sum()
    deviation = math.sqrt(mass * (1 - mass))
    assert estimates.natural_norm(scores, share, ACCEPTED.astype(float)) == pytest.approx(deviation, rel=1e-9)
    plain = np.linalg.norm((share * ACCEPTED) @ scores)
    assert abs(plain / deviation - 1.0) > 0.2
    # With too few parameters to move every action on its own there is less.
    shared = np.array([[1.0], [0.0], [1.0], [0.0], [0.0]]) @ np.ones((1, 1))
    assert estimates.natural_norm(shared, share, ACCEPTED.astype(float)) < 0.9 * deviation


@pytest.mark.parametrize("estimator", ["leave_one_out", "group"])
def test_the_expected_update_is_the_signal_weight_times_the_exact_gradient(estimator):
    """Over every group of three that the table can draw, each with its probability."""
    share, scores = table()
    expected = np.zeros(5)
    for chosen in itertools.product(range(5), repeat=3):
        policy = Policy(num_alternatives=4, spread=0.0, seed=3)
        menu = policy.menu(TURN)
        completions = [policy.encode_action(TURN, menu[index]) for index in chosen]
        advantages = group_advantages([float(ACCEPTED[index]) for index in chosen], estimator)
        policy.update([TrainingGroup(TURN, completions, advantages)], 1.0, UpdateOptions(max_gradient_norm=1e9))
        change = np.log(policy.probabilities(TURN) / share)
        expected += share[list(chosen)].prod() * (change - change.mean())
    gradient = (share * ACCEPTED) @ scores
    weight = estimates.signal_weight(share[ACCEPTED].sum(), 3, estimator)
    assert expected == pytest.approx(weight * gradient, abs=1e-9)
    assert abs(weight - 1.0) > 0.05, "the twin: the plain gradient is another one"


def drift_of(after):
    share, _ = table()
    rejected = np.repeat(np.arange(5)[~ACCEPTED], np.rint(1e4 * share[~ACCEPTED] / share[~ACCEPTED].sum()).astype(int))
    drifts = estimates.drift(
        np.log(share[ACCEPTED]), np.log(after[ACCEPTED]), np.log(share[rejected]), np.log(after[rejected])
    )
    return dict(zip(estimates.DRIFTS, drifts, strict=True)), kl(share, after)


def test_the_exact_optimum_moves_mass_and_nothing_else():
    share, _ = table()
    beta = 0.7
    found, distance = drift_of(tilted(share, ACCEPTED.astype(float), beta))
    assert found["logit"] == pytest.approx(1 / beta)
    for name in ("accepted_pairs", "rejected_pairs", "kl_accepted", "kl_rejected"):
        assert found[name] == pytest.approx(0.0, abs=1e-6), name
    assert found["kl_moved"] == pytest.approx(distance, rel=1e-9)


def test_imitating_one_accepted_action_is_seen_as_drift():
    """The twin that must fail: the optimum of a reward for the demonstrated action alone."""
    share, _ = table()
    beta = 0.7
    found, distance = drift_of(tilted(share, np.eye(5)[0], beta))
    within = share[0] / share[ACCEPTED].sum()
    assert found["accepted_pairs"] == pytest.approx(math.sqrt(2 * within * (1 - within)) / beta)
    assert found["rejected_pairs"] == pytest.approx(0.0, abs=1e-6)
    assert found["kl_accepted"] > 0.01
    assert found["kl_moved"] + found["kl_accepted"] + found["kl_rejected"] == pytest.approx(distance, abs=1e-6)


@pytest.mark.parametrize(("power", "verdict"), [(1.0, "holds"), (2.0, "does not hold")])
def test_a_slope_tells_proportional_from_quadratic(power, verdict):
    generator = np.random.default_rng(5)
    rates = generator.uniform(0.005, 0.6, size=120)
    deviations = np.sqrt(rates * (1 - rates))
    norms = 3.0 * deviations**power * np.exp(0.2 * generator.normal(size=120))
    found = estimates.relation(deviations, norms, [f"task {i // 2}" for i in range(120)], num_resamples=200)
    assert found["slope"][1] < power < found["slope"][2]
    assert theory_page.decided(found["slope"], *theory_page.PROPORTIONAL) == verdict


def test_drifts_at_a_pass_rate_lie_between_checkpoints():
    low, high = np.full((4, 7), 0.2), np.full((4, 7), 0.6)
    assert estimates.at_level([low, high], 0.5) == pytest.approx(np.full((4, 7), 0.5))
    assert estimates.at_level([low, high], 0.7) is None
