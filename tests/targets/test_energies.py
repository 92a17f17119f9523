"""Targets that are known through their energy: Ising lattices, enumeration."""

import math

import pytest
import torch
from scipy import stats

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


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: truth.ising(16, 16, -1.0), "temperature must be positive"),
        (lambda: truth.double_well(0.0), "no two wells"),
        (lambda: truth.double_well(1.0, 2.0), "no two wells"),
        (lambda: truth.phi4(4, 4, mass2=-1.0, coupling=0.0), "no lower bound"),
        (lambda: truth.phi4(4, 4, mass2=-1.0, coupling=(0.0, 1.0)), "no lower bound"),
        (lambda: truth.phi4(2, 2, 2), "one or two positive lengths"),
        (lambda: truth.phi4_exact(3, mass2=0.0, coupling=0.0), "no lower bound"),
        (lambda: truth.phi4_exact(9, 9, mass2=-4, coupling=8, points=100), "smaller lattice"),
        (lambda: truth.u1(4, 1), "at least 2"),
        (lambda: truth.u1(4, beta=0.0), "must be positive"),
        (lambda: truth.many_well(5), "cannot be 5"),
    ],
)
def test_energies_that_do_not_exist(build, message):
    with pytest.raises(lk.LikelyError, match=message):
        build()
