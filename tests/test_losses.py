"""The losses against plain Python, hand-computed values and torch (NUM-01, 02, 04, 06)."""

import math
import random

import pytest
import torch

from pivotrl.engine.losses import clipped_policy_loss, kl_k3, likelihood_loss
from pivotrl.protocols.tokens import token_weights


def tensor(values, **kwargs):
    return torch.tensor(values, dtype=torch.float64, **kwargs)


def reference_loss(new, old, advantages, weights, low, high):
    """Equation 7 without torch: (loss, gradient in each log-probability)."""
    loss, gradient = [], []
    for n, o, advantage, weight in zip(new, old, advantages, weights, strict=True):
        ratio = math.exp(n - o)
        clipped = min(max(ratio, 1 - low), 1 + high)
        flows = ratio * advantage <= clipped * advantage
        loss.append(-weight * min(ratio * advantage, clipped * advantage))
        gradient.append(-weight * advantage * ratio if flows else 0.0)
    return math.fsum(loss), gradient


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_300_random_cases_against_plain_python(dtype, tolerance):
    generator = random.Random(0)
    num_clipped = 0
    for _ in range(300):
        size = generator.randint(1, 12)
        new = [-generator.expovariate(1.0) for _ in range(size)]
        old = [n + generator.gauss(0.0, generator.choice([0.01, 0.3, 2.0])) for n in new]
        advantages = [generator.choice([0.0, generator.gauss(0.0, 1.5)]) for _ in range(size)]
        weights = [generator.random() / size for _ in range(size)]
        low, high = generator.choice([(0.2, 0.2), (0.2, 0.28), (0.1, 5.0)])
        if dtype == torch.float32:  # compare arithmetic, not the rounding of inputs
            new, old, advantages, weights = (
                torch.tensor(values, dtype=dtype).tolist() for values in (new, old, advantages, weights)
            )
        expected, expected_gradient = reference_loss(new, old, advantages, weights, low, high)
        logprobs = torch.tensor(new, dtype=dtype, requires_grad=True)
        rest = (torch.tensor(values, dtype=dtype) for values in (old, advantages, weights))
        loss, ratio = clipped_policy_loss(logprobs, *rest, low, high)
        loss.backward()
        assert not ratio.requires_grad
        assert loss.item() == pytest.approx(expected, rel=tolerance, abs=tolerance)
        assert logprobs.grad.tolist() == pytest.approx(expected_gradient, rel=tolerance, abs=tolerance)
        num_clipped += sum(g == 0.0 and a != 0.0 for g, a in zip(expected_gradient, advantages, strict=True))
    assert num_clipped > 200


@pytest.mark.parametrize(
    ("ratio", "advantage", "weight", "low", "high", "loss", "gradient"),
    [
        (1.0, 1.0, 1.0, 0.2, 0.2, -1.0, -1.0),  # on policy: plain policy gradient
        (1.0, -2.0, 0.5, 0.2, 0.2, 1.0, 1.0),
        (1.1, 1.0, 1.0, 0.2, 0.2, -1.1, -1.1),  # within the range
        (1.5, 1.0, 1.0, 0.2, 0.2, -1.2, 0.0),  # good enough already: clipped
        (1.5, -1.0, 1.0, 0.2, 0.2, 1.5, 1.5),  # risen although bad: pushed back at full strength
        (0.5, 1.0, 1.0, 0.2, 0.2, -0.5, -0.5),  # fallen although good: pulled up
        (0.5, -1.0, 1.0, 0.2, 0.2, 0.8, 0.0),  # bad and fallen already: clipped
        (0.5, -4.0, 0.25, 0.4, 0.2, 0.6, 0.0),
        (1.25, 1.0, 1.0, 0.2, 0.28, -1.25, -1.25),  # asymmetric: 1.25 lies below 1.28
        (1.3, 1.0, 1.0, 0.2, 0.28, -1.28, 0.0),
        (0.75, -1.0, 1.0, 0.3, 0.2, 0.75, 0.75),
        (0.75, -1.0, 1.0, 0.2, 0.3, 0.8, 0.0),
        (3.0, 0.0, 1.0, 0.2, 0.2, 0.0, 0.0),
    ],
)
def test_by_hand(ratio, advantage, weight, low, high, loss, gradient):
    logprobs = tensor([math.log(ratio) - 1.0], requires_grad=True)
    result, ratio_S = clipped_policy_loss(logprobs, tensor([-1.0]), tensor([advantage]), tensor([weight]), low, high)
    result.backward()
    assert result.item() == pytest.approx(loss, abs=1e-12)
    assert logprobs.grad.item() == pytest.approx(gradient, abs=1e-12)
    assert ratio_S.item() == pytest.approx(ratio)


def test_on_policy_the_ratio_is_exactly_one():
    logprobs = torch.log_softmax(torch.randn(50, 7), dim=-1)[:, 0]
    _, ratio = clipped_policy_loss(logprobs, logprobs.detach(), torch.ones(50), torch.ones(50), 0.2, 0.2)
    assert (ratio == 1.0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("old", [-1000.0, -200.0, -1.0, 0.0, -math.inf])
@pytest.mark.parametrize("advantage", [3.0, -3.0])
def test_a_stale_log_probability_leaves_the_gradient_finite(old, advantage, dtype):
    logprobs = torch.tensor([-0.5, -300.0, -0.5], dtype=dtype, requires_grad=True)
    old_S = torch.tensor([old, -1.0, -0.5], dtype=dtype)
    advantages, weights = torch.full((3,), advantage, dtype=dtype), torch.full((3,), 1 / 3, dtype=dtype)
    loss, ratio = clipped_policy_loss(logprobs, old_S, advantages, weights, 0.2, 0.2)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(ratio).all()
    assert torch.isfinite(logprobs.grad).all()
    assert logprobs.grad[2].item() == pytest.approx(-advantage / 3)  # the healthy token is not touched


@pytest.mark.parametrize("seed", range(20))
def test_cutting_a_batch_anywhere_leaves_loss_and_gradient(seed):
    generator = random.Random(seed)
    lengths = [generator.randint(1, 9) for _ in range(generator.randint(1, 12))]
    level = generator.choice(["token", "sequence"])
    torch.manual_seed(seed)
    size = sum(lengths)
    parameter = torch.randn(size, 5, dtype=torch.float64, requires_grad=True)
    chosen = torch.randint(5, (size,))
    old = -torch.rand(size, dtype=torch.float64) * 3
    per_sequence = [(length, generator.gauss(0, 1)) for length in lengths]
    advantages = tensor([advantage for length, advantage in per_sequence for _ in range(length)])
    weights = tensor([w for w, n in zip(token_weights(lengths, level), lengths, strict=True) for _ in range(n)])

    def gradient(parts):
        parameter.grad = None
        total = 0.0
        for rows in parts:
            rows = torch.tensor(rows)
            logprobs = torch.log_softmax(parameter[rows], dim=-1).gather(-1, chosen[rows, None])[:, 0]
            loss, _ = clipped_policy_loss(logprobs, old[rows], advantages[rows], weights[rows], 0.2, 0.28)
            loss = loss + 0.1 * (weights[rows] * kl_k3(logprobs, old[rows])).sum()
            loss.backward()
            total += loss.item()
        return total, parameter.grad.clone()

    order = generator.sample(range(size), size)
    cuts = sorted(generator.sample(range(1, size), min(size - 1, generator.randint(0, 4)))) if size > 1 else []
    parts = [order[a:b] for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
    whole, pieces = gradient([list(range(size))]), gradient(parts)
    assert whole[0] == pytest.approx(pieces[0], rel=1e-10, abs=1e-12)
    torch.testing.assert_close(whole[1], pieces[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_weights_sum_to_one_over_all_tokens(level):
    lengths = [1, 7, 2, 30]
    weights = token_weights(lengths, level)
    assert math.fsum(w * n for w, n in zip(weights, lengths, strict=True)) == pytest.approx(1.0)


def test_token_level_weighs_tokens_and_sequence_level_weighs_completions():
    assert token_weights([1, 3], "token") == [0.25, 0.25]
    assert token_weights([1, 3], "sequence") == pytest.approx([1 / 2, 1 / 6])


def test_kl_estimate_is_zero_where_both_agree_and_positive_elsewhere():
    logprobs = -torch.rand(200, dtype=torch.float64) * 5
    assert (kl_k3(logprobs, logprobs) == 0.0).all()
    other = -torch.rand(200, dtype=torch.float64) * 5
    assert (kl_k3(logprobs, other) > 0.0).all()


@pytest.mark.parametrize(
    ("policy", "reference", "expected"), [(0.5, 0.25, 0.5 - math.log(0.5) - 1), (0.2, 0.6, 3 - math.log(3) - 1)]
)
def test_kl_estimate_by_hand(policy, reference, expected):
    """k3 = r - log r - 1 with r = reference / policy: the sign of KL(policy || reference)."""
    assert kl_k3(tensor([math.log(policy)]), tensor([math.log(reference)])).item() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(10))
def test_kl_estimate_is_unbiased(seed):
    """Summed over the whole vocabulary under the policy it is KL(policy || reference)."""
    torch.manual_seed(seed)
    logprobs, reference = torch.log_softmax(1.5 * torch.randn(2, 6, dtype=torch.float64), dim=-1)
    exact = (logprobs.exp() * (logprobs - reference)).sum()
    assert (logprobs.exp() * kl_k3(logprobs, reference)).sum().item() == pytest.approx(exact.item(), rel=1e-10)


@pytest.mark.parametrize("gap", [-1e4, -50.0, 50.0, 1e4])
def test_kl_estimate_stays_finite(gap):
    logprobs = tensor([-1.0], requires_grad=True)
    value = kl_k3(logprobs, tensor([-1.0 + gap]))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(logprobs.grad).all()


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_likelihood_is_cross_entropy(level):
    torch.manual_seed(0)
    lengths = [3, 1, 5]
    logits = torch.randn(9, 11, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(11, (9,))
    weights = tensor([w for w, n in zip(token_weights(lengths, level), lengths, strict=True) for _ in range(n)])
    logprobs = torch.log_softmax(logits, dim=-1).gather(-1, targets[:, None])[:, 0]
    loss = likelihood_loss(logprobs, torch.ones(9, dtype=torch.float64), weights)
    (gradient,) = torch.autograd.grad(loss, logits)
    if level == "token":
        expected = torch.nn.functional.cross_entropy(logits, targets)
    else:
        pieces = zip(logits.split(lengths), targets.split(lengths), strict=True)
        expected = torch.stack([torch.nn.functional.cross_entropy(x, y) for x, y in pieces]).mean()
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-14)


def test_likelihood_follows_its_weights_when_actions_are_not_equally_good():
    logprobs = tensor([-1.0, -2.0, -4.0])
    loss = likelihood_loss(logprobs, tensor([1.0, 0.0, 0.5]), tensor([0.5, 0.25, 0.25]))
    assert loss.item() == pytest.approx(0.5 + 0.5)
