import math

import numpy as np
import pytest
import torch
from scipy import stats

import likely as lk
from likely.evaluation import energy_distance, sliced_wasserstein


def within(x: np.ndarray, w: np.ndarray) -> tuple[float, float]:
    """Weighted mean distance of all pairs, and of the pairs of different rows."""
    total = (w[:, None] * w * np.abs(x[:, None] - x)).sum()
    return total / w.sum() ** 2, total / (w.sum() ** 2 - (w**2).sum())


@pytest.mark.parametrize("weighted", [False, True])
def test_energy_distance_on_the_line_against_scipy(weighted):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(70), rng.gamma(2.0, size=90)
    w = rng.random(70) if weighted else np.ones(70)
    v = rng.random(90) if weighted else np.ones(90)
    biased = stats.energy_distance(x, y, w, v) ** 2
    for sample, weight in ((x, w), (y, v)):
        of_all, of_different = within(sample, weight)
        biased += of_all - of_different
    ours = energy_distance(x[:, None], y[:, None], weight_x=w, weight_y=v)
    assert ours.value == pytest.approx(biased, abs=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_wasserstein_on_the_line_against_scipy(weighted):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal(70), rng.gamma(2.0, size=90)
    w = rng.random(70) if weighted else None
    v = rng.random(90) if weighted else None
    ours = sliced_wasserstein(x[:, None], y[:, None], weight_x=w, weight_y=v)
    assert ours.value == pytest.approx(stats.wasserstein_distance(x, y, w, v), abs=1e-12)


def test_sliced_wasserstein_of_a_shift():
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(2))
    shift = torch.tensor([3.0, 4.0])
    ours = sliced_wasserstein(x, x + shift, projections=4000, replicates=2, seed=3)
    error = 5 * math.sqrt((1 / 2 - 4 / math.pi**2) / 4000)  # of the mean of |cos|
    assert abs(ours.value - 5 * 2 / math.pi) < 4 * error


def test_distances_from_definitions_in_several_dimensions():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((4, 3))
    pairs = [[np.linalg.norm(a - b) for b in y] for a in x]
    of_x = [np.linalg.norm(x[i] - x[j]) for i in range(5) for j in range(i)]
    of_y = [np.linalg.norm(y[i] - y[j]) for i in range(4) for j in range(i)]
    value = energy_distance(x, y).value
    assert value == pytest.approx(2 * np.mean(pairs) - np.mean(of_x) - np.mean(of_y))
    doubled = sliced_wasserstein(np.concatenate([x, x[:2]]), y).value
    weighted = sliced_wasserstein(x, y, weight_x=[2, 2, 1, 1, 1]).value
    assert weighted == pytest.approx(doubled, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shift", "weighted"), [(0.0, False), (0.0, True), (0.3, True), (1.0, False)]
)
def test_bootstrap_errors_against_the_spread_of_repeated_draws(shift, weighted):
    rng = np.random.default_rng(5)
    energy, sliced = [], []
    for seed in range(150):
        x, y = rng.standard_normal((150, 2)), rng.standard_normal((200, 2)) + shift
        w = rng.random(150) if weighted else None
        energy.append(energy_distance(x, y, weight_x=w, replicates=100, seed=seed))
        sliced.append(
            sliced_wasserstein(x, y, weight_x=w, replicates=40, projections=16, seed=seed)
        )
    # The spread itself is known to 6 %. Errors may be too large where the samples agree.
    for figures, largest in ((energy, 1.6 if shift == 0 else 1.25), (sliced, 1.6)):
        ratio = np.mean([f.stderr for f in figures]) / np.std([f.value for f in figures])
        assert 0.8 < ratio < largest
    if shift == 0:
        values = [f.value for f in energy]
        assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(len(values))


def test_rows_that_share_a_context():
    rng = np.random.default_rng(6)
    paired, mixed = [], []
    for seed in range(150):
        context = rng.standard_normal((60, 1))
        x, y = (np.hstack([context + 0.1 * rng.standard_normal((60, 1)), context]) for _ in "xy")
        paired.append(energy_distance(x, y, paired=True, replicates=100, seed=seed))
        mixed.append(energy_distance(x, y, replicates=2).value)
    values = [f.value for f in paired]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(150)
    assert np.mean(mixed) < -4 * np.std(mixed) / math.sqrt(150)  # what `paired` is for
    assert 0.8 < np.mean([f.stderr for f in paired]) / np.std(values) < 1.6


def test_seeds_and_errors():
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(7))
    state = torch.random.get_rng_state()
    for distance in (energy_distance, sliced_wasserstein):
        assert distance(x, x + 1, seed=1) == distance(x, x + 1, seed=1)
        assert distance(x, x + 1, seed=1) != distance(x, x + 1, seed=2)
        with pytest.raises(lk.DataError, match="two samples of shapes"):
            distance(x, x[:, :1])
        with pytest.raises(lk.DataError, match="non-negative"):
            distance(x, x, weight_x=-torch.ones(20))
        with pytest.raises(lk.DataError, match="weight 0"):
            distance(x, x, weight_y=torch.zeros(20))
        with pytest.raises(lk.DataError, match="equally many"):
            distance(x, x[:5], paired=True)
        assert math.isnan(distance(x[:1], x).value) == (distance is energy_distance)
    assert torch.equal(state, torch.random.get_rng_state())
