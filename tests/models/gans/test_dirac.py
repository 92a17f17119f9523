"""Dirac-GAN (Mescheder, Geiger & Nowozin 2018, arXiv:1801.04406): every loss follows its exact recursion.

The data are the point 0, the generator is a point θ, the critic ψ x: what a step of either does is known
in closed form.
"""

import cmath
import math
from functools import partial

import pytest
import torch
from torch import nn

import likely as lk
from likely.contract.training import Batch

H = 0.1  # rate of both players


class Slope(nn.Module):
    """ψ u."""

    def __init__(self, psi):
        super().__init__()
        self.psi = nn.Parameter(torch.tensor(psi))

    def forward(self, u, context):
        return self.psi * u[:, 0]


class Point(nn.Module):
    """θ, whatever the noise."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))

    def forward(self, noise):
        return self.theta.expand(len(noise), 1)


def played(model, steps=200, start=(1e-3, 1e-3)):
    """(ψ, θ) after each step of both, by plain gradient descent."""
    model.double()
    model.critic, model.generator = Slope(start[0]).double(), Point(start[1]).double()
    batch = Batch(torch.zeros(4, 1, dtype=torch.float64))
    model.prepare(batch)
    players = [(o, torch.optim.SGD(o.parameters, lr=o.rate or H)) for o in model.objectives()]
    path = []
    for step in range(steps):
        batch.step = step
        for objective, optimizer in players:
            if step % objective.every == 0:
                optimizer.zero_grad()
                objective.loss(batch).mean().backward()
                optimizer.step()
                if objective.after is not None:
                    objective.after()
        path.append((model.critic.psi.item(), model.generator.theta.item()))
    return torch.tensor(path, dtype=torch.float64)


def sigmoid(t):
    return 1 / (1 + math.exp(-t))


def recursion(slope_of_critic, slope_of_generator, steps=200, start=(1e-3, 1e-3), rate=H, every=1):
    """The same by hand; the slopes are those of the losses in ψ and in θ."""
    psi, theta = start
    path = []
    for step in range(steps):
        psi -= rate * slope_of_critic(psi, theta)
        if step % every == 0:
            theta -= H * slope_of_generator(psi, theta)
        path.append((psi, theta))
    return torch.tensor(path, dtype=torch.float64)


def non_saturating(psi, theta):
    return -psi * sigmoid(-psi * theta)


CRITIC = {
    "gan": lambda p, t: t * sigmoid(p * t),
    "lsgan": lambda p, t: p * t * t,
    "wgan": lambda p, t: t,
    "hinge": lambda p, t: t if p * t > -1 else 0.0,
}
GENERATOR = {
    "gan": non_saturating,
    "gan-minimax": lambda p, t: -p * sigmoid(p * t),
    "lsgan": lambda p, t: (p * t - 1) * p,
    "wgan": lambda p, t: -p,
}
GAMMA, LAMBDA = 0.5, 0.1


@pytest.mark.parametrize("start", [(1e-3, 1e-3), (0.9, -0.7), (1.5, -2.0)])
@pytest.mark.parametrize(
    ("name", "options", "critic", "generator"),
    [
        ("gan", {}, CRITIC["gan"], GENERATOR["gan"]),
        ("gan-minimax", {}, CRITIC["gan"], GENERATOR["gan-minimax"]),
        (
            "gan-gp",
            {"penalty": GAMMA},
            lambda p, t: CRITIC["gan"](p, t) + GAMMA * p,
            GENERATOR["gan"],
        ),
        ("lsgan", {}, CRITIC["lsgan"], GENERATOR["lsgan"]),
        ("wgan", {"bound": 100.0}, CRITIC["wgan"], GENERATOR["wgan"]),
        (
            "wgan-gp",
            {"penalty": LAMBDA},
            lambda p, t: t + 2 * LAMBDA * (abs(p) - 1) * math.copysign(1, p),
            GENERATOR["wgan"],
        ),
    ],
)
def test_losses_follow_the_exact_recursion(name, options, critic, generator, start):
    model = lk.make(name, lk.reals(1), critic_steps=1, **options)
    torch.testing.assert_close(
        played(model, start=start),
        recursion(critic, generator, start=start),
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.parametrize("start", [(0.9, -0.7), (1.5, -2.0)])
def test_the_hinge_loss_follows_the_exact_recursion(start):
    model = lk.make("gan", lk.reals(1))
    model.critic_loss, model.generator_loss = (  # which only models of images have
        partial(getattr(lk.gans.SNGAN, name), model) for name in ("critic_loss", "generator_loss")
    )
    expected = recursion(CRITIC["hinge"], GENERATOR["wgan"], start=start)
    torch.testing.assert_close(played(model, start=start), expected, rtol=0, atol=1e-6)


def test_a_critic_of_its_own_rate_and_number_of_steps():
    model = lk.make("gan", lk.reals(1), critic_rate=0.3, critic_steps=3)
    expected = recursion(CRITIC["gan"], GENERATOR["gan"], rate=0.3, every=3)
    torch.testing.assert_close(played(model), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0])
def test_rates_of_convergence_are_the_eigenvalues(gamma):
    """With R₁ the game spirals in, at γ = 1 with the least delay; without, it circles."""
    path = played(lk.make("gan", lk.reals(1), penalty=gamma))
    fitted = torch.linalg.lstsq(path[:-1], path[1:]).solution
    rates = torch.linalg.eigvals(fitted).abs().sort().values
    # ψ' = (1 − γh) ψ − hθ/2 first, then θ' = θ + hψ'/2.
    trace, determinant = 2 - gamma * H - H**2 / 4, 1 - gamma * H
    root = cmath.sqrt(trace**2 / 4 - determinant)
    exact = sorted(abs(trace / 2 + sign * root) for sign in (-1, 1))
    torch.testing.assert_close(rates, torch.tensor(exact, dtype=torch.float64), rtol=0, atol=1e-3)


def test_a_clipped_wasserstein_critic_never_settles():
    path = played(lk.make("wgan", lk.reals(1), critic_steps=1, bound=0.3), 1000, (0.2, 0.3))
    assert path[:, 0].abs().max() == 0.3
    assert path[-500:].norm(dim=1).min() > 0.1


def test_a_lazy_penalty_has_the_mean_of_an_eager_one():
    for name in ("gan-gp", "wgan-gp"):
        eager, lazy = (
            lk.make(name, lk.reals(2), hidden=(8,), penalty=0.7, penalty_every=every, seed=0)
            for every in (1, 4)
        )
        batch = Batch(torch.randn(50, 2))
        losses = {}
        for model in (eager, lazy):
            model.prepare(batch)
            model._sample_real = lambda n, context: torch.full((n, 2), 0.5)
            model.penalties = lambda real, fake, context, model=model: (
                model.penalty * model.critic(real, context).square()
            )
            loss = model.objectives()[0].loss
            losses[model] = [loss(batch) for batch.step in range(8)]
        plain = losses[lazy][1]
        assert not torch.equal(losses[lazy][0], plain)
        assert all(torch.equal(losses[lazy][i], plain) for i in (2, 3, 5, 6, 7))
        torch.testing.assert_close(
            torch.stack(losses[lazy]).mean(0), torch.stack(losses[eager]).mean(0)
        )
