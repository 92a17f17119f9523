"""U(1) gauge theory: exact constants, symmetries, and the measures of its links."""

import math

import pytest
import torch

from likely import targets as truth


@pytest.mark.parametrize(
    ("L", "beta", "log_z", "plaquette", "charge2"),
    [
        (8, 1.0, 15.098519, 0.446390, 2.60072),
        (8, 2.0, 52.735587, 0.697775, 1.23930),
        (8, 7.0, 328.173576, 0.925700, 0.21711),
        (16, 2.0, 210.942347, None, 4.95719),
        (16, 5.0, 845.998535, None, 1.47349),
    ],
)
def test_exact_values_on_the_torus(L, beta, log_z, plaquette, charge2):
    target = truth.u1(L, beta=beta)
    assert target.log_z - 2 * L * L * math.log(2 * math.pi) == pytest.approx(log_z, abs=1e-6)
    assert target.observables["charge2"] == pytest.approx(charge2, abs=1e-5)
    if plaquette:
        assert target.observables["plaquette"] == pytest.approx(plaquette, abs=1e-6)


def test_exact_values_against_reweighted_links():
    """Reweighted from β = 0, where links are uniform."""
    target = truth.u1(2, beta=0.5)
    x = (2 * torch.rand(200_000, 2, 2, 2, dtype=torch.float64) - 1) * math.pi
    weight = (-target.energy(x)).exp()
    ratio = weight.mean() * (2 * math.pi) ** 8
    assert ratio.log().item() == pytest.approx(target.log_z, abs=0.01)
    plaquette = truth.plaquettes(x).cos().mean((1, 2))
    charge2 = truth.topological_charge(x).square()
    for value, name in ((plaquette, "plaquette"), (charge2, "charge2")):
        mean = (weight * value).mean() / weight.mean()
        error = (weight * (value - mean)).std() / weight.mean() / math.sqrt(len(x))
        assert abs(mean - target.observables[name]) < 4 * error


def test_plaquettes_are_the_walk_around_each_square():
    x = (2 * torch.rand(1, 2, 3, 4, dtype=torch.float64) - 1) * math.pi
    square = truth.plaquettes(x)[0]
    for i in range(3):
        for j in range(4):
            angle = (
                x[0, 0, i, j] + x[0, 1, (i + 1) % 3, j] - x[0, 0, i, (j + 1) % 4] - x[0, 1, i, j]
            )
            assert square[i, j].cos() == pytest.approx(angle.cos().item())
            assert square[i, j].sin() == pytest.approx(angle.sin().item())
    assert (square.abs() <= math.pi).all()


def test_gauge_transformations_change_no_plaquette():
    target = truth.u1(4, 6, beta=3.0)
    x = (2 * torch.rand(20, 2, 4, 6) - 1) * math.pi
    y = truth.gauge_transform(x, 10 * torch.randn(20, 4, 6))
    target.domain.check(y)
    assert not torch.allclose(x, y)
    assert torch.allclose(target.energy(x), target.energy(y), atol=1e-4)
    assert torch.equal(truth.topological_charge(x), truth.topological_charge(y))


def test_an_instanton_has_charge_one():
    """A constant plaquette 2π Q/V: θ₁ = 2πQ x₀/V, and θ₀ at the seam winds once along x₁."""
    L0, L1 = 4, 5
    i, j = torch.meshgrid(torch.arange(L0), torch.arange(L1), indexing="ij")
    flux = 2 * math.pi / (L0 * L1)
    x = torch.stack([-flux * L0 * j * (i == L0 - 1), flux * i])[None]
    assert torch.allclose(truth.plaquettes(x), torch.full((1, L0, L1), flux), atol=1e-5)
    assert truth.topological_charge(x).item() == 1
