"""Planar, radial and Sylvester flows: whole models against autograd, round trips, exact sums."""

import math

import pytest
import torch

import likely as lk
from likely.contract.training import Batch

NAMES = pytest.mark.parametrize("name", ["planar", "radial", "sylvester"])
CLASSES = lk.table(lk.Categorical(2))


def flow(name, dim, spread=0.2, **options):
    """A model with weights away from their start."""
    model = lk.make(name, lk.reals(dim), transforms=4, seed=0, **options).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(spread * noise)
    return model


@NAMES
@pytest.mark.parametrize("context", [None, CLASSES], ids=["", "classes"])
@pytest.mark.parametrize("scale", [0.1, 1, 10, 100])
def test_whole_models_invert_and_know_their_jacobian(name, context, scale):
    model = flow(name, 4, context=context)
    z = scale * torch.randn(6, 4, dtype=torch.float64)
    c = None if context is None else model.context_features(torch.tensor([[0], [1]] * 3))
    y, log_det = model._transformed(z, c)
    jacobian = torch.autograd.functional.jacobian(lambda z: model._transformed(z, c)[0].sum(0), z)
    expected = torch.linalg.slogdet(jacobian.transpose(0, 1))[1]
    torch.testing.assert_close(log_det, expected, rtol=1e-10, atol=1e-10)
    back = y
    for transform in reversed(model.transforms):
        back = transform.inverse(back, c)
    torch.testing.assert_close(back, z, rtol=1e-10, atol=1e-10)


@NAMES
def test_draws_come_with_their_density(name):
    model = flow(name, 3, context=CLASSES)
    context = torch.tensor([[0], [1]] * 50)
    x, log_prob = model.rsample_with_log_prob(100, context=context, seed=0)
    expected = model.log_prob(x.detach(), context)
    torch.testing.assert_close(log_prob, expected, rtol=1e-10, atol=1e-10)


@NAMES
def test_maps_at_the_edge_of_what_can_be_inverted(name):
    model = flow(name, 3)
    with torch.no_grad():
        for layer in model.transforms:
            layer.start.mul_(3)
            if name == "planar":
                u, w, b = layer.start.split([3, 3, 1])
                u.copy_(-10 * w)
                b.zero_()
            elif name == "radial":
                layer.start[-1] = -50  # all but contracted to the centre
            else:  # the products of two diagonals are as near to −1 as they get
                _, r, r_tilde, b = layer.start.split([9, 6, 6, 3])
                diagonal = [0, 3, 5]
                r[diagonal], r_tilde[diagonal] = 50, -50
                b.zero_()
    for layer in model.transforms:
        z = torch.cat([1e-3 * torch.randn(20, 3), 3 * torch.randn(20, 3)]).double()
        z.requires_grad_()
        y, log_det = layer(z, None)
        assert log_det.isfinite().all()
        assert torch.autograd.grad(log_det.sum(), z)[0].isfinite().all()
        # Slopes of the inverse are up to 1/LEAST, and of a Sylvester map a product of three.
        tolerance = 1e-6 if name == "sylvester" else 1e-10
        torch.testing.assert_close(layer.inverse(y, None), z, rtol=tolerance, atol=tolerance)


@NAMES
@pytest.mark.parametrize("dim", [1, 2])
def test_densities_integrate_to_one(name, dim):
    model = flow(name, dim)
    model.prepare(Batch(torch.randn(500, dim, dtype=torch.float64)))
    points = 4001 if dim == 1 else 501
    edge = torch.linspace(-15, 15, points, dtype=torch.float64)
    x = edge[:, None] if dim == 1 else torch.cartesian_prod(edge, edge)
    with torch.no_grad():
        mass = model.log_prob(x).exp().sum().item() * (30 / (points - 1)) ** dim
    assert mass == pytest.approx(1, abs=2e-4)


@NAMES
def test_training_on_an_energy(name):
    # A normal distribution with correlations, in which each map has to act along the diagonal.
    precision = torch.tensor([[1.5, 0.9], [0.9, 1.5]], dtype=torch.float64)
    log_z = math.log(2 * math.pi) - precision.logdet().item() / 2
    target = lk.Target(
        lk.reals(2), energy=lambda x: (x.double() @ precision * x.double()).sum(1) / 2
    )
    model = lk.make(name, target.domain, transforms=3, seed=0)
    history = lk.fit(model, target, steps=40, rate=0.03, batch=128, seed=0)
    above = history.rows[-1]["free_energy"] + log_z
    # At first, of a standard normal distribution, it is 0.318; radial maps know no directions.
    assert -0.01 < above < (0.3 if name == "radial" else 0.08)


def test_a_map_has_no_more_directions_than_columns():
    model = lk.make("sylvester", lk.reals(3), directions=5)
    assert len(model.transforms[0].parameters_of(None)[-1]) == 3
