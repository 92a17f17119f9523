import math

import numpy as np
import pytest
import torch

import likely as lk
from likely.data import Data, Split
from likely.evaluation import FeatureExtractor, frechet_distance, kernel_distance


def test_frechet_distance_of_gaussians_against_the_closed_form():
    rng = np.random.default_rng(0)
    scale, shift = np.array([1.0, 2.0, 0.5]), np.array([0.5, 0.0, 0.2])
    x, y = rng.standard_normal((4000, 3)), shift + scale * rng.standard_normal((4000, 3))
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    figure = frechet_distance(x @ turn, y @ turn)
    exact = (shift**2).sum() + ((1 - scale) ** 2).sum()
    assert abs(figure.value - exact) < 4 * figure.stderr
    assert figure.stderr < 0.05 * exact
    assert frechet_distance(x, x).value == pytest.approx(0, abs=1e-9)


def test_frechet_distance_against_square_roots_of_matrices():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((30, 4)), rng.gamma(2.0, size=(40, 4))
    w = rng.integers(1, 4, 30)
    cov_x, cov_y = np.cov(x, rowvar=False, aweights=w, ddof=1), np.cov(y, rowvar=False)
    difference = np.average(x, 0, w) - y.mean(0)
    expected = (difference**2).sum() + np.trace(cov_x + cov_y - 2 * sqrtm(cov_x @ cov_y).real)
    assert frechet_distance(x, y, weight_x=w).value == pytest.approx(expected)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_error_against_the_spread_of_repeated_draws(shift):
    rng = np.random.default_rng(2)
    figures = []
    for seed in range(80):
        x, y = rng.standard_normal((200, 3)), rng.standard_normal((200, 3)) + shift
        figures.append(frechet_distance(x, y, seed=seed))
    ratio = np.mean([f.stderr for f in figures]) / np.std([f.value for f in figures])
    assert 0.8 < ratio < 2.2, ratio


def test_bias_is_that_of_the_floor():
    # Of two samples of N(0, 1) in one dimension: E = 2/n + 1/n to the leading order.
    rng = np.random.default_rng(3)
    values = [frechet_distance(*rng.standard_normal((2, 50, 1))).value for _ in range(300)]
    assert abs(np.mean(values) - 3 / 50) < 4 * np.std(values) / math.sqrt(300)


def test_extrapolation_takes_the_stated_bias_away():
    rng, n, d = np.random.default_rng(4), 100, 4
    pairs = [rng.standard_normal((2, n, d)) for _ in range(40)]
    plain, limits = (
        [frechet_distance(*pair, extrapolate=at) for pair in pairs] for at in (False, True)
    )
    bias = 2 * d / n + d * (d + 1) / (2 * n)
    values = np.array([f.value for f in plain])
    assert abs(values.mean() - bias) < 4 * values.std() / 40**0.5 + 0.05 * bias
    values = np.array([f.value for f in limits])
    assert abs(values.mean()) < 4 * values.std() / 40**0.5 + 0.1 * bias
    assert 0.7 < np.mean([f.stderr for f in limits]) / values.std() < 2.2
    with pytest.raises(lk.DataError, match="20 of each"):
        frechet_distance(*pairs[0][:, :19], extrapolate=True)


@pytest.mark.parametrize("context", [None, "label"])
def test_features_tell_broken_digits_from_digits(context):
    data = lk.load_data("digits", **({} if context is None else {"context": context}))
    state = torch.random.get_rng_state()
    extractor = FeatureExtractor(data, seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    wanted = "autoencoder" if context is None else "classifier of label"
    assert extractor.description == f"{wanted}, trained for 200 steps on 1,439 images"
    features = extractor(data.test.x)
    first, again, other = (FeatureExtractor(data, steps=3, seed=s)(data.test.x) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    pixels = data.valid.x.flatten(1)  # each from another image
    mixed = torch.stack([pixel[torch.randperm(len(pixel))] for pixel in pixels.T], 1)
    for distance in (frechet_distance, kernel_distance):
        real = distance(features, extractor(data.valid.x))
        broken = distance(features, extractor(mixed.reshape(-1, 8, 8)))
        assert broken.value > real.value + 3 * math.hypot(real.stderr, broken.stderr)


def test_images_of_all_kinds():
    generator = torch.Generator().manual_seed(0)
    for domain, x in (
        (lk.binary(2, 6, 5, layout="image"), torch.randint(2, (200, 2, 6, 5), generator=generator)),
        (lk.reals(7, 3, layout="image"), 1e6 + torch.rand(200, 7, 3, generator=generator)),
        (
            lk.categories(3, 4, 4, layout="image"),
            torch.randint(3, (200, 4, 4), generator=generator),
        ),
        (lk.reals(4, 4, layout="image"), torch.zeros(200, 4, 4)),
    ):
        split = Split(x)
        extractor = FeatureExtractor(Data(domain, split, split, split), features=5, steps=2)
        features = extractor(x)
        assert features.shape == (200, 5)
        assert features.isfinite().all()
        if x.float().std() > 0:
            torch.testing.assert_close(features.mean(0), torch.zeros(5, dtype=torch.float64))
    split = Split(torch.zeros(10, 3))
    with pytest.raises(lk.DomainError, match="layout of an image"):
        FeatureExtractor(Data(lk.reals(3), split, split, split))
