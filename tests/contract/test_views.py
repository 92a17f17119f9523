"""The real view of a domain: invertible, with the right log-determinant; features without seams."""

import math

import pytest
import torch

import likely as lk
from likely.contract.real import RealModel
from likely.contract.training import Batch
from likely.contract.views import LOG_TWO_PI, Features, RealView

CONTINUOUS = lk.table(
    a=lk.Real(),
    b=lk.Positive(),
    c=lk.Interval(-1, 2),
    d=lk.Periodic(0, 3),
    e=lk.Constant(4.0),
)


def rows(n, dtype=torch.float64):
    u = torch.rand(n, 4, dtype=dtype)
    columns = [10 * u[:, 0] + 3, u[:, 1].exp(), 3 * u[:, 2] - 1, 3 * u[:, 3], torch.full((n,), 4.0)]
    return torch.stack([c.to(dtype) for c in columns], 1)


@pytest.mark.parametrize("chart", ["bijections", "plain"])
def test_log_determinant_is_that_of_the_jacobian(chart):
    view = RealView(CONTINUOUS, chart).double()
    view.prepare(rows(100))
    x = rows(5)
    _, log_det = view(x)
    for row, expected in zip(x, log_det, strict=True):
        full = torch.autograd.functional.jacobian(lambda r: view(r[None])[0][0], row)
        torch.testing.assert_close(torch.linalg.slogdet(full[:, :4])[1], expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_round_trip(dtype, tolerance):
    view = RealView(CONTINUOUS).to(dtype)
    x = rows(1000, dtype)
    view.prepare(x)
    z, _ = view(x)
    assert z.dtype == dtype
    torch.testing.assert_close(view.inverse(z), x, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(z[:, :3].mean(0), torch.zeros(3, dtype=dtype), rtol=0, atol=1e-4)


@pytest.mark.parametrize("chart", ["bijections", "affine", "pooled", "plain"])
def test_integers_come_back_through_the_noise(chart):
    domain = lk.table(lk.Integer(17), lk.Count(), lk.Binary(), lk.Spin(), lk.Integer(1000))
    view = RealView(domain, chart)
    x = torch.stack(
        [
            torch.randint(0, 17, (500,)),
            torch.randint(0, 90, (500,)),
            torch.randint(0, 2, (500,)),
            2 * torch.randint(0, 2, (500,)) - 1,
            torch.randint(0, 1000, (500,)),
        ],
        1,
    )
    view.prepare(x)
    back = view.inverse(view(x)[0])
    assert back.dtype == torch.int64
    assert (back - x)[:, :4].abs().max() == 0
    assert (
        (back - x)[:, 4] != 0
    ).float().mean() < 0.01  # float32 rounds noise just below a level up


class Normal(RealModel):
    """A standard normal distribution in the real view."""

    def _log_prob_real(self, z, context):
        return -(z.square() + LOG_TWO_PI).sum(1) / 2

    def _sample_real(self, n, context):
        return torch.randn(n, self.view.dim)


def test_levels_of_a_pooled_view_share_a_scale_and_count_what_lies_beyond_the_ends():
    torch.manual_seed(0)
    domain = lk.integers(5, 1, 2, 2, layout="image")
    view = RealView(domain, "pooled")
    x = torch.randint(0, 5, (4000, 1, 2, 2)) * torch.tensor([[[[0, 1], [1, 1]]]])
    view.prepare(x)
    z, log_det = view(x)
    assert z.mean().item() == pytest.approx(0, abs=0.03)
    assert z.square().mean().item() == pytest.approx(1, abs=0.03)
    assert view.scale.unique().numel() == 1
    # Cells of width 1, so that a density of z is one of x after four divisions by the scale.
    torch.testing.assert_close(log_det, (-4 * view.scale[0].log()).expand(len(x)))
    assert view.inverse(torch.tensor([[-9.0, 9.0, 0.0, -9.0]])).flatten()[[0, 1, 3]].tolist() == [
        0,
        4,
        0,
    ]


DIGITS = lk.table(
    lk.Integer(256), lk.Integer(5), lk.Spin(), lk.Interval(-1, 2), lk.Count(), lk.Constant(1.0)
)


def digits(n):
    parts = [
        torch.randint(0, 256, (n,)),
        torch.randint(0, 5, (n,)),
        2 * torch.randint(0, 2, (n,)) - 1,
    ]
    parts += [3 * torch.rand(n, dtype=torch.float64) - 1, torch.randint(0, 90, (n,)), torch.ones(n)]
    return torch.stack([part.double() for part in parts], 1)


@pytest.mark.parametrize("chart", ["bijections", "affine", "pooled", "plain"])
def test_log_determinant_of_levels_is_that_of_the_jacobian_by_levels(chart):
    view = RealView(DIGITS, chart).double()
    view.prepare(digits(100))

    def real(x):
        torch.manual_seed(0)
        return view(x[None])

    for x in digits(5):
        jacobian = torch.autograd.functional.jacobian(lambda r: real(r)[0][0], x)[:, :5]
        by_level = torch.linalg.slogdet(jacobian)[1] + math.log(2)  # a spin's levels are 2 apart
        torch.testing.assert_close(real(x)[1][0], by_level)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_affine_view_of_pixels_is_a_part_of_their_range(dtype):
    view = RealView(lk.integers(256, 1, 2, 3, layout="image"), "affine").to(dtype)
    x = torch.randint(0, 256, (500, 1, 2, 3))
    x[:2] = torch.tensor([0, 255])[:, None, None, None]
    view.prepare(x)
    z, log_det = view(x)
    part = (z.double() + 0.5) * 256 - x.flatten(1)
    assert -1e-4 < part.min() < 0.01
    assert 0.99 < part.max() < 1 + 1e-4
    torch.testing.assert_close(log_det, torch.full_like(log_det, -6 * math.log(256)))
    middle = view.cells(x)[0][1]
    assert torch.equal(middle, ((x + 0.5) / 256 - 0.5).flatten(1))
    assert torch.equal(view.inverse(middle), x)
    far = torch.tensor([-7.0, -0.5, 0.0, 0.4999, 0.5, 7.0], dtype=dtype)
    assert view.inverse(far[None]).flatten().tolist() == [0, 0, 128, 255, 255, 255]


def test_affine_levels_sum_to_at_most_one_and_draws_beyond_the_ends_count_for_the_outer_ones():
    model = Normal(lk.table(lk.Integer(3), lk.Spin()))
    model.view = RealView(model.domain, "affine").double()
    x = torch.cartesian_prod(torch.arange(3), torch.tensor([-1, 1]))
    model.prepare(Batch(x))
    edges = [torch.linspace(-0.5, 0.5, levels + 1).double() for levels in (3, 2)]
    inner = torch.outer(*(torch.special.ndtr(edge).diff() for edge in edges)).flatten()
    bound = model.log_likelihood(x, seed=0, draws=4000).value
    torch.testing.assert_close(bound, inner.log(), rtol=0, atol=3e-3)
    assert bound.exp().sum() < 1
    for edge in edges:
        edge[0], edge[-1] = -math.inf, math.inf
    whole = torch.outer(*(torch.special.ndtr(edge).diff() for edge in edges)).flatten()
    draws = model.sample(40_000, seed=1)
    found = (draws[:, None] == x).all(2).double().mean(0)
    # Five standard errors of a frequency are at most 0.0125.
    torch.testing.assert_close(found, whole, rtol=0, atol=0.0125)


@pytest.mark.parametrize("chart", ["bijections", "affine", "pooled", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_come_back(chart, dtype):
    domain = lk.table(lk.Integer(9), lk.Spin(), lk.Interval(-1, 2), lk.Periodic(0, 3))
    x = torch.tensor([[0, -1, -1, 0.1], [8, 1, 2, 1], [4, 1, 0.5, 2.9]], dtype=dtype)
    view = RealView(domain, chart).to(dtype)
    view.prepare(x)
    z, log_det = view(x)
    assert z.isfinite().all()
    assert log_det.isfinite().all()
    torch.testing.assert_close(view.inverse(z), x, rtol=0, atol=1e-6)
    assert domain.contains(view.inverse(1e3 * z)).all()


@pytest.mark.parametrize("chart", ["bijections", "affine", "pooled", "plain"])
def test_constants_alone_have_no_view(chart):
    with pytest.raises(lk.DomainError, match="every column of the data is constant"):
        RealView(lk.table(lk.Constant(1.0), lk.Constant(2.0)), chart)


def test_uniform_integers_under_a_normal_are_exact():
    # Uniform cells are exactly normal after the probit map: the bound is tight for every draw.
    model = Normal(lk.integers(8, 1))
    x = torch.arange(8)[:, None]
    assert model.density == "lower bound"
    likelihood = model.log_likelihood(x, seed=1, draws=4)
    torch.testing.assert_close(
        likelihood.value, torch.full((8,), -math.log(8.0)), rtol=0, atol=1e-5
    )
    assert likelihood.stderr is not None
    assert likelihood.stderr.max() < 1e-5


def test_bound_rises_with_draws_towards_the_cell_probability():
    model = Normal(lk.integers(8, 1)).double()
    model.view.shift.fill_(0.3)
    model.view.scale.fill_(0.7)
    x = torch.arange(8).repeat_interleave(2000)[:, None]
    edges = torch.special.ndtri(torch.linspace(0, 1, 9, dtype=torch.float64))
    exact = torch.special.ndtr((edges - 0.3) / 0.7).diff().log()
    values = [
        model.log_likelihood(x, seed=2, draws=k).value.reshape(8, -1).mean(1) for k in (1, 4, 64)
    ]
    # Four standard errors of a cell's mean over 2,000 rows are below 0.1 nats at one draw.
    assert (values[0] <= exact + 0.1).all()
    assert values[0].mean() < values[1].mean() < values[2].mean() < exact.mean() + 0.005
    torch.testing.assert_close(values[2], exact, rtol=0, atol=0.05)


def test_rows_outside_the_support_have_no_density_and_harmless_gradients():
    model = Normal(CONTINUOUS)
    x = rows(4, torch.float32)
    x[1, 1], x[2, 2], x[3, 4] = -1.0, 5.0, 0.0
    x.requires_grad_()
    log_prob = model.log_prob(x)
    assert log_prob.isfinite().tolist() == [True, False, False, False]
    log_prob[0].backward()
    assert x.grad.isfinite().all()


def test_bounds_themselves_are_finite():
    model = Normal(lk.table(lk.Interval(0, 1), lk.Periodic(0, 1)))
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]], requires_grad=True)
    model.log_prob(x).sum().backward()
    assert x.grad.isfinite().all()


def test_a_row_on_a_bound_counts_the_same_in_all_types():
    model = Normal(lk.table(lk.Interval(0, 1)))
    x = torch.tensor([[0], [1]])
    of_wide = model.log_prob(x.double())
    torch.testing.assert_close(model.log_prob(x.float()), of_wide)
    torch.testing.assert_close(model.log_prob(x), of_wide)
    torch.testing.assert_close(of_wide[0], of_wide[1])  # nor do the two ends differ


def test_constant_column_contributes_nothing():
    with_constant = lk.table(lk.Real(), lk.Constant(7.0))
    x = torch.randn(10, 2)
    x[:, 1] = 7
    a, b = Normal(with_constant), Normal(lk.reals(1))
    a.prepare(Batch(x))
    b.prepare(Batch(x[:, :1]))
    torch.testing.assert_close(a.log_prob(x), b.log_prob(x[:, :1]))
    assert (a.sample(3, seed=0)[:, 1] == 7).all()


@pytest.mark.parametrize(
    ("offset", "spread", "off", "distinct"),
    # The offset is held to 48 bits, 4e-6 seconds, and float64 resolves 2e-7 of them.
    [(1.7e9, 1.0, 1e-5, 990), (1.26e9, 5e-4, 0.01, 900)],
)
def test_large_offsets_keep_their_precision(offset, spread, off, distinct):
    # Seconds since 1970, of GPS to half a millisecond: float32 alone would lose the spread.
    x = offset + spread * torch.randn(1000, 1, dtype=torch.float64)
    view = RealView(lk.reals(1))
    view.prepare(x)
    z, _ = view(x)
    assert abs(z.mean()) < off
    assert 0.9 < z.std() < 1.1
    assert z.unique().numel() > distinct


def test_integers_lose_nothing_to_their_offset():
    x = (1.7e9 + 300 * torch.randn(1000, 1, dtype=torch.float64)).long()
    for domain in (lk.reals(1), lk.table(lk.Positive())):
        view, features = RealView(domain), Features(domain)
        for prepared in (view, features):
            prepared.prepare(x)
        assert torch.equal(view(x)[0], view(x.double())[0])
        assert torch.equal(features(x), features(x.double()))


@pytest.mark.parametrize("scale", [1e44, 1e-43])
def test_columns_beyond_float32(scale):
    # AGN luminosities in erg/s, cross-sections in m².
    x = scale * torch.randn(1000, 1, dtype=torch.float64).exp()
    view = RealView(lk.table(lk.Positive()))
    view.prepare(x)
    torch.testing.assert_close(view.inverse(view(x)[0]), x, rtol=1e-5, atol=0)
    with pytest.raises(lk.DataError, match=r"column 'E': .* beyond float32: rescale it"):
        RealView(lk.table(E=lk.Real())).prepare(x)


def test_draws_of_counts_stay_integers():
    view = RealView(lk.table(lk.Count()))
    view.prepare(torch.tensor([[1], [1000]]))
    x = view.inverse(torch.tensor([[0.0], [1e3]]))
    assert view.domain.contains(x).all()


def test_features_of_one_entry_are_those_of_the_row_and_meet_at_the_seam():
    domain = lk.table(lk.Real(), lk.Periodic(-1, 1), lk.Categorical(3), lk.Integer(5), lk.Count())
    x = torch.tensor([[0.3, -1.0, 2, 4, 7], [0.1, 1.0, 0, 0, 100]])
    features = Features(domain)
    features.prepare(x)
    whole = features(x)
    parts = [features.entry(i, x[:, i]) for i in range(5)]
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    torch.testing.assert_close(whole[0, 1:3], whole[1, 1:3], atol=1e-6, rtol=0)
