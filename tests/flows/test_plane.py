"""The spline flow at its default settings on 20,000 draws of targets in the plane."""

import pytest
import torch

import likely as lk


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "most"), [("eight-gaussians", 0.02), ("rings", 0.03), ("checkerboard", 0.055)]
)
def test_divergence_after_two_minutes(name, most):
    truth = lk.truth.target(name)
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
