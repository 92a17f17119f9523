import math

import numpy as np
import pytest
import torch
from scipy import stats

from likely.evaluation import thinned
from likely.evaluation.resampling import distances, jackknife


def test_thinned_rows_follow_the_weighted_distribution():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(20_000)
    kept = x[thinned(np.exp(x - 2 * np.abs(x)), seed=1)]  # of known distribution function, by grid
    grid = np.linspace(-8, 8, 20_001)
    density = np.exp(-(grid**2) / 2 + grid - 2 * np.abs(grid))
    cdf = np.cumsum(density) / density.sum()
    assert len(kept) > 4000
    assert stats.kstest(kept, lambda t: np.interp(t, grid, cdf)).pvalue > 1e-3
    assert torch.equal(thinned([1.0, 0.0, 1.0]), torch.tensor([0, 2]))
    assert not len(thinned([0.0, 0.0]))


@pytest.mark.parametrize("paired", [False, True])
def test_jackknife_of_a_difference_of_means(paired):
    rng = np.random.default_rng(1)
    errors = []
    for seed in range(100):
        x = torch.from_numpy(rng.standard_normal(200))
        y = x + 0.5 * torch.from_numpy(rng.standard_normal(200))

        def difference(w, v, x=x, y=y):
            return (v @ y) / v.sum(1) - (w @ x) / w.sum(1)

        one = torch.ones(200, dtype=torch.float64)
        value, error = jackknife(difference, one, one, paired, seed)
        assert value == pytest.approx((y.mean() - x.mean()).item())
        errors.append(error.item() ** 2)
    variance = (0.25 if paired else 1 + 1.25) / 200
    assert np.mean(errors) == pytest.approx(variance, rel=4 * math.sqrt(2 / 19 / 100))


def test_copies_of_a_row_are_at_distance_zero():
    x = 1e3 + torch.randn(100, 30, dtype=torch.float64)
    assert (distances(x, x).diagonal() == 0).all()
    exact = (x[:, None] - x).norm(dim=2)
    torch.testing.assert_close(distances(x, x), exact, rtol=1e-6, atol=1e-9)
