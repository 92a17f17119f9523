"""Modes in the plane that a GAN with a gradient penalty must not miss."""

import pytest
import torch

import likely as lk
from likely.evaluation.modes import mode_coverage
from likely.targets import eight_gaussians, gaussian_mixture


def grid(width=0.1):
    """Twenty-five Gaussians on a square lattice of spacing 2."""
    line = 2.0 * torch.arange(-2, 3, dtype=torch.float64)
    round_ = (width**2 * torch.eye(2, dtype=torch.float64)).expand(25, 2, 2)
    return gaussian_mixture(torch.ones(25), torch.cartesian_prod(line, line), round_)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["gan-gp", "wgan-gp"])
@pytest.mark.parametrize(
    ("truth", "width"), [(eight_gaussians(), 0.3), (grid(), 0.1)], ids=["eight", "grid"]
)
def test_all_modes_are_covered(truth, width, name, seed):
    data = lk.load_data(truth.sample(20_000, 100 + seed).float())
    model = lk.make(name, data.domain, seed=seed)
    lk.fit(model, data, seed=seed)
    found = mode_coverage(model.sample(20_000, seed=seed), truth.modes, width)
    print(name, seed, found)
    assert found.covered == found.modes
    assert found.near.value >= 0.8
