import math

import numpy as np
import pytest
import torch
from scipy import stats

import likely as lk
from likely.evaluation import kernel_distance, mmd


def discrepancy(kernel, x, y, paired=False) -> float:
    """The U-statistic by loops over all pairs of different rows."""
    within = [
        np.mean([kernel(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j])
        for z in (x, y)
    ]
    across = [
        kernel(x[i], y[j]) for i in range(len(x)) for j in range(len(y)) if not (paired and i == j)
    ]
    return sum(within) - 2 * np.mean(across)


def gaussians(median):
    return lambda a, b: np.mean(
        [math.exp(-((a - b) ** 2).sum() / 2 / (s * median) ** 2) for s in (0.5, 1, 2)]
    )


def median_distance(x, y) -> float:
    z = np.concatenate([x, y])
    apart = sorted(np.linalg.norm(a - b) for i, a in enumerate(z) for b in z[:i])
    return apart[(len(apart) - 1) // 2]  # the lower one of two, as torch has it


def samples(seed=0, n=23, m=18, d=2, shift=0.5):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((m, d)) + shift


@pytest.mark.parametrize("paired", [False, True])
def test_from_definitions(paired):
    x, y = samples(n=18)
    figure, _ = mmd(x, y, paired=paired)
    assert figure.value == pytest.approx(
        discrepancy(gaussians(median_distance(x, y)), x, y, paired), abs=1e-9
    )
    figure = kernel_distance(x, y, paired=paired)
    expected = discrepancy(lambda a, b: (a @ b / 2 + 1) ** 3, x, y, paired)
    assert figure.value == pytest.approx(expected, abs=1e-12)


def test_mmd_of_gaussians_against_the_closed_form():
    # E exp(−(X − Y)²/2s²) with X − Y ~ N(μ, v) is s/√(s² + v) exp(−μ²/2(s² + v)), in one dimension.
    def overlap(s, mean, variance):
        return s / math.sqrt(s**2 + variance) * math.exp(-(mean**2) / 2 / (s**2 + variance))

    rng = np.random.default_rng(1)
    mean, scale = 0.5, 1.5
    x, y = rng.standard_normal((1000, 1)), mean + scale * rng.standard_normal((1000, 1))
    figure, p = mmd(x, y)
    # The median of |Z − Z′| of the mixture; its error moves the kernel only a little.
    z = np.concatenate([x, y])
    median = np.median(np.abs(z - z.T))
    exact = np.mean(
        [
            overlap(s * median, 0, 2)
            + overlap(s * median, 0, 2 * scale**2)
            - 2 * overlap(s * median, mean, 1 + scale**2)
            for s in (0.5, 1, 2)
        ]
    )
    assert abs(figure.value - exact) < 4 * figure.stderr
    assert figure.stderr < 0.2 * exact
    assert p == pytest.approx(1 / 201)


def test_kernel_distance_of_gaussians_against_moments():
    # In one dimension (xy + 1)³ gives 3 Δm₁² + 3 Δm₂² + Δm₃², with the raw moments m.
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2000, 1)), 0.5 + rng.standard_normal((2000, 1))
    figure = kernel_distance(x, y)
    exact = 3 * 0.5**2 + 3 * 0.25**2 + (0.5**3 + 3 * 0.5) ** 2
    assert abs(figure.value - exact) < 4 * figure.stderr
    assert figure.stderr < 0.2 * exact
    w = torch.rand(2000)
    weighted = kernel_distance(x, y, weight_x=w).value
    twice = kernel_distance(x, y, weight_x=2 * w).value
    assert weighted == pytest.approx(twice)


@pytest.mark.parametrize(("paired", "discrete"), [(False, False), (True, False), (False, True)])
def test_p_values_are_uniform_under_the_hypothesis(paired, discrete):
    rng = np.random.default_rng(3)
    p_values = []
    for seed in range(300):
        given = 3 * rng.standard_normal((12, 1)) if paired else np.zeros((12, 1))
        x, y = (np.hstack([given, rng.standard_normal((12, 1))]) for _ in "xy")
        if discrete:
            x, y = np.round(x), np.round(y)
        p_values.append(mmd(x, y, paired=paired, replicates=2, permutations=39, seed=seed)[1])
    p_values = np.array(p_values)
    # A test of the level 0.1 % each: p takes the values 1/40 … 1.
    assert stats.binomtest((p_values <= 0.05).sum(), 300, 0.05).pvalue > 1e-3 or discrete
    assert stats.binomtest((p_values <= 0.05).sum(), 300, 0.05, "greater").pvalue > 1e-3
    if not discrete:
        spread = p_values - rng.random(300) / 40
        assert stats.kstest(spread, "uniform").pvalue > 1e-3


def test_power():
    x, y = samples(4, 200, 200)
    assert mmd(x, y)[1] < 0.01
    rng = np.random.default_rng(5)
    x, angle = (
        rng.standard_normal((400, 2)),
        rng.uniform(0, 2 * np.pi, 400),
    )  # the same mean and covariance
    y = np.sqrt(2) * np.stack([np.cos(angle), np.sin(angle)], 1)
    assert mmd(x, y)[1] < 0.01
    given = 10 * rng.standard_normal((200, 1))
    x, y = (np.hstack([given, given + rng.standard_normal((200, 1)) + s]) for s in (0.0, 1.0))
    assert mmd(x, y, paired=True)[1] < 0.01
    assert mmd(x, y)[1] > 0.05  # the contexts' spread hides it from a test that does not know them


def test_rows_that_are_all_equal():
    figure, p = mmd(np.ones((5, 2)), np.ones((6, 2)))
    assert (figure.value, p) == (0, 1)
    with pytest.raises(lk.DataError, match="two samples of shapes"):
        mmd(np.ones((5, 2)), np.ones((6, 3)))
