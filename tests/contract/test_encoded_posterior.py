"""Posteriors of the mean of Gaussian pixels, through an encoder of their images, against the exact ones."""

import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_score
from torch.distributions import Normal

import likely as lk
from likely.evaluation import rank_histogram, ranks

SIGMA = 10.0  # of a pixel; the mean is N(0, 1)
PIXELS = 20


def images(n, seed):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(n, 1, generator=generator)
    noise = torch.randn(n, PIXELS, PIXELS, generator=generator)
    return mean, mean[:, :, None] + SIGMA * noise


def exact(x):
    """p(mean | image), which is conjugate."""
    precision = 1 + PIXELS**2 / SIGMA**2
    return Normal(x.mean((1, 2)) * (precision - 1) / precision, precision**-0.5)


def fitted(rows, steps):
    domain = lk.reals(PIXELS, PIXELS, layout="image")
    splits = [
        lk.data.Split(*images(n, seed)) for seed, n in enumerate((rows, rows // 8, rows // 8))
    ]
    data = lk.Data(lk.reals(1), *splits, context=domain)
    options = {"transforms": 1, "hidden": (32,), "context_encoder": "cnn"}
    model = lk.make("nsf", data.domain, context=domain, seed=0, **options)
    lk.fit(model, data, steps=steps, batch=256)
    return model


def test_a_posterior_comes_near_the_exact_one_in_seconds():
    model, (mean, x) = fitted(2000, 150), images(1000, 9)
    truth = exact(x).log_prob(mean[:, 0]).mean().item()
    prior = Normal(0, 1).log_prob(mean).mean().item()
    found = model.log_prob(mean, x).mean().item()
    assert found > truth - 0.25 * (truth - prior)


@pytest.mark.slow
def test_a_posterior_is_the_exact_one():
    model, (mean, x) = fitted(40_000, 1500), images(4000, 9)
    drawn, right = model.sample(len(x), context=x, seed=1)[:, 0], exact(x).sample()
    centre = exact(x).mean
    rows = torch.cat([torch.stack([draws - centre, centre], 1) for draws in (drawn, right)])
    sides = torch.arange(2).repeat_interleave(len(x))
    told_apart = cross_val_score(HistGradientBoostingClassifier(max_depth=3), rows, sides, cv=5)
    assert told_apart.mean() <= 0.55
    assert rank_histogram(ranks(model, mean, x, draws=49, seed=2)).p_value.item() > 1e-3
    gap = (exact(x).log_prob(mean[:, 0]) - model.log_prob(mean, x)).mean().item()
    assert abs(gap) < 0.03
