"""Integrals with known values: no bias, honest errors, less error than plain Monte Carlo."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

import likely as lk
from likely.core.random import seeded
from likely.fitting.integral import Grid, _integral, _learned


def cube(d: int) -> lk.Domain:
    return lk.table(*[lk.Interval(0, 1)] * d)


def round_peak(x, centre, width):
    return norm_factor(width) ** x.shape[1] * (-(x - centre).square().sum(1) / (2 * width**2)).exp()


def norm_factor(width):
    return 1 / (width * math.sqrt(2 * math.pi))


def gaussian(d: int = 4, width: float = 0.2):
    exact = (norm.cdf(0.5 / width) - norm.cdf(-0.5 / width)) ** d
    return lambda x: round_peak(x, 0.5, width), exact, d


def camel(d: int = 4, width: float = 0.15):
    """Two Gaussians on the diagonal."""
    side = norm.cdf(2 / 3 / width) - norm.cdf(-1 / 3 / width)
    centres = (1 / 3, 2 / 3)
    return lambda x: sum(round_peak(x, c, width) for c in centres) / 2, side**d, d


def breit_wigner(d: int = 4, mass: float = 0.4, width: float = 0.1):
    side = (math.atan((1 - mass) / width) + math.atan(mass / width)) / math.pi
    return lambda x: (width / math.pi / ((x - mass).square() + width**2)).prod(1), side**d, d


def diagonal(d: int = 4, width: float = 0.1):
    """A Gaussian in the sum of the columns, whose density is that of Irwin and Hall."""
    s = np.linspace(0, d, 200_001)
    terms = [(-1) ** k * math.comb(d, k) * np.clip(s - k, 0, None) ** (d - 1) for k in range(d + 1)]
    weight = np.exp(-((s - d / 2) ** 2) / (2 * width**2))
    exact = np.trapezoid(sum(terms) / math.factorial(d - 1) * weight, s)
    return lambda x: (-(x.sum(1) - d / 2).square() / (2 * width**2)).exp(), exact, d


TEXTBOOK = {
    "gaussian": gaussian,
    "camel": camel,
    "breit-wigner": breit_wigner,
    "diagonal": diagonal,
}


@pytest.mark.parametrize("name", TEXTBOOK)
def test_the_error_is_at_most_half_that_of_plain_monte_carlo(name):
    f, exact, d = TEXTBOOK[name]()
    figure = lk.integrate(f, cube(d), calls=15_000, seed=0)
    plain = f(torch.rand(15_000, d)).std().item() / math.sqrt(15_000)
    assert abs(figure.value - exact) < 4 * figure.stderr
    assert figure.stderr < plain / 2
    assert figure.calls == 15_000
    assert 0.5 < figure.efficiency <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXTBOOK)
def test_small_integrals_cover_at_their_nominal_rate_and_have_no_bias(name):
    f, exact, d = TEXTBOOK[name]()
    figures = []
    for seed in range(50):
        with seeded(seed):
            sampler = _learned(f, cube(d), 3000)
            last = 3000 - sampler.calls
            # Learning takes most of the time: each proposal gives 20 independent estimates.
            figures += [_integral(sampler.draw(last), 3000) for _ in range(20)]
    assert figures[0] == lk.integrate(f, cube(d), calls=3000, seed=0)
    values = np.array([figure.value for figure in figures])
    pull = (values - exact) / np.array([figure.stderr for figure in figures])
    assert np.mean(abs(pull) < 1) == pytest.approx(0.683, abs=0.03)
    assert np.mean(abs(pull) < 2) == pytest.approx(0.954, abs=0.03)
    assert abs(values.mean() - exact) < 4 * values.std() / math.sqrt(1000)


def test_functions_change_sign_and_boxes_have_units_and_shapes():
    box = lk.table(x=lk.Interval(-1, 2), angle=lk.Periodic(-math.pi, math.pi))
    figure = lk.integrate(lambda x: x[:, 0] * (1 + x[:, 1].cos()), box, calls=4000, seed=0)
    assert abs(figure.value - 3 * math.pi) < 4 * figure.stderr < 2
    square = lk.Domain((2, 2), (lk.Interval(0, 2),))
    figure = lk.integrate(lambda x: x.prod(2).prod(1), square, calls=4000, seed=0)
    assert abs(figure.value - 16) < 4 * figure.stderr < 2


def test_f_is_called_as_often_as_is_said_and_the_same_seed_gives_the_same_integral():
    seen = 0

    def f(x):
        nonlocal seen
        seen += len(x)
        return x[:, 0].square()

    figures = [lk.integrate(f, cube(1), calls=1234, seed=seed) for seed in (0, 0, 1)]
    assert seen == 3 * 1234
    assert figures[0] == figures[1] != figures[2]
    assert figures[0].to_json().keys() == {"value", "stderr", "calls", "efficiency"}


def test_functions_that_vanish_almost_everywhere_or_everywhere_are_integrated():
    corner = lk.integrate(lambda x: (x < 0.25).all(1), cube(3), calls=4000, seed=0)
    assert abs(corner.value - 1 / 64) < 4 * corner.stderr < 0.01
    nothing = lk.integrate(lambda x: 0 * x[:, 0], cube(2), calls=1000, seed=0)
    assert (nothing.value, nothing.stderr, nothing.efficiency) == (0, 0, 0)


def test_the_grid_maps_a_box_to_the_cube_and_back():
    low, high = torch.tensor([[-1.0, 0.0], [3.0, 1e-3]]).double()
    grid = Grid(low, high)
    for _ in range(3):
        u = torch.rand(500, 2, dtype=torch.float64)
        grid.refine(u, (-30 * (u - 0.3).square().sum(1)).exp())
    x = torch.lerp(low, high, torch.rand(200, 2, dtype=torch.float64)).requires_grad_()
    u, log_slope = grid.to_unit(x)
    assert ((u >= 0) & (u <= 1)).all()
    torch.testing.assert_close(grid.from_unit(u), x)
    (slope,) = torch.autograd.grad(u.sum(), x)
    torch.testing.assert_close(slope.log().sum(1), log_slope)


def test_cells_of_the_grid_come_to_hold_the_same_mass():
    grid = Grid(torch.zeros(1).double(), torch.ones(1).double())
    for _ in range(8):
        u = (torch.arange(20_000, dtype=torch.float64)[:, None] + 0.5) / 20_000
        x, log_slope = grid.from_unit(u), grid.to_unit(grid.from_unit(u))[1]
        weight = 3 * x[:, 0].square() * (-log_slope).exp()
        grid.refine(u, weight)
    edges = grid.edges[0]
    mass = (edges**3).diff() * (len(edges) - 1)
    assert mass[4:].min() > 0.9  # smoothing widens the first cells, where the density vanishes
    assert mass[4:].max() < 1.1


BAD = {
    "rows": (lambda x: x, "has shape"),
    "a number": (lambda x: 1.0, "not a tensor"),
    "NaN": (lambda x: x[:, 0] * math.nan, "NaN"),
    "infinite": (lambda x: x[:, 0] / 0, "finite"),
    "complex": (lambda x: x[:, 0] + 1j, "real"),
}


@pytest.mark.parametrize("what", BAD)
def test_functions_that_are_no_numbers_are_refused(what):
    f, why = BAD[what]
    with pytest.raises(lk.LikelyError, match=why):
        lk.integrate(f, cube(2), calls=1000)


def test_unbounded_columns_and_few_calls_are_refused():
    for column in (lk.Real(), lk.Positive(), lk.Integer(3)):
        with pytest.raises(lk.DomainError, match=r"column 'y' is .* bounded"):
            lk.integrate(lambda x: x[:, 0], lk.table(x=lk.Interval(0, 1), y=column))
    with pytest.raises(lk.LikelyError, match="at least 1,000"):
        lk.integrate(lambda x: x[:, 0], cube(1), calls=999)
