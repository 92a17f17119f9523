"""Wells against quadrature."""

import math

import pytest
import torch
from scipy import integrate

from likely import targets as truth


@pytest.mark.parametrize(("barrier", "tilt"), [(15.0, 0.0), (3.0, 0.4), (60.0, -1.0)])
def test_double_well_against_quadrature(barrier, tilt):
    target = truth.double_well(barrier, tilt)

    def weight(x: float) -> float:
        return math.exp(-barrier * (x * x - 1) ** 2 - tilt * x)

    z = integrate.quad(weight, -4, 4, points=[-1, 0, 1], epsabs=0, epsrel=1e-11)[0]
    assert target.log_z == pytest.approx(math.log(z), abs=1e-9)
    left, right = target.modes.flatten().tolist()
    top = -tilt / (4 * barrier) * -1
    for _ in range(50):  # Newton's steps to the top of the barrier
        top -= (4 * barrier * top * (top**2 - 1) + tilt) / (4 * barrier * (3 * top**2 - 1))
    mass = integrate.quad(weight, -4, top, points=[-1], epsabs=0, epsrel=1e-11)[0] / z
    assert target.mode_weights[0].item() == pytest.approx(mass, abs=1e-5)
    height = target.energy(torch.tensor([[top], [left], [right]], dtype=torch.float64))
    assert height[0] > height[1:].max() + 0.5 * barrier
    x = target.sample(40_000, 1)
    part = (x < top).double().mean().item()
    assert abs(part - mass) < 3.5 * math.sqrt(mass * (1 - mass) / 40_000)


def integral(weight, low: float, high: float) -> float:
    return integrate.quad(weight, low, high, points=[-1.7, 0, 1.7], epsabs=0, epsrel=1e-12)[0]


def test_many_well_has_the_constants_of_the_literature():
    pair = truth.many_well(2)
    assert pair.log_z == pytest.approx(10.2934797, abs=5e-8)
    line = [integral(lambda x: math.exp(6 * x**2 - x**4 + x / 2), low, 6) for low in (-6, -0.04169)]
    assert pair.mode_weights[1].item() == pytest.approx(line[1] / line[0], abs=1e-7)
    six = truth.many_well(6)
    assert six.log_z == pytest.approx(30.880439, abs=5e-7)
    assert truth.many_well(32).log_z == pytest.approx(164.695675, abs=5e-7)
    assert len(six.modes) == 8
    assert six.mode_weights.sum().item() == pytest.approx(1)
    assert truth.many_well(22).modes is None
    x = torch.randn(50, 6, dtype=torch.float64)
    terms = [a**4 - 6 * a**2 - a / 2 + b**2 / 2 for a, b in zip(x.T[::2], x.T[1::2], strict=True)]
    assert torch.allclose(six.energy(x), sum(terms))
    assert torch.allclose(six.log_prob(x), -six.energy(x) - six.log_z)


def test_draws_fall_into_the_wells_with_their_weights():
    target = truth.many_well(4)
    right = (target.sample(40_000, 3)[:, ::2] > -0.04).long()  # the top of the barrier
    share = torch.bincount(2 * right[:, 0] + right[:, 1], minlength=4) / 40_000
    error = (target.mode_weights * (1 - target.mode_weights) / 40_000).sqrt()
    assert ((share - target.mode_weights).abs() < 4 * error).all()


def test_modes_are_minima():
    for target in (truth.many_well(4), truth.double_well_plane()):
        x = target.modes.clone().requires_grad_()
        assert torch.autograd.grad(target.energy(x).sum(), x)[0].abs().max() < 1e-9


def test_double_well_plane_against_quadrature():
    target = truth.double_well_plane()

    def weight(x: float) -> float:
        return math.exp(-(x**4) / 4 + 3 * x**2 - x)

    z = integral(weight, -8, 8)
    assert target.log_z == pytest.approx(math.log(z * math.sqrt(2 * math.pi)), abs=1e-9)
    top = 0.16743  # where x³ − 6x + 1 = 0
    assert target.mode_weights[1].item() == pytest.approx(integral(weight, top, 8) / z, abs=1e-6)
    point = torch.tensor([[1.5, -2.0]], dtype=torch.float64)
    assert target.energy(point).item() == pytest.approx(1.5**4 / 4 - 3 * 1.5**2 + 1.5 + 2)
