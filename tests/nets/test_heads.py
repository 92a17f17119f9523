"""ColumnHeads: normalisation by sums and quadrature, draws against densities, starts, edges."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from likely.core.columns import (
    Binary,
    Categorical,
    Constant,
    Count,
    Integer,
    Interval,
    Periodic,
    Positive,
    Real,
    Spin,
)
from likely.core.domain import table
from likely.core.errors import DomainError
from likely.nets.heads import ColumnHeads, mixture_head, simple_head

DISCRETE = [Binary(), Spin(), Categorical(3), Integer(5), Integer(64), Integer(65), Integer(256)]
CONTINUOUS = [Real(), Positive(), Interval(-0.1, 0.7), Periodic(-math.pi, math.pi)]
DTYPES = [torch.float32, torch.float64]
LEVEL = 1e-4  # of each goodness-of-fit test


def heads_of(column, dtype=torch.float64, components=4, head_of=mixture_head):
    """One column's head at a scale of its own, and random outputs of shape (1, k)."""
    heads = ColumnHeads(table(column), components, head_of).to(dtype)
    for head in heads.heads:
        if isinstance(column, Integer) and hasattr(head, "shift"):
            head.shift.fill_(0.45 * column.levels)
            head.scale.fill_(0.2 * column.levels)
        elif hasattr(head, "shift"):
            head.shift.fill_(1.5)
            head.scale.fill_(0.7)
    return heads, 0.7 * torch.randn(1, heads.sizes[0], dtype=dtype)


def levels(column):
    return column.low + column.step * torch.arange(column.levels or 4000)


def log_prob(heads, outputs, x):
    return heads.log_prob(outputs.expand(len(x), -1), x[:, None])[:, 0]


def grid(column, size=40_001):
    """Points that resolve the column's densities, and the weights of a quadrature."""
    t = torch.linspace(-60, 60, size, dtype=torch.float64)
    step = 120 / (size - 1)
    if isinstance(column, Periodic):
        width = (column.high - column.low) / size
        return column.low + width * (torch.arange(size) + 0.5).double(), torch.tensor(width)
    if isinstance(column, Interval):
        width, t = column.high - column.low, t / 2
        return column.low + width * t.sigmoid(), width * t.sigmoid() * (-t).sigmoid() * step / 2
    if isinstance(column, Positive):
        return t.exp(), t.exp() * step
    return t, torch.tensor(step)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("column", DISCRETE, ids=str)
def test_sums_to_one(column, dtype):
    heads, outputs = heads_of(column, dtype)
    total = log_prob(heads, outputs, levels(column)).double().exp().sum().item()
    assert total == pytest.approx(1, abs=3e-5 if dtype == torch.float32 else 1e-12)


def test_counts_sum_to_one_with_their_tail():
    heads, outputs = heads_of(Count())
    p = log_prob(heads, outputs, torch.arange(100_000)).exp()
    logits, means, log_scales = heads.heads[0].parameters_of(outputs)
    for n in (1, 100, 10_000, 100_000):
        z = ((math.log(n + 0.5) - 1.5) / 0.7 - means) / log_scales.exp()
        tail = (logits.softmax(-1) * (-z).sigmoid()).sum()
        assert (p[:n].sum() + tail).item() == pytest.approx(1, abs=1e-7)  # 0.7 is a float32
    assert tail < 0.02


@pytest.mark.parametrize("column", CONTINUOUS, ids=str)
@pytest.mark.parametrize("head_of", [mixture_head, simple_head])
@pytest.mark.parametrize("trial", range(3))
def test_integrates_to_one(column, trial, head_of):
    torch.manual_seed(trial)
    heads, outputs = heads_of(column, head_of=head_of)
    x, weight = grid(column)
    total = (log_prob(heads, outputs, x).exp() * weight).sum().item()
    assert total == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("column", [Real(), Positive(), Interval(-0.1, 0.7)], ids=str)
def test_gaussian_draws_and_medians_follow_the_density(column):
    heads, outputs = heads_of(column, head_of=simple_head)
    heads.heads[0].fix(0.8)
    draws = heads.sample(outputs.expand(20_000, -1))[:, 0]
    x, weight = grid(column)
    mass = (log_prob(heads, outputs, x).exp() * weight).detach().cumsum(0)
    result = stats.ks_1samp(draws.numpy(), lambda v: np.interp(v, x, mass))
    assert result.pvalue > LEVEL
    median = x[torch.searchsorted(mass, torch.tensor(0.5, dtype=mass.dtype))]
    assert heads.mean(outputs).item() == pytest.approx(median.item(), rel=1e-2)


def test_softmax_agrees_with_torch():
    heads, outputs = heads_of(Categorical(3))
    expected = torch.distributions.Categorical(logits=outputs).log_prob(torch.arange(3))
    torch.testing.assert_close(log_prob(heads, outputs, torch.arange(3)), expected)


def test_logistics_agree_with_scipy():
    heads, outputs = heads_of(Real())
    x = torch.linspace(-5, 8, 50, dtype=torch.float64)
    logits, means, log_scales = heads.heads[0].parameters_of(outputs)
    density = sum(
        p * stats.logistic(1.5 + 0.7 * m, 0.7 * s).pdf(x.numpy())
        for p, m, s in zip(
            *(v.flatten().tolist() for v in (logits.softmax(-1), means, log_scales.exp())),
            strict=True,
        )
    )
    np.testing.assert_allclose(log_prob(heads, outputs, x).exp(), density, rtol=1e-10)


def test_one_logistic_of_scale_one_is_uniform_on_an_interval():
    heads, _ = heads_of(Interval(-2.0, 5.0), components=1)
    heads.heads[0].shift.zero_()
    heads.heads[0].scale.fill_(1.0)
    outputs = torch.tensor([[0.3, 0.0, 0.0]], dtype=torch.float64)
    outputs[0, 2] = math.log(1 - 1e-4)  # log s, bounded softly from below
    found = log_prob(heads, outputs, torch.linspace(-1.99, 4.99, 20, dtype=torch.float64))
    torch.testing.assert_close(found, torch.full_like(found, -math.log(7)), atol=1e-8, rtol=0)


@pytest.mark.parametrize("v", [(0.01, 0.0), (0.7, -1.2), (30.0, 10.0), (-300.0, 2000.0)])
def test_von_mises_agrees_with_scipy(v):
    heads = ColumnHeads(table(Periodic(-1.0, 3.0)), 1).double()
    outputs = torch.tensor([[0.4, *v]], dtype=torch.float64)
    kappa = 1 / (1 / (v[0] ** 2 + v[1] ** 2) + 1e-8)
    angle = math.atan2(v[1], v[0]) + torch.linspace(-3, 3, 50, dtype=torch.float64)
    expected = stats.vonmises(kappa, math.atan2(v[1], v[0])).logpdf(angle) + math.log(
        2 * math.pi / 4
    )
    found = log_prob(heads, outputs, angle * 4 / (2 * math.pi) - 1)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


def test_narrow_cells_keep_their_digits():
    # Far in the tail of a count, and with a logistic that is much wider or narrower than a cell.
    for log_scale in (-3.0, 0.0, 3.0):
        found = []
        for dtype in DTYPES:
            heads, _ = heads_of(Count(), dtype, components=1)
            outputs = torch.tensor([[0.0, 0.3, log_scale]], dtype=dtype)
            found.append(log_prob(heads, outputs, torch.tensor([0, 1, 50, 10**4, 10**6])).double())
        torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-4)
    x, z = 10**6, (math.log(10**6 + 0.5) - 1.5) / 0.7 - 0.3
    s = math.exp(3.0) + 1e-4
    expected = stats.logistic.logpdf(z / s) - math.log(s * 0.7 * (x + 0.5))
    assert found[1][-1].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("column", [*CONTINUOUS, *DISCRETE, Count()], ids=str)
def test_nothing_overflows_at_the_edges(column):
    edges = {
        Real: [-1e30, -1.0, 0.0, 1e30],
        Positive: [1e-38, 1.0, 1e30],
        Interval: [-2.0, 0.0, 5.0],
        Periodic: [1.0, 2.0, 4.0],
        Count: [0, 1, 10**6, 2**40],
    }
    x = torch.tensor(edges[type(column)]) if type(column) in edges else levels(column)
    for dtype in DTYPES:
        heads, outputs = heads_of(column, dtype)
        for size in (0.0, 1.0, 50.0):
            o = (size * outputs).repeat(len(x), 1).requires_grad_()
            x_ = x[:, None].clone().requires_grad_(x.is_floating_point())
            value = heads.log_prob(o, x_)
            value.sum().backward()
            assert value.isfinite().all()
            assert o.grad.isfinite().all()
            assert x_.grad is None or x_.grad.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("column", [*DISCRETE, Count()], ids=str)
def test_discrete_draws_fit(column, dtype):
    heads, outputs = heads_of(column, dtype)
    n = 20_000
    draws = heads.sample_entry(0, outputs.expand(n, -1))
    heads.domain.check(draws[:, None])
    support = levels(column)
    expected = n * log_prob(heads, outputs, support).double().exp().numpy()
    code = ((draws.double() - column.low) / column.step).long().clamp_max(len(support) - 1)
    counts = np.bincount(code.numpy(), minlength=len(support)).astype(float)
    expected[-1] += n - expected.sum()  # the tail of a count
    cells = np.cumsum(expected) // 10  # at least ten expected draws in a cell
    pooled = [np.bincount(cells.astype(int), w) for w in (counts, expected)]
    kept = pooled[1] > 0
    pooled = [w[kept] for w in pooled]
    assert stats.chisquare(*pooled).pvalue > LEVEL


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("column", CONTINUOUS, ids=str)
def test_continuous_draws_fit(column, dtype):
    heads, outputs = heads_of(column, dtype)
    draws = heads.sample_entry(0, outputs.expand(4000, -1))
    heads.domain.check(draws[:, None])
    x, weight = grid(column)
    cdf = (log_prob(heads, outputs, x.to(dtype)).double().exp() * weight).cumsum(0)
    order = x.argsort()
    result = stats.kstest(draws.double(), lambda v: np.interp(v, x[order], cdf[order]))
    assert result.pvalue > LEVEL


MIXED = table(
    Real(), Categorical(3), Constant(7.0), Interval(0.0, 1.0), Spin(), Integer(4), Count(),
    Interval(-3.0, 2.0), Categorical(5), Periodic(0.0, 1.0), Positive(), Integer(100), Binary(),
    Integer(4), Integer(200), Categorical(1),
)  # fmt: skip


def rows(n=4000):
    generator = np.random.default_rng(0)
    columns = [
        generator.normal(5, 3, n), generator.integers(0, 3, n) % 2, np.full(n, 7.0),
        generator.beta(0.5, 2, n), generator.choice([-1, 1], n, p=[0.2, 0.8]),
        generator.integers(0, 4, n), generator.negative_binomial(3, 0.05, n),
        -3 + 5 * generator.uniform(size=n), generator.binomial(4, 0.2, n),
        (generator.normal(0, 0.08, n)) % 1, generator.lognormal(2, 1, n),
        generator.binomial(99, 0.9, n), generator.integers(0, 2, n), generator.integers(0, 4, n),
        generator.binomial(199, 0.5, n), np.zeros(n),
    ]  # fmt: skip
    return torch.tensor(np.stack(columns, 1), dtype=torch.float32)


def test_entries_of_a_mixed_table_are_those_of_each_column_alone():
    heads = ColumnHeads(MIXED, 3)
    x = rows(200)
    heads.prepare(x)
    outputs = torch.randn(200, sum(heads.sizes))
    whole = heads.log_prob(outputs, x)
    assert whole.shape == (200, 16)
    for i, part in enumerate(outputs.split(heads.sizes, 1)):
        torch.testing.assert_close(heads.log_prob_entry(i, part, x[:, i]), whole[:, i])
        alone = ColumnHeads(table(MIXED.column(i), Binary()), 3)
        alone.prepare(torch.stack([x[:, i], torch.zeros(200)], 1))
        both = torch.cat([part, torch.zeros(200, 1)], 1)
        found = alone.log_prob(both, torch.stack([x[:, i], torch.zeros(200)], 1))[:, 0]
        # The scales of discretised columns come from randomly spread values.
        torch.testing.assert_close(found, whole[:, i], atol=0.05, rtol=0.01)
    assert (whole[:, [2, 15]] == 0).all()
    MIXED.check(heads.sample(outputs))
    for i, part in enumerate(outputs.split(heads.sizes, 1)):
        assert MIXED.column(i).contains(heads.sample_entry(i, part)).all()


def test_training_starts_at_the_marginals():
    heads, x = ColumnHeads(MIXED), rows()
    heads.prepare(x[:3000])
    outputs = heads.initial(x[:3000]).float().expand(1000, -1)
    found = heads.log_prob(outputs, x[3000:]).mean(0)
    nb = stats.nbinom(3, 0.05)
    entropy = [
        stats.norm(5, 3).entropy(), -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)), 0.0,
        stats.beta(0.5, 2).entropy(), -(0.2 * math.log(0.2) + 0.8 * math.log(0.8)), math.log(4),
        nb.entropy(), math.log(5), stats.binom(4, 0.2).entropy(), stats.norm(0, 0.08).entropy(),
        stats.lognorm(1, scale=math.exp(2)).entropy(), stats.binom(99, 0.9).entropy(), math.log(2),
        math.log(4), stats.binom(199, 0.5).entropy(), 0.0,
    ]  # fmt: skip
    # The standard error of a mean of 1,000 is about 0.03.
    np.testing.assert_allclose(found, -np.array(entropy), atol=0.1)


def test_a_weight_of_two_is_a_row_repeated():
    # Of columns whose values are not spread at random over cells.
    domain = table(Real(), Interval(0.0, 1.0), Periodic(0.0, 1.0), Positive(), Integer(4), Binary())
    x = rows(300)[:, [0, 3, 9, 10, 5, 12]]
    weight = torch.ones(300)
    weight[:100] = 2
    found = []
    for x_, weight_ in ((x, 0.3 * weight), (torch.cat([x, x[:100]]), None)):
        heads = ColumnHeads(domain)
        heads.prepare(x_, weight_)
        found.append(heads.log_prob(heads.initial(x_, weight_).float().expand(300, -1), x))
    torch.testing.assert_close(*found, atol=2e-3, rtol=1e-3)


def test_a_periodic_density_has_no_seam():
    heads, outputs = heads_of(Periodic(1.0, 4.0))
    x = torch.tensor([1.0, 4.0, 1.0 + 1e-6, 4.0 - 1e-6], dtype=torch.float64, requires_grad=True)
    value = log_prob(heads, outputs, x)
    slope = torch.autograd.grad(value.sum(), x)[0]
    torch.testing.assert_close(value[0], value[1], atol=1e-9, rtol=0)
    torch.testing.assert_close(slope[0], slope[1], atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(value[2], value[3], atol=1e-4, rtol=0)


def test_constants_alone_are_refused():
    with pytest.raises(DomainError, match="constant"):
        ColumnHeads(table(Constant(1.0), Categorical(1)))
