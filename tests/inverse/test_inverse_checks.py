"""Checks of posteriors: right ones pass, and ones that are too narrow, shifted or foreign do not."""

from dataclasses import replace

import pytest
import torch

import likely as lk
from likely.inverse import Calibration, Convolve, misfit, simulate

BLUR = Convolve(torch.tensor([[0.25, 0.5, 0.25]]), "valid")


@pytest.fixture
def simulated(prior):
    model, *_ = prior("gaussian", (2, 4))
    x, y = simulate(model, BLUR, 0.4, m=400, seed=1)
    return lk.posterior(model, y, BLUR, 0.4, n=99, seed=2), x


def test_exact_posteriors_are_calibrated(simulated):
    found = Calibration(*simulated)
    assert found.ranks.shape == (400, 8)
    assert min(found.p_values().values()) > 1e-3
    assert found.histogram().p_value.min() > 1e-4
    for level in (0.5, 0.9):
        coverage = found.coverage(level)
        assert abs(coverage.value - level) < 4 * coverage.stderr < 0.08
    assert simulated[0].chi2.mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("factor", "shift"), [(0.7, 0.0), (1.4, 0.0), (1.0, 0.4)])
def test_posteriors_that_are_too_narrow_too_wide_or_shifted_are_found(simulated, factor, shift):
    p, x = simulated
    mean = p.samples.mean(1, keepdim=True)
    wrong = replace(
        p, samples=mean + factor * (p.samples - mean) + shift * p.samples.std(1)[:, None]
    )
    found = Calibration(wrong, x)
    assert found.p_values()["ranks"] < 1e-3
    if factor != 1:
        assert found.p_values()["tarp"] < 1e-3
        coverage = found.coverage(0.5)
        assert (coverage.value - 0.5) * (factor - 1) > 5 * coverage.stderr * abs(factor - 1)


def test_misfit_finds_other_units_and_not_draws_of_the_prior(prior):
    model, *_ = prior("gaussian", (2, 4))
    _, y = simulate(model, BLUR, 0.4, m=200, seed=3)
    right = misfit(model, y, BLUR, 0.4, draws=400)
    assert 0.3 < right.p_value.mean() < 0.7
    assert (right.p_value < 0.1).double().mean() < 0.25
    wrong = misfit(model, 100 * y[0], BLUR, 0.4, draws=400)
    assert wrong.p_value.item() < 0.01
    assert "in the units" in wrong.notes[0]


def test_bad_input_is_named(simulated, prior):
    p, x = simulated
    with pytest.raises(lk.DataError, match="one x for each"):
        Calibration(p, x[:3])
    model, *_ = prior("gaussian", (2, 4))
    with pytest.raises(lk.DataError, match="finite rows of shape"):
        misfit(model, torch.zeros(3, 3), BLUR, 0.4)
    with pytest.raises(lk.LikelyError, match="at least 40"):
        misfit(model, torch.zeros(2, 2), BLUR, 0.4, draws=3)
