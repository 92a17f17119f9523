"""MADE: exact sums and integrals, draws and completions against enumeration, what sees what."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

import likely as lk
from likely.contract.training import Batch
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
from likely.core.errors import DataError, DomainError, LikelyError
from likely.models.autoregressive import MADE, Independent
from likely.models.autoregressive.made import coarse_to_fine
from likely.nets.masked import MaskedMLP

TINY = table(Spin(), Categorical(3), Constant(2.0), Integer(4), Binary())
ORDERED = table(Spin(), Integer(3), Constant(2.0), Integer(4), Binary())  # with mirror images
STATES = torch.tensor(list(itertools.product([-1, 1], range(3), [2], range(4), [0, 1])))
VARIANTS = [
    {},
    {"order": (4, 0, 3, 2, 1)},
    {"orders": 3},
    {"direct": True, "order": (1, 0, 3, 4, 2)},
    {"symmetric": True},
    {"symmetric": True, "orders": 2, "direct": True},
]
DTYPES = [torch.float32, torch.float64]
LEVEL = 1e-4  # of each goodness-of-fit test


def made(domain=None, dtype=torch.float32, *, contrast=2.5, **options):
    """A MADE with random weights that make its conditionals differ much."""
    domain = domain or (ORDERED if options.get("symmetric") else TINY)
    model = MADE(domain, **{"hidden": (32, 32), "components": 3, **options}).to(dtype)
    with torch.no_grad():
        for layer in model.net.layers:
            layer.weight *= contrast
        if model.net.direct is not None:
            model.net.direct.normal_()
    return model.eval()


def p_value(draws, states, p):
    """χ² of draws among states, those expected less than five times pooled into one."""
    p = p.detach()
    same = (draws[:, None] == states).all(2)
    assert same.any(1).all()
    if len(states) == 1:
        return 1.0
    counts, expected = same.sum(0).double(), len(draws) * p.double()
    rare = expected < 5
    if rare.any():
        counts, expected = (torch.cat([v[~rare], v[rare].sum()[None]]) for v in (counts, expected))
    return stats.chisquare(counts, expected, sum_check=False).pvalue


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", VARIANTS)
def test_sums_to_one(options, dtype):
    model = made(dtype=dtype, **options)
    value = model.log_prob(STATES)
    assert value.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float32 else 1e-13
    assert value.exp().sum().item() == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("options", VARIANTS)
def test_sums_to_one_for_each_context(options):
    model = made(context=table(Real(), Categorical(3)), **options)
    contexts = torch.tensor([[0.3, 0.0], [-2.0, 2.0]])
    values = [model.log_prob(STATES, context) for context in contexts]
    assert [v.exp().sum().item() for v in values] == pytest.approx([1, 1], abs=1e-6)
    assert (values[0] - values[1]).abs().max() > 0.1


@pytest.mark.parametrize(
    "columns", [(Real(), Periodic(0.0, 2.0)), (Interval(-1.0, 3.0), Positive())]
)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_integrates_to_one_in_two_dimensions(columns, order):
    model = made(table(*columns), torch.float64, order=order, components=2, contrast=1.0)
    t = torch.linspace(-25, 25, 701, dtype=torch.float64)
    step = 50 / 700
    angle = 2 * (torch.arange(300) + 0.5) / 300
    points = {Real: t, Positive: t.exp(), Interval: -1 + 4 * t.sigmoid(), Periodic: angle}
    weights = {
        Real: torch.full_like(t, step),
        Positive: t.exp() * step,
        Interval: 4 * t.sigmoid() * (-t).sigmoid() * step,
        Periodic: torch.full((300,), 2 / 300),
    }
    a, b = (type(column) for column in columns)
    x = torch.cartesian_prod(points[a], points[b].double())
    weight = torch.outer(weights[a], weights[b].double()).flatten()
    assert (model.log_prob(x).exp() @ weight).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_stay_within_bounds_that_floating_point_rounds(dtype):
    domain = table(Interval(0, 0.1), Periodic(-math.pi, math.pi))
    model = MADE(domain).to(dtype)
    x = torch.tensor([0.1, 2 * math.pi]) * torch.rand(100, 2) - torch.tensor([0, math.pi])
    x = x.to(dtype)
    x[:50] = torch.tensor([0.1, math.pi])
    x = x.clamp(*torch.tensor([[0, -math.pi], [0.1, math.pi]], dtype=dtype))
    model.prepare(Batch(x))
    draws = model.sample(1000, seed=0)
    assert draws.dtype == dtype
    domain.check(draws)
    domain.check(model.complete(draws, torch.tensor([True, False]), seed=0))
    assert model.log_prob(x).isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", VARIANTS)
def test_draws_fit(options, dtype):
    model = made(dtype=dtype, **options)
    draws = model.sample(20_000, seed=1)
    assert draws.dtype == torch.int64
    assert p_value(draws, STATES, model.log_prob(STATES).exp()) > LEVEL


def test_draws_fit_for_each_context():
    model = made(context=table(Categorical(2)), orders=2)
    context = torch.arange(20_000)[:, None] % 2
    draws = model.sample(20_000, context=context, seed=1)
    for c in (0, 1):
        p = model.log_prob(STATES, torch.tensor([c])).exp()
        assert p_value(draws[c::2], STATES, p) > LEVEL


ALL_KINDS = table(
    Real(), Positive(), Interval(0.0, 1.0), Periodic(0.0, 1.0), Constant(3.1),
    Integer(5), Integer(100), Count(), Categorical(3), Binary(), Spin(),
)  # fmt: skip


def rows(n, dtype=torch.float32):
    g = np.random.default_rng(0)
    base = g.normal(size=n)
    columns = [
        base, np.exp(base + g.normal(size=n)), g.uniform(size=n), (0.05 * base) % 1, np.full(n, 3.1),
        g.integers(0, 5, n), g.binomial(99, 0.3, n), g.poisson(20, n), g.integers(0, 3, n),
        g.integers(0, 2, n), g.choice([-1, 1], n),
    ]  # fmt: skip
    return torch.tensor(np.stack(columns, 1)).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_draws_of_all_kinds_of_columns_fit(dtype):
    # E_model[q/p] = 1 for any q that the model covers; here q is the start, p a changed model.
    x = rows(2000, dtype)
    reference, model = (made(ALL_KINDS, dtype, order=range(10, -1, -1)) for _ in range(2))
    reference.prepare(Batch(x))
    model.prepare(Batch(x))
    with torch.no_grad():
        model.net.layers[-1].weight.normal_(std=0.1)
    draws = model.sample(20_000, seed=2)
    assert draws.dtype == dtype
    ALL_KINDS.check(draws)
    ratio = (reference.log_prob(draws) - model.log_prob(draws)).exp().detach()
    assert 0.05 < ratio.std() < 3  # the models differ, and the check has power
    assert abs(ratio.mean().item() - 1) < 4 * ratio.std().item() / math.sqrt(20_000)


def test_sampling_takes_no_ordinary_pass(monkeypatch):
    model = made(orders=2)
    monkeypatch.setattr(MaskedMLP, "forward", None)
    assert model.sample(3).shape == (3, 5)


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("known", [(), (0, 1), (0, 4), (1,), (1, 3), (0, 1, 2, 3, 4)], ids=str)
def test_completions_fit_the_conditional(options, known):
    model = made(contrast=1.5, **options)
    mask = torch.zeros(5, dtype=torch.bool)
    mask[list(known)] = True
    row = torch.tensor([1, 2, 2, 3, 0])
    n = 4000
    x = torch.where(mask, row, 99).repeat(n, 1)  # what is open may hold anything
    filled = model.complete(x, mask, seed=3)
    assert filled.dtype == torch.int64
    assert (filled[:, mask] == row[mask]).all()
    states = STATES[(row == STATES)[:, mask].all(1)]
    p = model.log_prob(states).softmax(0)
    assert p_value(filled, states, p) > LEVEL


def test_rows_are_completed_each_by_its_own_mask():
    model = made(contrast=1.5)
    known = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 1, 1], [0, 1, 0, 0, 0]], dtype=torch.bool)
    row = torch.tensor([-1, 1, 2, 2, 1])
    filled = model.complete(row.repeat(9000, 1), known.repeat(3000, 1), seed=4)
    for i, mask in enumerate(known):
        states = STATES[(row == STATES)[:, mask].all(1)]
        assert p_value(filled[i::3], states, model.log_prob(states).softmax(0)) > LEVEL


def test_a_long_row_is_completed_from_its_end():
    # A chain that copies itself: what is known last decides what comes before.
    domain = lk.categories(2, 24)
    model = made(domain)
    with torch.no_grad():
        x = torch.randint(2, (512, 1)).expand(-1, 24)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(150):
        flips = torch.rand(512, 24) < 0.1
        x = (torch.randint(2, (512, 1)) + (flips.cumsum(1))) % 2
        optimizer.zero_grad()
        model.loss(Batch(x)).mean().backward()
        optimizer.step()
    known = torch.zeros(24, dtype=torch.bool)
    known[-1] = True
    end = torch.arange(400)[:, None].expand(-1, 24) % 2
    filled = model.complete(end, known, seed=5)
    for steps in (1, 3, 8):
        same = (filled[:, -1 - steps] == end[:, 0]).double().mean().item()
        expected = (1 + 0.8**steps) / 2
        assert abs(same - expected) < 0.1


def test_completion_takes_floats_contexts_and_single_rows():
    x = rows(200, torch.float64)
    model = made(ALL_KINDS, context=table(Real()), orders=2)
    context = torch.randn(200, 1)
    model.prepare(Batch(x.float(), context))
    known = torch.rand(x.shape) < 0.5
    filled = model.complete(x.where(known, math.nan), known, context=context, seed=6, particles=5)
    assert filled.dtype == torch.float64
    assert (filled[known] == x[known]).all()
    ALL_KINDS.check(filled)
    again = model.complete(x.where(known, math.nan), known, context=context, seed=6, particles=5)
    assert (filled == again).all()
    assert model.complete(x[:0], known[:0], context=context[:0]).shape == (0, 11)


def test_what_completion_refuses():
    model, x = made(), STATES[:3]
    known = torch.ones(5, dtype=torch.bool)
    with pytest.raises(DataError, match="shape"):
        model.complete(x, known[:4])
    with pytest.raises(DataError, match="known entries: row 0, column 1"):
        model.complete(x + 5 * (torch.arange(5) == 1), known)
    with pytest.raises(LikelyError, match="particles"):
        model.complete(x, known, particles=0)


def test_nothing_jumps_at_the_seam_of_a_column_that_others_depend_on():
    model = made(table(Periodic(-1.0, 3.0), Real(), Periodic(0.0, 1.0)), torch.float64)
    rest = torch.tensor([0.3, 0.0], dtype=torch.float64)
    x = torch.tensor([-1.0, 3.0, -1 + 1e-7, 3 - 1e-7], dtype=torch.float64)
    value = model.log_prob(torch.cat([x[:, None], rest.expand(4, -1)], 1))
    torch.testing.assert_close(value, value[:1].expand(4), atol=1e-5, rtol=0)
    inside = model.log_prob(torch.tensor([[1.0, 0.3, 0.0]], dtype=torch.float64))
    assert (value[0] - inside).abs() > 1e-2


def test_training_starts_at_independent_marginals():
    x = rows(500)
    model, independent = MADE(ALL_KINDS), Independent(ALL_KINDS)
    torch.manual_seed(1)
    model.prepare(Batch(x))
    torch.manual_seed(1)
    independent.prepare(Batch(x))
    torch.testing.assert_close(model.log_prob(x), independent.log_prob(x), atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_finite_with_rows_outside_the_support(dtype):
    x = rows(50, dtype)
    x[0, 1], x[1, 2], x[2, 5], x[3, 7], x[4, 0] = -1, 2, 9, 0.5, math.inf
    x[5, 2], x[6, 2], x[7, 6], x[8, 7], x[9, 0] = 0, 1, 99, 0, 1e6
    model = made(ALL_KINDS, dtype)
    model.prepare(Batch(rows(50, dtype)))
    value = model.log_prob(x)
    assert (value[:5] == -math.inf).all()
    assert value[5:].isfinite().all()
    value[5:].sum().backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("orders", [1, 4])
def test_training_learns_a_dependence(orders):
    model = made(lk.binary(6), orders=orders, contrast=1.0)
    parity = torch.tensor(list(itertools.product([0, 1], repeat=6)))
    parity = parity[parity.sum(1) % 2 == 0]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(400):
        optimizer.zero_grad()
        model.loss(Batch(parity)).mean().backward()
        optimizer.step()
    assert -model.log_prob(parity).mean().item() == pytest.approx(5 * math.log(2), abs=0.1)


@pytest.mark.parametrize("options", VARIANTS)
def test_saving_keeps_the_orderings(options, tmp_path):
    model = made(**options)
    lk.save(model, tmp_path / "made.safetensors")
    again = lk.load(tmp_path / "made.safetensors")
    assert (again.log_prob(STATES) == model.log_prob(STATES)).all()
    assert (again.sample(20, seed=1) == model.sample(20, seed=1)).all()


def test_a_symmetric_model_gives_mirror_images_the_same_probability():
    model, skewed = (made(ORDERED, symmetric=symmetric) for symmetric in (True, False))
    skewed.load_state_dict(model.state_dict())
    turned = ORDERED.mirrored(STATES)
    torch.testing.assert_close(model.log_prob(STATES), model.log_prob(turned))
    both = (skewed.log_prob(STATES).exp() + skewed.log_prob(turned).exp()) / 2
    torch.testing.assert_close(model.log_prob(STATES).exp(), both)
    torch.testing.assert_close(-model.loss(Batch(STATES)), model.log_prob(STATES))


def test_from_coarse_to_fine_the_last_half_has_all_neighbours():
    order = torch.tensor(coarse_to_fine((8, 8)))
    assert order[:4].tolist() == [0, 36, 4, 32]
    assert sorted(order) == list(range(64))
    assert all(sum(divmod(i, 8)) % 2 == 1 for i in order[32:].tolist())
    assert sorted(coarse_to_fine((3, 5, 2))) == list(range(30))
    assert MADE(lk.spins(8, 8)).orderings[0].equal(order)
    assert MADE(lk.binary(8, 8)).in_order


def test_what_is_refused():
    with pytest.raises(DomainError, match="no mirror image"):
        MADE(TINY, symmetric=True)
    with pytest.raises(LikelyError, match="symmetric=False"):
        made(symmetric=True).conditionals(STATES)
    with pytest.raises(LikelyError, match="order: it must hold each of the 5 entries"):
        MADE(TINY, order=(0, 1, 2, 3))
    with pytest.raises(LikelyError, match="orders"):
        MADE(TINY, orders=0)
