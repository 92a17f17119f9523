"""The gauge-equivariant flow: Jacobian, symmetries, and what training on an action makes of it."""

import math

import pytest
import torch

import likely as lk
from likely.core.random import seeded
from likely.targets import gauge_transform

LINKS = lk.targets.u1(4).domain
CONTEXT = lk.table(beta=lk.Interval(1, 3))


def rough(domain=LINKS, **options):
    """A small flow in float64, away from the identity."""
    options = {"transforms": 8, "channels": 4, "bins": 4} | options
    model = lk.make("lattice-u1", domain, seed=0, **options).double()
    with torch.no_grad(), seeded(1):
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def uniform(n, *shape):
    with seeded(2):
        return (2 * torch.rand(n, 2, *shape, dtype=torch.float64) - 1) * math.pi


@pytest.mark.parametrize("context", [None, CONTEXT])
def test_each_layer_is_a_bijection_with_the_right_jacobian(context):
    model = rough(context=context)
    features = None if context is None else torch.randn(2, 1, dtype=torch.float64)
    z = uniform(2, 4, 4).flatten(1)
    still = torch.ones(32, dtype=torch.bool)
    for layer in model.transforms:
        y, log_det = layer(z, features)
        jacobian = torch.autograd.functional.jacobian(
            lambda z, f=layer, c=features: f(z, c)[0].sum(0), z
        )
        expected = torch.linalg.slogdet(jacobian.transpose(0, 1))[1]
        torch.testing.assert_close(log_det, expected, rtol=1e-8, atol=1e-8)
        back, log_det_back = layer.inverse_with_log_det(y, features)
        torch.testing.assert_close(log_det_back, -log_det, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close((back - z).sin(), torch.zeros_like(z), rtol=0, atol=1e-8)
        still &= (y == z).all(0)
        z = y.detach()
    assert not still.any()  # eight layers move every link


def test_density_is_that_of_the_whole_map():
    model = rough()
    z = uniform(2, 4, 4).flatten(1)

    def to_base(x):
        for layer in model.transforms:
            x = layer(x, None)[0]
        return x

    for row in z:
        jacobian = torch.autograd.functional.jacobian(lambda x: to_base(x[None])[0], row)
        expected = torch.linalg.slogdet(jacobian)[1] - 32 * math.log(2 * math.pi)
        value = model.log_prob(row.view(1, 2, 4, 4))[0]
        torch.testing.assert_close(value, expected, rtol=1e-8, atol=1e-8)
    x, log_prob = model.rsample_with_log_prob(20, seed=0)
    torch.testing.assert_close(model.log_prob(x), log_prob)


@pytest.mark.parametrize("shape", [(4, 4), (8, 4), (4, 12)])
def test_gauge_transformations_and_shifts_by_the_period_leave_the_density(shape):
    model = rough(lk.targets.u1(*shape).domain, transforms=16)
    x = uniform(6, *shape)
    value = model.log_prob(x)
    assert value.std() > 0.1
    images = [gauge_transform(x, uniform(6, *shape)[:, 0])]
    images += [x.roll((i, j), (2, 3)) for i, j in ((4, 0), (0, 4), (4, 8))]
    for image in images:
        torch.testing.assert_close(model.log_prob(image), value, rtol=1e-5, atol=1e-5)
    one_off = model.log_prob(x.roll(1, 2))
    assert not torch.allclose(one_off, value, atol=0.01)


def test_the_network_sees_no_plaquette_that_its_layer_moves():
    model = rough(lk.targets.u1(8).domain)
    x = uniform(4, 8, 8)
    for layer in model.transforms:
        theta = x.flatten(1).T
        turned = theta.clone()
        turned[layer.active[0]] += 1
        parameters = [layer._plaquettes(links, None)[1] for links in (theta, turned)]
        torch.testing.assert_close(*parameters, rtol=0, atol=1e-12)


def test_angles_on_another_circle_have_the_same_symmetry():
    model = rough(lk.Domain((2, 4, 4), (lk.Periodic(0, 2 * math.pi),), layout="lattice"))
    x = uniform(5, 4, 4)
    value = model.log_prob(x.remainder(2 * math.pi))
    image = gauge_transform(x, uniform(5, 4, 4)[:, 0]).remainder(2 * math.pi)
    torch.testing.assert_close(model.log_prob(image), value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "domain",
    [
        lk.targets.u1(6).domain,
        lk.targets.phi4(4, 4).domain,
        lk.Domain((2, 4, 4), (lk.Periodic(-math.pi, math.pi),)),
        lk.Domain((2, 4, 4), (lk.Real(),), layout="lattice"),
    ],
    ids=["length 6", "field", "vector", "real links"],
)
def test_other_domains_are_refused(domain):
    with pytest.raises(lk.DomainError, match="LatticeU1 does not take"):
        lk.make("lattice-u1", domain)


@pytest.mark.parametrize(
    "gradient", ["path", pytest.param("reparametrised", marks=pytest.mark.slow)]
)
def test_a_short_training_raises_the_effective_sample_size(gradient):
    target = lk.targets.u1(4, beta=2.0)
    model = lk.make("lattice-u1", target.domain, transforms=8, channels=4, bins=4, seed=0)
    before = lk.reweight(model, target, 4096, seed=1).ess
    lk.fit(model, target, steps=40, batch=64, rate=0.02, gradient=gradient, seed=0)
    after = lk.reweight(model, target, 4096, seed=1)
    assert before < 0.01
    assert after.ess > 0.05
    assert after.log_z.value == pytest.approx(target.log_z, abs=4 * after.log_z.stderr)
    charge2 = after.expect(lambda x: lk.targets.topological_charge(x).square())
    assert charge2.value == pytest.approx(target.observables["charge2"], abs=4 * charge2.stderr)
