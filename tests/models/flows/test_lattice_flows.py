"""Flows on lattices: couplings and the continuous flow, their Jacobians, symmetries, exact minima."""

import math

import pytest
import torch

import likely as lk
from likely.contract.inputs import sample_with_log_prob
from likely.contract.training import Batch
from likely.core.columns import Periodic, Real
from likely.core.domain import Domain
from likely.core.weights import log_mean
from likely.models.flows.lattice import LatticeCoupling
from likely.models.flows.lattice_cnf import orbits, waves
from likely.models.flows.transforms import VectorCoupling
from likely.nets.fast import Sines
from likely.numerics.ode import runge_kutta

SMALL = {
    "realnvp": {"transforms": 4, "channels": 6},
    "nsf-coupling": {"transforms": 4, "channels": 6, "bins": 4},
    "lattice-cnf": {"frequencies": 7, "features": 5, "kernels": 4, "times": 4, "steps": 24},
}
COUPLINGS = ["realnvp", "nsf-coupling"]
SHAPES = [(8,), (2,), (4, 4), (4, 6), (2, 2)]
CONTEXT = lk.table(coupling=lk.Interval(4, 6))


def lattice(*shape, column=None):
    return Domain(shape, (column or Real(),), layout="lattice")


def rough(name, domain, scale=0.1, **options):
    """A model far from the identity, in float64."""
    model = lk.make(name, domain, seed=0, **SMALL[name], **options).double()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
        if name == "lattice-cnf":
            model.field.W.normal_().mul_(10 * scale)
    return model.eval()


def shifted(x, *by):
    return x.roll(by, tuple(range(1, x.ndim)))


# Couplings.


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("column", [Real(), Periodic(0, 1)])
@pytest.mark.parametrize("context", [None, CONTEXT])
def test_jacobian_and_inverse_of_lattice_couplings(shape, column, context):
    for name in COUPLINGS[column.periodic :]:
        model = rough(name, lattice(*shape, column=column), context=context)
        z = torch.randn(3, math.prod(shape), dtype=torch.float64)
        features = None if context is None else torch.randn(3, 1, dtype=torch.float64)
        moved = torch.zeros(z.shape[1], dtype=torch.bool)
        for coupling in model.transforms:
            assert isinstance(coupling.transform, LatticeCoupling)
            y, log_det = coupling(z, features)
            jacobian = torch.autograd.functional.jacobian(
                lambda z, f=coupling, c=features: f(z, c)[0].sum(0), z
            )
            expected = torch.linalg.slogdet(jacobian.transpose(0, 1))[1]
            torch.testing.assert_close(log_det, expected, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(coupling.inverse(y, features), z, rtol=1e-8, atol=1e-8)
            moved |= (y != z).any(0)
            z = y.detach()
        assert moved.all()


@pytest.mark.parametrize("name", COUPLINGS)
def test_even_shifts_leave_the_density_of_couplings_as_it_is(name):
    model = rough(name, lattice(4, 6))
    x = torch.randn(5, 4, 6, dtype=torch.float64)
    log_prob = model.log_prob(x)
    for by in ((1, 1), (2, 0), (3, 5)):
        torch.testing.assert_close(model.log_prob(shifted(x, *by)), log_prob)
    assert not torch.allclose(model.log_prob(shifted(x, 1, 0)), log_prob)


@pytest.mark.parametrize(
    "domain", [lattice(3, 4), lattice(5), lattice(2, 2, 2), lk.reals(4)], ids=str
)
def test_other_lattices_are_vectors_to_couplings(domain):
    for name in COUPLINGS:
        assert isinstance(lk.make(name, domain).transforms[0], VectorCoupling)


def grid(points=17, bound=4.5):
    """A grid of the fields of 2×2 sites, and the volume of a cell: smooth densities need no finer one."""
    axis = torch.linspace(-bound, bound, points, dtype=torch.float64)
    fields = torch.cartesian_prod(*[axis] * 4).reshape(-1, 2, 2)
    return fields, (axis[1] - axis[0]).item() ** 4


@pytest.mark.parametrize("name", [*COUPLINGS, "lattice-cnf"])
def test_densities_on_four_sites_integrate_to_one(name):
    model = rough(name, lattice(2, 2), scale=0.02)
    options = {"steps": 6} if name == "lattice-cnf" else {}  # more change nothing here
    x, volume = grid()
    mass = model.log_likelihood(x, **options).value.exp().sum() * volume
    assert mass.item() == pytest.approx(1, abs=0.01)


# The mixture with the mirror image.


@pytest.mark.parametrize("name", ["realnvp", "nsf-coupling", "maf", "nice", "ffjord"])
def test_a_symmetric_flow_is_the_mixture_with_its_mirror_image(name):
    options = {} if name in COUPLINGS else {"hidden": (8, 8)}
    make = {"domain": lattice(2, 2), "seed": 0} | options
    model = lk.make(name, symmetric=True, **make)
    model.prepare(Batch(torch.randn(200, 2, 2) + 1))
    assert model.view.shift.abs().max() < 1e-6
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    one_sided = lk.make(name, **make)
    one_sided.load_state_dict(model.state_dict())
    x = torch.randn(20, 2, 2)
    value = model.log_likelihood(x).value
    parts = [one_sided.log_likelihood(part).value for part in (x, -x)]
    assert not torch.allclose(*parts, atol=0.05)
    torch.testing.assert_close(value, torch.logaddexp(*parts) - math.log(2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.log_likelihood(-x).value, value, rtol=1e-5, atol=1e-5)
    draws = model.sample(4000, seed=0)
    assert draws.mean().abs() < 4 * draws.flatten(1).mean(1).std() / math.sqrt(4000)
    if name in COUPLINGS:
        y, log_prob = model.rsample_with_log_prob(20, seed=0)
        torch.testing.assert_close(model.log_prob(y), log_prob, rtol=1e-4, atol=1e-4)
        with pytest.raises(lk.DensityError, match="mixture"):
            model.pit(x)


@pytest.mark.slow
def test_a_symmetric_flow_finds_both_wells():
    target = lk.targets.double_well(barrier=6.0)
    model = lk.make(
        "nsf-coupling", target.domain, symmetric=True, transforms=2, hidden=(16,), seed=0
    )
    history = lk.fit(model, target, steps=120, batch=128, seed=0)
    assert target.log_z - history.best < 0.05
    rows = lk.load_data(target.sample(1000, 0).abs(), domain=target.domain)  # one well only
    model = lk.make("nsf", target.domain, symmetric=True, transforms=2, hidden=(16,), seed=0)
    lk.fit(model, rows, steps=120, batch=128, seed=0)
    test = target.sample(1000, 1)
    assert (target.log_prob(test) - model.log_prob(test)).mean().item() < 0.1


def test_columns_without_a_mirror_image_have_no_symmetric_flow():
    with pytest.raises(lk.DomainError, match="no mirror image"):
        lk.make("nsf", lk.table(lk.Positive(), lk.Real()), symmetric=True)
    with pytest.raises(lk.LikelyError, match="no option 'symmetric'"):  # it always is
        lk.make("lattice-cnf", lattice(4, 4), symmetric=True)


# The continuous flow.


def test_orbits_and_waves():
    assert orbits((4,)).tolist() == [0, 1, 2, 1]
    assert orbits((4, 4)).reshape(4, 4)[:3, :3].tolist() == [[0, 1, 2], [1, 3, 4], [2, 4, 5]]
    assert orbits((2, 4)).tolist() == [0, 1, 2, 1, 3, 4, 5, 4]
    for length in (1, 2, 3, 4, 7, 8):
        Q = waves(length)
        torch.testing.assert_close(Q @ Q.T, torch.eye(length, dtype=torch.float64))


def test_sines_have_the_gradients_of_plain_code():
    x, omega, A = torch.randn(3, 300), torch.rand(400), torch.randn(2, 400)  # several blocks
    inputs = [part.double().requires_grad_() for part in (x, omega, A)]
    weights = torch.randn(2, 3, 300).double(), torch.randn(400, 300).double()

    def plain(x, omega, A):
        u = omega[:, None, None] * x
        return torch.einsum("fk,ksn->fsn", A, u.sin()), u.cos().sum(1)

    results = [function(*inputs) for function in (Sines.apply, plain)]
    gradients = []
    for outputs in results:
        total = sum((w * y).sum() for w, y in zip(weights, outputs, strict=True))
        gradients.append(torch.autograd.grad(total, inputs))
    torch.testing.assert_close(*results)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("shape", [(5,), (4, 4), (3, 4), (1, 2)])
@pytest.mark.parametrize("context", [None, CONTEXT])
def test_the_divergence_is_the_trace_of_the_jacobian(shape, context):
    model = rough("lattice-cnf", lattice(*shape), context=context)
    features = None if context is None else torch.randn(3, 1, dtype=torch.float64)
    field = model.field.along(features)
    t, phi = torch.tensor(0.3, dtype=torch.float64), torch.randn(3, math.prod(shape)).double()
    jacobian = torch.autograd.functional.jacobian(lambda z: field(t, z)[0].sum(0), phi)
    torch.testing.assert_close(
        torch.einsum("ini->n", jacobian), field(t, phi)[1], rtol=1e-6, atol=1e-6
    )


def test_the_field_is_the_sum_over_sites_of_the_paper():
    model = rough("lattice-cnf", lattice(3, 4))
    field, t = model.field, torch.tensor(0.3, dtype=torch.float64)
    phi = torch.randn(3, 4, dtype=torch.float64)
    B, D = (M / math.sqrt(M.shape[1]) for M in (field.B, field.D))
    K = D @ (t * field.modes).cos()
    s = torch.einsum(
        "fk,kxy->fxy", B, torch.cat([(field.omega[:, None, None] * phi).sin(), phi[None]])
    )
    W = (field.W @ K)[:, orbits((3, 4))].reshape(-1, 3, 4)  # by displacement
    expected = torch.zeros_like(phi)
    for x in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
        for y in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
            r = (x[0] - y[0]) % 3, (x[1] - y[1]) % 4
            expected[tuple(x)] += (W[:, *r] * s[:, *y]).sum()
    rate, _ = field.along(None)(t, phi.reshape(1, -1))
    torch.testing.assert_close(rate[0], expected.flatten(), rtol=1e-5, atol=1e-5)


def test_log_determinant_and_inverse_of_the_continuous_flow():
    model = rough("lattice-cnf", lattice(2, 2))
    field, times = model.field.along(None), model._times(96)
    z = torch.randn(3, 4, dtype=torch.float64)
    x, total = runge_kutta(field, z, times)
    jacobian = torch.autograd.functional.jacobian(
        lambda z: runge_kutta(field, z, times)[0].sum(0), z
    )
    expected = torch.linalg.slogdet(jacobian.transpose(0, 1))[1]
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(runge_kutta(field, x, times[::-1])[0], z, rtol=1e-5, atol=1e-5)


def test_more_steps_bring_the_density_nearer_to_the_exact_one():
    model = rough("lattice-cnf", lattice(4, 4))
    x = model.sample(50, seed=0)
    best = model.log_likelihood(x, steps=200)
    assert str(best.kind) == "estimate"
    errors = [(model.log_likelihood(x, steps=n).value - best.value).abs().max() for n in (12, 24)]
    assert errors[1] < errors[0] / 8


def test_the_continuous_flow_has_all_symmetries_of_the_lattice():
    model = rough("lattice-cnf", lattice(4, 4)).float()
    x = model.sample(20, seed=0)
    value = model.log_likelihood(x).value
    for image in (-x, shifted(x, 1, 0), shifted(x, 3, 2), x.mT, x.flip(1), x.rot90(1, (1, 2))):
        torch.testing.assert_close(model.log_likelihood(image).value, value, rtol=1e-5, atol=1e-5)


def test_a_field_on_no_lattice_is_refused():
    for domain in (lk.reals(4), lattice(2, 2, 2), lattice(4, column=Periodic(0, 1))):
        with pytest.raises(lk.DomainError):
            lk.make("lattice-cnf", domain)


@pytest.mark.slow
def test_a_linear_flow_becomes_the_free_field():
    target = lk.targets.phi4(4, mass2=1.0, coupling=0.0)
    options = {"frequencies": 1, "features": 2, "kernels": 2, "times": 2, "steps": 8}
    model = lk.make("lattice-cnf", target.domain, seed=0, **options)
    lk.fit(model, target, steps=300, batch=64, rate=0.02, seed=0)
    x, log_q = model.rsample_with_log_prob(4000, seed=1)
    divergence = (log_q.double() - target.log_prob(x.double())).mean().item()
    assert divergence < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lattice-cnf", "nsf-coupling"])
def test_log_z_of_a_small_field_is_the_exact_one(name):
    target = lk.targets.phi4(4, 4)
    options = {"transforms": 8, "channels": 16} if name == "nsf-coupling" else {}
    model = lk.make(name, target.domain, seed=0, **options)
    lk.fit(model, target, steps=200, seed=0)
    x, log_q = sample_with_log_prob(model, 1 << 14, seed=1)
    log_z = log_mean(-(log_q + target.energy(x)).double())
    assert log_z.value == pytest.approx(2.40514, abs=3 * log_z.stderr)
    assert log_z.stderr < 0.02


def test_log_z_and_the_effective_sample_size_do_not_live_on_errors_of_the_steps():
    target = lk.targets.phi4(4, 4)
    model = lk.make("lattice-cnf", target.domain, seed=0, **SMALL["lattice-cnf"] | {"steps": 4})
    lk.fit(model, target, steps=60, batch=64, rate=0.02, seed=0)
    few = lk.reweight(model, target, 2000, seed=1)
    model.steps *= 2
    many = lk.reweight(model, target, 2000, seed=1)  # the same draws of the base
    assert few.ess > 0.3
    assert few.ess == pytest.approx(many.ess, rel=0.02)
    assert few.log_z.value == pytest.approx(many.log_z.value, abs=few.log_z.stderr / 4)
    assert many.log_z.value == pytest.approx(2.40514, abs=4 * many.log_z.stderr)


def test_a_family_of_fields_is_trained_at_once():
    target = lk.targets.phi4(2, 2, coupling=(2.0, 16.0))
    options = {"frequencies": 4, "features": 5, "kernels": 3, "times": 3, "steps": 4}
    model = lk.make("lattice-cnf", target.domain, context=target.context, seed=0, **options)
    lk.fit(model, target, steps=20, batch=64, rate=0.02, seed=0)
    narrow, wide = (model.sample(2000, context={"coupling": c}, seed=0).std() for c in (16.0, 2.0))
    assert narrow < wide
