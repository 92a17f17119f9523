"""The φ⁴ field: its action by loops, its free limit in closed form, small lattices by transfer matrices."""

import itertools
import math

import pytest
import torch
from scipy import integrate

import likely as lk
from likely import targets as truth


def action(field: list, mass2: float, coupling: float) -> float:
    """Σ_x m²φ² + λφ⁴ + Σ_μ (Δ_μφ)² of one field, site by site."""
    shape, total = field.shape, 0.0
    for site in itertools.product(*map(range, shape)):
        total += mass2 * field[site] ** 2 + coupling * field[site] ** 4
        for axis in range(len(shape)):
            ahead = list(site)
            ahead[axis] = (ahead[axis] + 1) % shape[axis]
            total += (field[tuple(ahead)] - field[site]) ** 2
    return float(total)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 2), (1, 3)])
def test_the_action_is_the_sum_over_sites(shape):
    x = torch.randn(3, *shape, dtype=torch.float64)
    expected = torch.tensor([action(field, -1.5, 0.7) for field in x.numpy()]).double()
    assert torch.allclose(truth.phi4(*shape, mass2=-1.5, coupling=0.7).energy(x), expected)
    family = truth.phi4(*shape, mass2=-1.5, coupling=(0.5, 2.0))
    assert torch.allclose(family.energy(x, torch.full((3, 1), 0.7).double()), expected)
    assert family.context == lk.table(coupling=lk.Interval(0.5, 2.0))


def test_free_field_has_its_closed_form():
    for L, log_z in ((4, -2.858132), (8, -11.622885), (16, -46.496347)):
        target = truth.phi4(L, L, mass2=1.0, coupling=0.0)
        assert target.log_z == pytest.approx(log_z, abs=5e-7)
        x = torch.randn(5, L, L, dtype=torch.float64)
        assert torch.allclose(target.log_prob(x), -target.energy(x) - target.log_z)
    assert truth.phi4(8, 8, mass2=1.0, coupling=0.0).observables["phi2"] == pytest.approx(
        0.127087, abs=5e-7
    )


@pytest.mark.parametrize("shape", [(6,), (3, 4)])
def test_free_draws_have_the_inverse_of_the_quadratic_form_as_covariance(shape):
    target = truth.phi4(*shape, mass2=0.8, coupling=0.0)
    V = target.domain.size
    zero = torch.zeros(1, *shape, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda x: target.energy(x).sum(), zero)
    covariance = torch.linalg.inv(hessian.view(V, V))
    assert torch.allclose(target.covariance, covariance)
    x = target.sample(40_000, 1).flatten(1).double()
    product = x[:, :, None] * x[:, None, :]
    error = product.std(0) / math.sqrt(len(x))
    assert ((product.mean(0) - covariance).abs() < 4.5 * error).all()
    surprise = -target.log_prob(x.view(-1, *shape))
    assert abs(surprise.mean() - target.entropy) < 4 * surprise.std() / math.sqrt(len(x))


@pytest.mark.parametrize(
    ("shape", "coupling", "log_z", "chi"),
    [
        ((4, 4), 8.0, 2.405139, 0.683968),
        ((4, 4), 6.975, 3.218329, 0.934973),
        ((4, 8), 8.0, 4.721808, 0.714779),
        ((8, 4), 6.975, 6.296760, 1.013739),
        ((3, 3), 8.0, 1.476529, 0.604369),
        ((3, 3), 6.975, 1.969824, 0.782872),
        ((2, 2), 8.0, 0.914434, 0.450482),
        ((2, 2), 6.975, 1.173185, 0.544209),
    ],
)
def test_small_tori_have_their_known_constants(shape, coupling, log_z, chi):
    target = truth.phi4(*shape, coupling=coupling)
    assert target.log_z == pytest.approx(log_z, abs=1e-6)
    assert target.observables["susceptibility"] == pytest.approx(chi, abs=2e-6)


@pytest.mark.parametrize(
    ("size", "mass2", "coupling", "log_z", "phi2", "chi"),
    [
        (8, -4.0, 8.0, 3.2662017869, 0.1791949173, 0.35329016),
        (32, -4.0, 8.0, 13.0642820287, 0.1791747631, 0.35335550),
        (32, -2.0, 2.0, 17.8888470471, 0.3255566741, 0.99527101),
    ],
)
def test_rings_have_their_known_constants(size, mass2, coupling, log_z, phi2, chi):
    exact = truth.phi4_exact(size, mass2=mass2, coupling=coupling, tolerance=1e-9)
    assert exact["log_z"] == pytest.approx(log_z, abs=2e-10)
    assert exact["phi2"] == pytest.approx(phi2, abs=2e-10)
    assert exact["susceptibility"] == pytest.approx(chi, abs=1e-8)


def test_two_sites_against_quadrature():
    def weight(a: float, b: float) -> float:
        s = 2 * (a - b) ** 2 - 2 * (a * a + b * b) + 3 * (a**4 + b**4)  # two bonds
        return math.exp(-s)

    def mean(f) -> float:
        return integrate.dblquad(lambda a, b: f(a, b) * weight(a, b), -3, 3, -3, 3)[0]

    z = mean(lambda a, b: 1.0)
    target = truth.phi4(2, mass2=-2.0, coupling=3.0)
    assert target.log_z == pytest.approx(math.log(z), abs=1e-7)
    expected = {
        "phi2": mean(lambda a, b: (a * a + b * b) / 2) / z,
        "susceptibility": mean(lambda a, b: (a + b) ** 2 / 2) / z,
    }
    assert target.observables == pytest.approx(expected, abs=1e-7)


def test_the_transfer_matrix_has_the_free_limit_and_gives_up_where_fields_are_large():
    free = truth.phi4(3, 5, mass2=1.0, coupling=0.0)
    exact = truth.phi4_exact(3, 5, mass2=1.0, coupling=0.0)
    assert exact["log_z"] == pytest.approx(free.log_z, abs=2e-6)
    assert exact["phi2"] == pytest.approx(free.observables["phi2"], abs=2e-6)
    assert exact["susceptibility"] == pytest.approx(0.5, abs=2e-5)
    assert truth.phi4(3, 3, mass2=0.1, coupling=1e-5).log_z is None
    assert truth.phi4().log_z is None


def test_the_torus_of_albergos_smallest_ensemble():
    exact = truth.phi4_exact(6, 6, mass2=-4.0, coupling=6.975, tolerance=1e-4)
    assert exact["log_z"] == pytest.approx(6.984948, abs=1e-4)
    assert exact["susceptibility"] == pytest.approx(1.063075, abs=1e-4)


@pytest.mark.slow
def test_eight_by_eight_by_transfer_matrix():
    exact = truth.phi4_exact(8, 8, mass2=-4.0, coupling=8.0, tolerance=1e-3)
    assert exact["log_z"] == pytest.approx(9.291364, abs=2e-4)
    assert exact["susceptibility"] == pytest.approx(0.744135, abs=2e-4)
    assert exact["phi2"] == pytest.approx(0.143450, abs=1e-4)


def test_what_is_measured_of_a_field():
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    assert torch.allclose(truth.magnetisation(x), x.mean((1, 2)))
    assert torch.allclose(truth.phi2(x), x.square().mean((1, 2)))
    assert torch.allclose(truth.susceptibility(x), 15 * x.mean((1, 2)).square())
    G = truth.correlator(x)
    naive = sum(x[:, s].sum(1) * x[:, (s + 1) % 3].sum(1) for s in range(3)) / 15
    assert torch.allclose(G[:, 1], naive)
    assert torch.allclose(G.sum(1), truth.susceptibility(x))
    assert torch.allclose(truth.correlator(x[:, 0]).sum(1), truth.susceptibility(x[:, 0]))
