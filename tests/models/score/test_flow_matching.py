"""Flow matching: the closed-form field of Gaussians, quadrature, pairings, samples."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

import likely as lk
from likely.contract.training import Batch
from likely.core.likelihood import Kind
from likely.models.score.flow_matching import assignment

MEAN, STD = 0.7, 0.4


def gaussian_field(x, t):
    """v*(x, t) from N(0, 1) to N(m, s²), independent pairs, by conditioning Gaussians."""
    variance = t.square() * STD**2 + (1 - t).square()
    return MEAN + (t * STD**2 - (1 - t)) * (x - t * MEAN) / variance


class Features(nn.Module):
    """A network that is linear in its weights: (1, u) times Chebyshev's polynomials of t."""

    def __init__(self, degree):
        super().__init__()
        self.degree = degree
        self.weights = torch.zeros(2 * (degree + 1), 1, dtype=torch.float64)

    def forward(self, u, t, context):
        powers = torch.cos(
            torch.arange(self.degree + 1) * torch.acos((2 * t[:, None] - 1).clamp(-1, 1))
        )
        return torch.cat([powers, u * powers], 1) @ self.weights


def test_least_squares_on_the_loss_gives_the_field_of_gaussians():
    """The minimum of the loss, whose expectation is taken by quadrature, is the closed-form field."""
    model = lk.score.FlowMatching(lk.reals(1)).double()
    model.net = Features(degree=16)
    nodes, weight = (torch.as_tensor(a) for a in np.polynomial.hermite_e.hermegauss(6))
    times, share = (torch.as_tensor(a) for a in np.polynomial.legendre.leggauss(40))
    noise, z, t = torch.cartesian_prod(nodes, nodes, (times + 1) / 2).T
    mass = torch.cartesian_prod(weight, weight, share).prod(1)

    def loss(weights):
        model.net.weights = weights
        return (mass * model.mismatch(noise[:, None], MEAN + STD * z[:, None], t)).sum()

    start = model.net.weights
    gradient = torch.autograd.functional.jacobian(loss, start).flatten()
    hessian = torch.autograd.functional.hessian(loss, start).reshape(len(gradient), -1)
    model.net.weights = -torch.linalg.solve(hessian, gradient)[:, None]
    x, t = torch.cartesian_prod(torch.linspace(-2, 2, 9), torch.linspace(0, 1, 7)).double().T
    found = model.velocity(x[:, None], t)[:, 0]
    torch.testing.assert_close(found, gaussian_field(x, t), rtol=0, atol=1e-3)


def test_the_field_of_gaussians_has_their_density(monkeypatch):
    model = lk.score.FlowMatching(lk.reals(2)).double()
    monkeypatch.setattr(model, "velocity", lambda x, t, context: gaussian_field(x, t[:, None]))
    truth = torch.distributions.Normal(
        torch.tensor(MEAN, dtype=torch.float64), torch.tensor(STD, dtype=torch.float64)
    )
    x = truth.sample((50, 2))
    likelihood = model.log_likelihood(x)
    assert likelihood.kind == Kind.ESTIMATE
    torch.testing.assert_close(likelihood.value, truth.log_prob(x).sum(1), rtol=0, atol=1e-3)
    for steps in (None, 10):
        draws = model.sample(4000, seed=0, steps=steps)
        assert (draws.mean(0) - MEAN).abs().max() < 5 * STD / math.sqrt(4000)
        assert (draws.std(0) - STD).abs().max() < 5 * STD / math.sqrt(8000)


def test_without_a_network_it_is_the_standard_normal():
    """The field of standard normal rows is (2t − 1) x/q, to which the network is added."""
    model = lk.score.FlowMatching(lk.reals(3)).double()
    x, t = torch.randn(20, 3, dtype=torch.float64), torch.rand(20, dtype=torch.float64)
    q = t.square() + (1 - t).square()
    torch.testing.assert_close(model.velocity(x, t), ((2 * t - 1) / q)[:, None] * x)
    torch.testing.assert_close(model.score(x, 0.5), -x / (1 + 0.5**2))


@pytest.mark.parametrize("pairing", ["independent", "optimal"])
def test_density_on_the_plane_integrates_to_one_after_training(pairing):
    data = lk.load_data("moons")
    model = lk.make("flow-matching", data.domain, hidden=(32, 32), pairing=pairing, seed=0)
    lk.fit(model, data, steps=150, batch=128, seed=0)
    axes = [
        torch.linspace(data.train.x[:, i].min() - 1.5, data.train.x[:, i].max() + 1.5, 50)
        for i in range(2)
    ]
    x = torch.cartesian_prod(*axes)
    density = model.log_likelihood(x, tolerance=1e-3).value.exp()
    total = density.sum() * (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0])
    assert total == pytest.approx(1, abs=0.02)
    better = model.log_likelihood(data.test.x[:100], tolerance=1e-3).mean().value
    gaussian = lk.make("gaussian", data.domain)
    lk.fit(gaussian, data)
    assert better > gaussian.log_likelihood(data.test.x[:100]).mean().value + 0.1


def test_the_optimal_pairing_is_the_least_total_distance():
    z, noise = torch.randn(6, 3), torch.randn(6, 3)
    found = assignment(z, noise)
    assert sorted(found.tolist()) == list(range(6))
    costs = torch.cdist(z, noise).square()
    least = min(sum(costs[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(6)))
    assert costs[torch.arange(6), found].sum() == pytest.approx(least.item(), rel=1e-5)
    # In one column rows are joined in order.
    z, noise = torch.randn(50, 1), torch.randn(50, 1)
    assert torch.equal(noise[assignment(z, noise)].argsort(0), z.argsort(0))


def test_the_optimal_pairing_refuses_what_noise_would_depend_on():
    with pytest.raises(lk.LikelyError, match="takes no context"):
        lk.make("flow-matching", lk.reals(2), context=lk.reals(1), pairing="optimal")
    model = lk.make("flow-matching", lk.reals(2), pairing="optimal")
    with pytest.raises(lk.DataError, match="equal weight"):
        model.prepare(Batch(torch.randn(10, 2), weight=torch.rand(10)))
    model.prepare(Batch(torch.randn(10, 2)))
    with pytest.raises(lk.DensityError, match="no score"):
        model.score(torch.zeros(1, 2), 0.5)
