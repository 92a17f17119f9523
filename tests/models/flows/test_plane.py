"""Divergence of trained flows from targets in the plane, whose densities are known."""

import pytest
import torch

import likely as lk


def divergence_of(model, truth):
    """E log p/q over 20,000 draws, and its standard error."""
    x = truth.sample(20_000, 1)
    with torch.no_grad():
        terms = truth.log_prob(x) - model.log_prob(x)
    return terms.mean(), terms.std() / len(x) ** 0.5


@pytest.mark.parametrize(
    ("name", "most"), [("nice", 0.12), ("realnvp", 0.02), ("maf", 0.02), ("iaf", 0.02)]
)
def test_affine_flows_on_a_correlated_gaussian(name, most):
    truth = lk.targets.gaussian_mixture([1.0], [[3.0, -1.0]], [[[2.0, 0.9], [0.9, 0.5]]])
    data = lk.load_data(truth.sample(8000, 0))
    model = lk.make(name, data.domain, transforms=4, hidden=(32,), seed=0)
    lk.fit(model, data, steps=250)
    divergence, error = divergence_of(model, truth)
    assert -3 * error < divergence < most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "most"), [("nice", 0.8), ("realnvp", 0.25), ("maf", 0.25), ("iaf", 0.25)]
)
def test_affine_flows_on_eight_gaussians(name, most):
    truth = lk.targets.target("eight-gaussians")
    data = lk.load_data(truth.sample(20_000, 0))
    model = lk.make(name, data.domain, seed=0)
    lk.fit(model, data, steps=1500)
    divergence, error = divergence_of(model, truth)
    assert -3 * error < divergence < most


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "most"), [("eight-gaussians", 0.02), ("rings", 0.03), ("checkerboard", 0.055)]
)
def test_splines_at_their_defaults_after_two_minutes(name, most):
    truth = lk.targets.target(name)
    data = lk.load_data(truth.sample(20_000, 0))  # 16,000 of them to train
    model = lk.make("nsf", data.domain, seed=0)
    lk.fit(model, data, minutes=2)
    x = truth.sample(50_000, 1)
    with torch.no_grad():
        divergence = truth.log_prob(x) - model.log_prob(x)
    # Overfitting the training rows limits it.
    error = divergence.std() / len(x) ** 0.5
    assert -3 * error < divergence.mean() <= most
    edges = torch.linspace(-9, 9, 1501)
    middle = (edges[1:] + edges[:-1]) / 2
    with torch.no_grad():
        rows = [
            model.log_prob(torch.cartesian_prod(part, middle)).double().exp().sum()
            for part in middle.split(100)
        ]
    assert sum(rows).item() * (18 / 1500) ** 2 == pytest.approx(1, abs=5e-3)
