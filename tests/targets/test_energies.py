"""Targets that are known through their energy: Ising lattices, wells, enumeration."""

import math

import pytest
import torch
from scipy import integrate, stats

import likely as lk
from likely import targets as truth

CRITICAL = 2 / math.log(1 + math.sqrt(2))


@pytest.mark.parametrize("temperature", [1.2, 1.9, CRITICAL, 2.4, 3.5, 12.0])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (2, 4), (1, 6), (6, 1)])
def test_kaufmans_solution_against_enumeration(shape, temperature):
    exact = truth.ising(*shape, temperature)
    log_z, energy = truth.kaufman(*shape, temperature)
    assert log_z == pytest.approx(exact.log_z, rel=1e-12)
    assert energy == pytest.approx((exact.entropy - exact.log_z) * temperature, abs=1e-9)


def test_kaufmans_solution_of_large_lattices():
    log_z, energy = truth.kaufman(400, 400, CRITICAL)
    assert energy / 400**2 == pytest.approx(-math.sqrt(2), abs=2e-3)  # Onsager's
    free = math.log(2) / 2 + 2 * 0.915965594177219 / math.pi  # Catalan's constant
    assert log_z / 400**2 == pytest.approx(free, abs=1e-5)
    cold = truth.kaufman(300, 1000, 0.2)
    assert cold[0] == pytest.approx(300 * 1000 * 2 / 0.2 + math.log(2), rel=1e-12)
    assert truth.kaufman(20, 30, 3.0) == pytest.approx(truth.kaufman(30, 20, 3.0), rel=1e-12)


@pytest.mark.parametrize("temperature", [1.5, CRITICAL, 4.0])
def test_swendsen_wang_draws_from_the_exact_law(temperature):
    exact = truth.ising(3, 4, temperature)
    s = truth.swendsen_wang(3, 4, temperature, 5000, sweeps=30)
    states = torch.cartesian_prod(*[torch.tensor([-1, 1])] * 12).view(-1, 3, 4)
    level = (exact.energy(states) * temperature).round().long() + 24
    expected = torch.zeros(50).double().index_add(0, level, exact.log_prob(states).exp()) * len(s)
    observed = torch.bincount((exact.energy(s) * temperature).round().long() + 24, minlength=50)
    rare = expected < 5
    table = [torch.cat([n[~rare], n[rare].sum()[None]]) for n in (observed.double(), expected)]
    assert 0.001 < stats.chisquare(*table).pvalue < 0.999
    flat = s.flatten(1).double()
    second = flat.T @ flat / len(flat)
    assert (second - exact.covariance).abs().max() < 4.2 / math.sqrt(len(flat))
    assert flat.mean(0).abs().max() < 4.2 / math.sqrt(len(flat))


def test_a_large_ising_lattice_is_a_whole_target():
    target = truth.ising(6, 5, 2.5)
    x = target.sample(400, 3)
    target.domain.check(x)
    assert torch.equal(x, target.sample(400, 3))
    surprise = -target.log_prob(x)
    assert abs(surprise.mean() - target.entropy) < 3 * surprise.std() / math.sqrt(400)
    assert torch.allclose(target.log_prob(x), -target.energy(x) - target.log_z)
    assert target.log_prob(target.modes).max() >= target.log_prob(x).max()


def test_enumeration_of_twenty_bits_and_of_mixed_columns():
    field = torch.linspace(-1, 1, 20, dtype=torch.float64)
    target = truth.enumerated("coins", lk.binary(20), lambda x: -(x.double() @ field))
    assert target.log_z == pytest.approx(torch.nn.functional.softplus(field).sum().item())
    assert torch.allclose(target.mean, field.sigmoid())
    mixed = lk.table(lk.Spin(), lk.Categorical(3), lk.Integer(2))
    target = truth.enumerated("mixed", mixed, lambda x: (x[:, 0] * x[:, 1]).double() + x[:, 2])
    weights = [
        math.exp(-(s * c + i)) for s in (-1, 1) for c in range(3) for i in range(2)
    ]  # fmt: skip
    assert target.log_z == pytest.approx(math.log(sum(weights)))
    mixed.check(target.sample(50, 0))
    for domain in (lk.binary(21), lk.reals(2), lk.table(lk.Count())):
        with pytest.raises(lk.DomainError, match="can be enumerated"):
            truth.enumerated("x", domain, lambda x: x.sum(1))


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


def test_the_action_of_phi4_on_a_single_site_and_a_wave():
    target = truth.phi4(4, -1.0, 0.5)
    flat = torch.full((1, 4, 4), 0.7, dtype=torch.float64)
    assert target.energy(flat).item() == pytest.approx(16 * (-1.0 * 0.49 + 0.5 * 0.7**4))
    wave = 1 - 2.0 * ((torch.arange(4)[:, None] + torch.arange(4)) % 2)[None]
    assert target.energy(wave).item() == pytest.approx(16 * (8 - 1 + 0.5))
    assert truth.susceptibility(flat).item() == pytest.approx(16 * 0.49)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: truth.ising(16, 16, -1.0), "temperature must be positive"),
        (lambda: truth.double_well(0.0), "no two wells"),
        (lambda: truth.double_well(1.0, 2.0), "no two wells"),
        (lambda: truth.phi4(4, -1.0, 0.0), "no lower bound"),
    ],
)
def test_energies_that_do_not_exist(build, message):
    with pytest.raises(lk.LikelyError, match=message):
        build()
