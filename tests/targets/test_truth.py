import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor
from torch.distributions import Gamma, Independent, Normal

import likely as lk
from likely import targets as truth
from likely.core.target import Target

LEVEL = 1e-3  # of each goodness-of-fit test, two-sided where the statistic is


def plane(target: Target) -> tuple[float, float]:
    """A square [low, high]² that holds all of a plane target but 1e-9 or less."""
    return (-math.pi, math.pi) if target.name == "torus" else (-14.0, 30.0)


def density_on_grid(target: Target, low: float, high: float, cells: int, inner: int) -> Tensor:
    """Probability of each cell of a grid, by the midpoint rule with inner² points a cell."""
    points = cells * inner
    step = (high - low) / points
    line = low + step * (torch.arange(points, dtype=torch.float64) + 0.5)
    grid = torch.cartesian_prod(line, line)
    p = target.log_prob(grid).exp().reshape(cells, inner, cells, inner)
    return p.sum((1, 3)) * step**2


PLANE = {
    "gaussian": (truth.gaussian(), 1e-10),
    "gaussian-mixture": (
        truth.gaussian_mixture(
            [1, 3], [[0, 0], [2, -1]], [[[1, 0.3], [0.3, 0.5]], [[0.5, 0], [0, 2]]]
        ),
        1e-10,
    ),
    "eight-gaussians": (truth.eight_gaussians(), 1e-10),
    "rings": (truth.rings(), 1e-10),
    "checkerboard": (truth.checkerboard(), 1e-10),
    "banana": (truth.banana(), 1e-7),
    "torus": (truth.torus(), 1e-7),
    "double-well-plane": (truth.double_well_plane(), 1e-9),
}


@pytest.mark.parametrize("name", PLANE)
def test_plane_targets_integrate_to_one_and_fit_their_samples(name):
    target, tolerance = PLANE[name]
    low, high = plane(target)
    cells, inner = 88, 8
    probability = density_on_grid(target, low, high, cells, inner)
    assert probability.sum().item() == pytest.approx(1, abs=tolerance)

    x = target.sample(50_000, 1).double()
    index = ((x - low) / (high - low) * cells).floor().long()
    observed = torch.bincount(index[:, 0] * cells + index[:, 1], minlength=cells**2).double()
    expected = probability.flatten() * len(x)
    full = expected > 5
    observed = torch.cat([observed[full], observed[~full].sum()[None]])
    expected = torch.cat([expected[full], (len(x) - expected[full].sum()).clamp_min(1e-3)[None]])
    if expected[-1] < 5:
        observed, expected = observed[:-1], expected[:-1]
    statistic = ((observed - expected).square() / expected).sum().item()
    p = stats.chi2.sf(statistic, len(expected) - 1)
    assert LEVEL / 2 < p < 1 - LEVEL / 2


@pytest.mark.parametrize(
    ("target", "reference"),
    [
        (truth.beta(2, 5), stats.beta(2, 5)),
        (truth.beta(0.5, 0.5), stats.beta(0.5, 0.5)),
        (truth.student_t(3), stats.t(3)),
        (truth.student_t(1), stats.t(1)),
    ],
    ids=["beta", "arcsine", "student-t", "cauchy"],
)
def test_targets_on_the_line_are_the_textbook_ones(target, reference):
    x = torch.tensor(reference.ppf(np.linspace(0.01, 0.99, 50)))[:, None]
    assert target.log_prob(x).numpy() == pytest.approx(reference.logpdf(x[:, 0].numpy()))
    assert target.entropy == pytest.approx(float(reference.entropy()), abs=1e-6)
    draws = target.sample(50_000, 2)
    assert target.log_prob(draws).isfinite().all()
    assert stats.kstest(draws[:, 0].numpy(), reference.cdf).pvalue > LEVEL


@pytest.mark.parametrize("scale", [3.0, 1.0])
def test_funnel(scale):
    target = truth.funnel(2, scale)

    def given_v(v: float) -> float:
        u = torch.linspace(-9, 9, 201, dtype=torch.float64) * math.exp(v / 2)
        x = torch.stack([torch.full_like(u, v), u], 1)
        return target.log_prob(x).exp().sum().item() * (u[1] - u[0]).item()

    assert integrate.quad(given_v, -9 * scale, 9 * scale)[0] == pytest.approx(1, abs=1e-8)
    x = truth.funnel(10, scale).sample(20_000, 3).double()
    assert stats.kstest(x[:, 0].numpy(), stats.norm(0, scale).cdf).pvalue > LEVEL
    u = x[:, 1:] * (-x[:, :1] / 2).exp()
    assert stats.kstest(u.flatten().numpy(), stats.norm.cdf).pvalue > LEVEL


DISCRETE = [
    truth.markov_chain(length=5),
    truth.markov_chain([[0.9, 0.1, 0], [0, 0.5, 0.5], [1, 0, 0]], 4),
    truth.markov_chain([[0, 1], [1, 0]], 3),
    truth.ising(2, 4, 2.0, 0.3),
    truth.ising(3, 3),
    truth.ising(1, 6, 1.0),
]


@pytest.mark.parametrize("target", DISCRETE, ids=lambda t: f"{t.name}-{t.domain.shape}")
def test_discrete_targets_sum_to_one_and_fit_their_samples(target):
    column = target.domain.columns[0]
    values = [column.low + column.step * code for code in range(column.levels)]
    states = torch.tensor(list(itertools.product(values, repeat=target.domain.size)))
    states = states.reshape(-1, *target.domain.shape)
    p = target.log_prob(states).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    assert torch.special.entr(p).sum().item() == pytest.approx(target.entropy, abs=1e-10)

    x = target.sample(100_000, 4)
    assert x.dtype == torch.int64
    codes = ((x.flatten(1) - column.low) // column.step) @ (
        column.levels ** torch.arange(target.domain.size - 1, -1, -1)
    )
    observed = torch.bincount(codes, minlength=len(states)).double()
    assert observed[p == 0].sum() == 0
    keep = p > 0
    expected, observed = p[keep] * len(x), observed[keep]
    statistic = ((observed - expected).square() / expected).sum().item()
    tail = stats.chi2.sf(statistic, len(expected) - 1)
    assert tail > LEVEL / 2 or len(expected) == 1
    assert tail < 1 - LEVEL / 2


def test_markov_chain_is_stationary():
    T = torch.tensor([[0.9, 0.1, 0], [0, 0.5, 0.5], [1, 0, 0]], dtype=torch.float64)
    one = truth.markov_chain(T, 1).log_prob(torch.arange(3)[:, None]).exp()
    assert torch.allclose(one @ T, one)


def test_ising_partition_function_against_the_transfer_matrix():
    rows, columns, temperature, field = 3, 6, 2.0, 0.7
    line = np.array(list(itertools.product([-1, 1], repeat=rows)))
    within = (line * np.roll(line, -1, 1)).sum(1) + field * line.sum(1)
    transfer = np.exp((line @ line.T + within[:, None] / 2 + within / 2) / temperature)
    log_z = np.log(np.trace(np.linalg.matrix_power(transfer, columns)))
    target = truth.ising(rows, columns, temperature, field)
    assert target.log_z == pytest.approx(log_z, abs=1e-10)
    s = target.sample(100, 0)
    assert torch.allclose(target.log_prob(s), -target.energy(s) - target.log_z)
    assert torch.equal(target.modes, torch.ones(1, rows, columns, dtype=torch.int64))
    assert len(truth.ising(2, 2).modes) == 2


@pytest.mark.parametrize("name", truth.names())
def test_entropy_and_moments_agree_with_draws(name):
    target = truth.target(name)
    n = 40_000
    x = target.sample(n, 12)
    surprise = -target.log_prob(x).double()
    error = surprise.std() / math.sqrt(n)
    assert abs(surprise.mean() - target.entropy) <= 4 * error + 1e-6
    if target.mean is None or name in (
        "student-t",
        "funnel",
    ):  # no finite fourth moments, or nearly
        return
    flat = x.flatten(1).double()
    centred = flat - target.mean
    assert (centred.mean(0).abs() <= 4.5 * centred.std(0) / math.sqrt(n)).all()
    products = centred[:, :, None] * centred[:, None, :]
    deviation = (products.mean(0) - target.covariance).abs()
    assert (deviation <= 4.5 * products.std(0) / math.sqrt(n) + 1e-12).all()


def test_rings_where_mass_crosses_the_origin():
    target = truth.rings((0.3, 2.0), 0.4)

    def around(s: float) -> float:
        x = torch.tensor([[s, 0.0]], dtype=torch.float64)
        return 2 * math.pi * s * target.log_prob(x).exp().item()

    mass = integrate.quad(around, 0, 8, points=[0.3, 2.0], epsabs=1e-10)[0]
    assert mass == pytest.approx(1, abs=1e-9)
    x = target.sample(50_000, 6).double()
    surprise = -target.log_prob(x)
    assert abs(surprise.mean() - target.entropy) < 4 * surprise.std() / math.sqrt(len(x))
    signed = [stats.norm(ring, 0.4) for ring in (0.3, 2.0)]
    folded = stats.kstest(
        x.norm(dim=1).numpy(), lambda s: sum(g.cdf(s) - g.cdf(-s) for g in signed) / 2
    )
    assert folded.pvalue > LEVEL
    angle = torch.atan2(x[:, 1], x[:, 0]).numpy()
    assert stats.kstest(angle, stats.uniform(-math.pi, 2 * math.pi).cdf).pvalue > LEVEL


def test_entropy_of_overlapping_and_of_distant_gaussians():
    assert truth.eight_gaussians(1e6, 1.0).entropy == pytest.approx(
        math.log(8) + 1 + math.log(2 * math.pi), abs=1e-9
    )
    assert truth.eight_gaussians(0, 2.0).entropy == pytest.approx(
        1 + math.log(2 * math.pi) + 2 * math.log(2), abs=1e-9
    )
    middle = truth.eight_gaussians(2.0, 0.8)
    p = density_on_grid(middle, -12, 12, 600, 1) * 25**2
    assert middle.entropy == pytest.approx((torch.special.entr(p).sum() / 25**2).item(), abs=1e-9)


@pytest.mark.parametrize("name", truth.names())
def test_draws_are_seeded_and_types_kept(name):
    target = truth.target(name)
    state = torch.random.get_rng_state()
    x = target.sample(300, 7)
    assert torch.equal(x, target.sample(300, 7))
    assert not torch.equal(x, target.sample(300, 8))
    assert torch.equal(state, torch.random.get_rng_state())
    assert x.shape == (300, *target.domain.shape)
    assert target.sample(0, 7).shape == (0, *target.domain.shape)
    target.domain.check(x)
    if not target.domain.discrete:
        assert x.dtype == torch.float32
        assert target.log_prob(x).dtype == torch.float32
        y = x.double().requires_grad_()
        log_prob = target.log_prob(y)
        if log_prob.requires_grad:  # the checkerboard is constant
            assert torch.autograd.grad(log_prob.sum(), y)[0].isfinite().all()


def test_outside_the_support_there_is_no_density():
    beta = truth.beta()
    assert beta.log_prob(torch.tensor([[-0.1], [0.5], [math.nan]])).isfinite().tolist() == [
        False,
        True,
        False,
    ]
    corners = torch.tensor([[-4.0, -4], [-2, -4], [3.9, 3.9], [3.9, 1.9], [4, 4], [-5, -3]])
    assert truth.checkerboard().log_prob(corners).isfinite().tolist() == [1, 0, 1, 0, 0, 0]
    with pytest.raises(lk.DataError, match=r"rows of shape \(3,\)"):
        beta.log_prob(torch.zeros(2, 3))


def test_from_distribution():
    shape = torch.full((2,), 3.0, dtype=torch.float64)
    gamma = Independent(Gamma(shape, shape), 1)
    target = truth.from_distribution("gamma", gamma, lk.table(lk.Positive(), lk.Positive()))
    assert target.entropy == pytest.approx(2 * float(stats.gamma(3, scale=1 / 3).entropy()))
    assert target.log_prob(torch.tensor([[1.0, -1.0]])).item() == -math.inf
    with pytest.raises(lk.DomainError, match="event shape"):
        truth.from_distribution("normal", Normal(torch.zeros(2), 1), lk.reals(2))


def test_high_dimensional_mixture_is_normalised():
    means = torch.tensor([[0.0] * 6, [1.0] * 6])
    covariances = torch.stack([torch.eye(6), 2 * torch.eye(6)])
    target = truth.gaussian_mixture([0.4, 0.6], means, covariances)
    wide = truth.gaussian([0.5] * 6, 3 * torch.eye(6))  # importance weights have mean one
    x = wide.sample(50_000, 9).double()
    ratio = (target.log_prob(x) - wide.log_prob(x)).exp()
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(len(x))
    assert replace(target, name="x").mean.tolist() == pytest.approx([0.6] * 6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: truth.target("moon"), "known ones are banana"),
        (lambda: truth.markov_chain([[0.5, 0.4], [0.5, 0.5]]), "sum to 1"),
        (lambda: truth.ising(5, 5, 2.0, 0.1), "18 sites"),
        (lambda: truth.rings((1.0, -1.0)), "positive"),
        (lambda: truth.funnel(1), "at least one x"),
    ],
)
def test_errors_say_what_to_do(build, message):
    with pytest.raises(lk.LikelyError, match=message):
        build()
