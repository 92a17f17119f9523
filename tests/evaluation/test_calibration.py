import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import likely as lk
from likely.contract.model import GenerativeModel
from likely.contract.training import Batch
from likely.evaluation import pit, rank_band, rank_histogram, ranks


class Steps(GenerativeModel):
    """Poisson(rate · (1 + context)) in each column."""

    def __init__(self, domain, *, context=None, rate=1.0):
        super().__init__(domain, context=context)
        self.rate = rate

    def _sample(self, n, context):
        mean = self.rate * (1 + (0 if context is None else context[:, :1]))
        return torch.poisson(torch.as_tensor(mean).expand(n, self.domain.size)).long()


def p_values(u) -> list[float]:
    return rank_histogram(u).p_value.tolist()


def test_ranks_of_a_right_model_are_uniform_though_discrete():
    domain, given = lk.table(lk.Count(), lk.Count()), lk.table(lk.Binary())
    model = Steps(domain, context=given)
    model.context_features.shift.zero_()
    context = torch.randint(2, (3000, 1))
    x = model.sample(3000, context=context, seed=1)
    u = ranks(model, x, context, draws=19, seed=2)
    assert u.shape == (3000, 2)
    assert min(p_values(u)) > 1e-3
    assert stats.kstest(u[:, 0], "uniform").pvalue > 1e-3
    assert torch.equal(u, ranks(model, x, context, draws=19, seed=2))
    wrong = Steps(domain, context=given, rate=1.2)
    assert max(p_values(ranks(wrong, x, context, draws=19))) < 1e-3
    # Contexts in the wrong order: right marginals, wrong conditionals.
    assert max(p_values(ranks(model, x, 1 - context, draws=19))) < 1e-3


def test_ranks_given_the_entries_before():
    """MADE at its start is independent; trained, it knows how the second column hangs on the first."""
    rng = np.random.default_rng(3)
    first = rng.integers(0, 2, 6000)
    second = np.where(rng.random(6000) < 0.9, first, 1 - first)
    data = lk.load_data(np.stack([first, second], 1))
    model = lk.make("made", data.domain)
    lk.fit(model, data, steps=300, seed=0)
    u = ranks(model, data.test.x, draws=49, given_previous=True)
    assert min(p_values(u)) > 1e-3
    assert abs(np.corrcoef(u.T)[0, 1]) < 4 / np.sqrt(len(u))
    marginal = ranks(model, data.test.x, draws=49)
    assert abs(np.corrcoef(marginal.T)[0, 1]) > 0.3


def test_exact_transform_of_a_flow():
    domain = lk.table(lk.Real(), lk.Periodic(-1, 1), lk.Positive(), lk.Constant(2.0))
    model = lk.make("nsf", domain, transforms=2, hidden=(16,))
    rng = np.random.default_rng(4)
    z = rng.standard_normal((2000, 2))
    x = torch.from_numpy(
        np.stack(
            [
                3 + z[:, 0],
                (z[:, 0] + 1) % 2 - 1,
                np.exp(z[:, 1]),
                np.full(2000, 2.0),
            ],
            1,
        )
    ).float()
    model.prepare(Batch(x))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    drawn = model.sample(4000, seed=5)
    u = pit(model, drawn)
    assert u.shape == (4000, 3)
    assert min(p_values(u)) > 1e-3
    assert np.abs(np.corrcoef(u.T) - np.eye(3)).max() < 4.5 / np.sqrt(4000)
    assert min(p_values(pit(model, x))) < 1e-6
    with pytest.raises(lk.DataError, match="to be transformed"):
        pit(model, -x)
    with pytest.raises(lk.DensityError, match="dequantises"):
        pit(lk.make("nsf", lk.integers(5, 2)), torch.zeros(3, 2))


def test_transform_of_one_column_is_its_distribution_function():
    model = lk.make("nsf", lk.reals(1), transforms=1).double()
    model.prepare(Batch(torch.randn(500, 1, dtype=torch.float64)))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    x = torch.linspace(-8, 8, 20_001, dtype=torch.float64)[:, None]
    below = torch.cumulative_trapezoid(model.log_prob(x).detach().exp(), x[:, 0])
    u = pit(model, x)[:, 0]
    torch.testing.assert_close(u[1:], below + u[0], atol=1e-5, rtol=0)
    some = x[::500]
    difference = ranks(model, some, draws=400, seed=1) - pit(model, some)
    assert difference.abs().max() < 4 * 0.5 / np.sqrt(400)


def test_histogram_against_scipy():
    u = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0))
    u[0] = 1.0
    u[:, 1].square_()
    ours = rank_histogram(u, bins=10, level=0.9)
    counts = np.histogram(u[:, 0], 10, (0, 1))[0]
    assert ours.counts[0].tolist() == counts.tolist()
    assert ours.p_value[0].item() == pytest.approx(stats.chisquare(counts).pvalue)
    assert (ours.low, ours.high) == tuple(stats.binom.interval(0.9, 1000, 0.1))
    assert ours.p_value[1] < 1e-6
    for wrong in (u[:, 0], u - 0.5, u * torch.nan, u[:0]):
        with pytest.raises(lk.DataError, match="between 0 and 1"):
            rank_histogram(wrong)


def test_models_without_an_exact_transform_say_so():
    with pytest.raises(lk.DensityError, match="use `ranks`"):
        pit(lk.make("gmm", lk.reals(2)), torch.zeros(3, 2))


@pytest.mark.parametrize("n", [20, 300])
def test_the_band_of_ranks_holds_whole_functions_at_its_level(n):
    band = rank_band(n, points=20, level=0.9)
    u = np.random.default_rng(1).random((2000, n, 1))  # other draws than those of the band
    part = (u <= band.at).mean(1)
    inside = ((band.low <= part) & (part <= band.high)).all(1).mean()
    assert (
        0.88 < inside < 0.96
    )  # three binomial errors of 0.007; few numbers leave it a little wide
