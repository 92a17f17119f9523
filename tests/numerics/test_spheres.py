"""Distributions on spheres against closed forms, quadrature and finite differences."""

import math

import pytest
import torch

from likely.numerics.spheres import PowerSpherical, Spherical, VonMisesFisher, around, log_area

FAMILIES = [VonMisesFisher, PowerSpherical]
RANGE = torch.logspace(-3, 4, 15, dtype=torch.float64)


def number(value):
    return torch.tensor([value], dtype=torch.float64)


@pytest.mark.parametrize(
    ("m", "kappa", "expected"),
    [
        (2, 10, 1.543026),
        (3, 1, 0.151596),
        (3, 10, 1.995732),
        (3, 100, 4.298317),
        (5, 10, 2.416177),
        (10, 10, 2.484470),
        (20, 100, 16.940417),
        (40, 1000, 63.971485),
    ],
)
def test_divergence_of_von_mises_and_fishers_distribution(m, kappa, expected):
    found = VonMisesFisher(number(kappa), m).divergence().item()
    assert found == pytest.approx(expected, abs=6e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_divergences_and_derivatives_over_the_whole_range(family, dtype):
    for m in (2, 3, 10, 100, 700):
        kappa = RANGE.to(dtype).requires_grad_()
        divergence = family(kappa, m).divergence()
        (slope,) = torch.autograd.grad(divergence.sum(), kappa)
        assert (divergence > -1e-10).all()
        assert (divergence.diff() > -1e-10).all()
        assert (slope > -1e-10).all()
        if family is VonMisesFisher and m == 3:  # κ coth κ − 1 + log (κ / sinh κ), without overflow
            k = kappa.detach().double()
            log_sinh = k + (-(-2 * k).expm1() / 2).log()
            expected = k / k.tanh() - 1 + k.log() - log_sinh
            torch.testing.assert_close(divergence, expected, rtol=1e-9, atol=1e-12)
            expected = 1 / k - k / log_sinh.exp().square()  # κ A′
            torch.testing.assert_close(slope.double(), expected, rtol=1e-4, atol=1e-9)
        # Differences, where rounding leaves something of them.
        near = [family(RANGE[4:] * (1 + s), m).divergence() for s in (1e-4, -1e-4)]
        expected = (near[0] - near[1]) / (2e-4 * RANGE[4:])
        torch.testing.assert_close(slope[4:].double(), expected, rtol=1e-3, atol=1e-6)


def test_closed_forms_of_the_power_spherical_distribution_against_quadrature():
    for m in (2, 5, 50):
        law = PowerSpherical(RANGE[RANGE >= 1], m)
        torch.testing.assert_close(
            law.log_z_and_mean(), Spherical.log_z_and_mean(law), rtol=1e-11, atol=1e-9
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_densities_integrate_to_one(family):
    for m, circle in ((2, 2.0), (3, 2 * math.pi)):  # points or a circle at each angle
        for kappa in (0.1, 3.0, 200.0):
            edges = torch.linspace(0, math.pi, 20_001, dtype=torch.float64)
            angle = (edges[1:] + edges[:-1]) / 2
            density = family(number(kappa), m).log_prob(angle[:, None])[:, 0].exp()
            mass = (density * circle * angle.sin() ** (m - 2)).sum() * edges[1]
            assert mass.item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("m", "kappa"), [(2, 5.0), (3, 4.0), (10, 10.0), (40, 1000.0)])
def test_draws_have_the_mean_and_follow_the_density(family, m, kappa):
    torch.manual_seed(0)
    n, law = 40_000, family(number(kappa), m)
    angle = law.draw(n)
    t = law.statistic(angle)
    error = t.std().item() / math.sqrt(n)
    assert t.mean().item() == pytest.approx(law.log_z_and_mean()[1].item(), abs=4 * error)
    mean = torch.eye(m, dtype=torch.float64)[:1].roll(1, 1)
    z = around(mean, angle)
    torch.testing.assert_close(z.norm(dim=2), torch.ones(n, 1).double())
    torch.testing.assert_close(z @ mean[0], angle.cos())
    sideways = z[:, 0, 0]
    assert abs(sideways.mean().item()) < 4 * sideways.std().item() / math.sqrt(n)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_uniform_density_over_that_of_draws_has_the_mean_one(family):
    torch.manual_seed(0)
    for m in (2, 3, 6):
        law = family(number(0.3), m)
        ratio = (-log_area(m) - law.log_prob(law.draw(10_000))).exp()
        assert ratio.mean().item() == pytest.approx(1, abs=4 * ratio.std().item() / 100)


@pytest.mark.parametrize(
    ("m", "kappa", "exact", "biased"), [(5, 2.0, 0.147389, 0.1277), (10, 10.0, 0.028163, 0.02602)]
)
def test_derivatives_of_draws_have_the_derivative_of_the_mean(m, kappa, exact, biased):
    """Derivatives of what a rejection sampler accepts have the biased mean."""
    torch.manual_seed(0)
    n, k = 20_000, number(kappa)
    a = VonMisesFisher(k, m).log_z_and_mean()[1].item() + 1
    assert 1 - a * a - (m - 1) * a / kappa == pytest.approx(exact, abs=6e-7)
    rows = k.expand(n).clone().requires_grad_()
    (slopes,) = torch.autograd.grad(VonMisesFisher(rows, m).draw(1).cos().sum(), rows)
    error = slopes.std().item() / math.sqrt(n)
    assert error < abs(exact - biased) / 20
    assert slopes.mean().item() == pytest.approx(exact, abs=4 * error)


@pytest.mark.parametrize("family", FAMILIES)
def test_derivatives_of_single_draws_follow_the_quantile(family):
    edges = torch.linspace(0, math.pi, 40_001, dtype=torch.float64)
    middle = (edges[1:] + edges[:-1]) / 2

    def cumulative(kappa):
        law = family(number(kappa), 4)
        g = (law.log_g(middle[:, None])[:, 0]).exp()
        return (g.cumsum(0) - g / 2) / g.sum()

    kappa, h = 3.0, 1e-3
    density = family(number(kappa), 4)
    difference = (cumulative(kappa + h) - cumulative(kappa - h)) / (2 * h)
    slope = density._slope(middle[:, None])[:, 0]
    log_z, _ = density.log_z_and_mean()
    g = (density.log_g(middle[:, None])[:, 0] - log_z).exp()
    inside = slice(2000, 30_000)
    torch.testing.assert_close(slope[inside], -(difference / g)[inside], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_end_and_are_finite_at_the_poles_and_for_any_concentration(family):
    kappa = torch.tensor([1e-12, 1.0, 1e12, math.inf, math.nan], requires_grad=True)
    for m in (2, 3, 50):
        angle = family(kappa, m).draw(20)
        (slope,) = torch.autograd.grad(angle[:, :3].cos().sum(), kappa)
        assert slope[:3].isfinite().all()
        assert ((angle[:, :3] >= 0) & (angle[:, :3] <= math.pi)).all()
    mean = torch.eye(3, dtype=torch.float64).requires_grad_()
    for pole in (mean, -mean):
        for angle in (0.0, math.pi):
            z = around(pole, torch.full((2, 3), angle, dtype=torch.float64))
            torch.testing.assert_close(z, pole.detach().expand(2, 3, 3) * math.cos(angle))
            (slope,) = torch.autograd.grad(z.sum(), mean)
            assert slope.isfinite().all()
