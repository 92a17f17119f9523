"""Weights of rows: their unit never matters, and negative ones take rows away."""

import numpy as np
import pytest
import torch

import likely as lk

RNG = np.random.default_rng(0)
BITS = (RNG.random((400, 6)) < np.linspace(0.05, 0.95, 6)).astype(int)
SMALL = {"transforms": 1, "hidden": (8,), "bins": 4}


@pytest.mark.parametrize("name", ["rbm", "made", "hopfield", "vae"])
def test_the_unit_of_the_weights_does_not_matter(name):
    scores = []
    for unit in (1.0, 2.0**-20, 2.0**20):
        data = lk.load_data(BITS, weight=unit * (1 + BITS[:, 0]))
        model = lk.make(name, data.domain, seed=0)
        lk.fit(model, data, steps=20)
        scores.append(model.log_likelihood(data.test.x, seed=0).value)
    torch.testing.assert_close(scores[1:], [scores[0], scores[0]])


def test_negative_weights_take_rows_away():
    kept, other = RNG.normal(size=(3000, 1)), 4 + RNG.normal(size=(6000, 1))
    x = np.concatenate([kept, other])
    weight = np.concatenate([np.ones(6000), -np.ones(3000)])
    with pytest.warns(UserWarning, match="33.33% of the weights are negative: these rows take"):
        data = lk.load_data(x, weight=weight)
    model = lk.make("nsf", data.domain, seed=0, **SMALL)
    lk.fit(model, data, steps=200, batch=2000)
    samples = model.sample(2000, seed=0)
    assert (samples > 2.5).double().mean() < 0.2  # without the weights it is three fifths
    with pytest.raises(
        lk.DataError, match="some weights are negative, and GaussianMixture trains by"
    ):
        lk.fit(lk.make("gmm", data.domain), data, steps=1)
    with pytest.raises(lk.DataError, match="some weights are negative, for which distances"):
        lk.evaluate(model, data)


def test_other_data_are_told():
    data = lk.load_data(RNG.normal(size=(200, 2)))
    model = lk.make("nsf", data.domain, seed=0, **SMALL)
    lk.fit(model, data, steps=2)
    lk.fit(model, data, steps=2)
    with pytest.warns(UserWarning, match="fitted to other data before, and keeps their scales"):
        lk.fit(model, lk.load_data(300 + RNG.normal(size=(200, 2))), steps=2)


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_a_fit_finds_its_gradients(without):
    data = lk.load_data(RNG.normal(size=(200, 2)))
    for name in ("nsf", "gmm", "ebm"):
        model = lk.make(name, data.domain, seed=0)
        with without():
            lk.fit(model, data, steps=2)
        assert model.sample(3, seed=0).isfinite().all()
