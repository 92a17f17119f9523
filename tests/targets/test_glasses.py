"""Spin glasses against loops over their bonds."""

import itertools
import math

import pytest
import torch

from likely import targets as truth


def test_energies_count_each_bond_once():
    """Couplings are read from flips of one and two spins; the sum over pairs must give E back."""
    target = truth.sherrington_kirkpatrick(5, beta=0.7, seed=3)
    up = torch.ones(5, dtype=torch.int64)

    def after(*flipped: int) -> float:
        s = up.clone()
        s[list(flipped)] = -1
        return target.energy(s[None]).item()

    J = {}
    for i, j in itertools.combinations(range(5), 2):
        J[i, j] = (after(i) + after(j) - after() - after(i, j)) / 4
    assert min(map(abs, J.values())) > 1e-3
    weights = []
    for s in itertools.product([-1, 1], repeat=5):
        energy = -sum(J[i, j] * s[i] * s[j] for i, j in J)
        assert target.energy(torch.tensor([s])).item() == pytest.approx(energy)
        weights.append(math.exp(-energy))
    assert target.log_z == pytest.approx(math.log(sum(weights)))


def test_bonds_of_the_edwards_anderson_model_are_signs():
    target = truth.edwards_anderson(3, 4, beta=1.0, seed=1)
    for i, j in itertools.product(range(3), range(4)):  # a spin's flip costs twice its local field
        s = 2 * torch.randint(2, (1, 3, 4)) - 1
        flipped = s.clone()
        flipped[0, i, j] *= -1
        change = (target.energy(flipped) - target.energy(s)).item()
        assert change / 2 in (-4, -2, 0, 2, 4)


def test_glasses_are_symmetric_seeded_and_open_beyond_twenty_spins():
    for build in (truth.sherrington_kirkpatrick, truth.edwards_anderson):
        target = build(seed=2)
        s = target.sample(50, 1)
        assert torch.allclose(target.energy(s), target.energy(-s))
        assert torch.allclose(target.energy(s.float()), target.energy(s).float(), atol=1e-5)
        assert target.mean.abs().max() < 1e-10
        assert target.log_z == build(seed=2).log_z != build(seed=3).log_z
    for target in (truth.sherrington_kirkpatrick(21), truth.edwards_anderson(5, 5)):
        assert target.log_z is None
        assert target.energy(torch.ones(2, *target.domain.shape)).shape == (2,)


def test_high_temperature_expansion():
    """log Z = N log 2 + Σ log cosh βJ + loops of at least 4 bonds, of which there are 16 + 8."""
    target = truth.edwards_anderson(4, 4, beta=0.05, seed=0)
    expected = 16 * math.log(2) + 32 * math.log(math.cosh(0.05))
    assert target.log_z == pytest.approx(expected, abs=24 * math.tanh(0.05) ** 4 * 1.2)
