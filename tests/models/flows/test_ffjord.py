"""FFJORD: the divergence in closed form, the density against the Jacobian of the flow, linear fields."""

import math

import pytest
import torch
from torch.func import jacrev, vmap

import likely as lk
from likely.contract.training import Batch
from likely.contract.views import LOG_TWO_PI
from likely.core.likelihood import Kind
from likely.targets import eight_gaussians, gaussian_mixture

CONTEXT = lk.table(kind=lk.Categorical(2), size=lk.Real())


def wild(dim, context=None, **options):
    """A model in float64 whose field is far from its start, and features of a context for five rows."""
    model = lk.make("ffjord", lk.reals(dim), context=context, hidden=(7, 9), seed=0, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    features = None
    if context is not None:
        rows = torch.stack([torch.arange(5) % 2, torch.randn(5)], 1)
        model.context_features.prepare(rows)
        features = model.double().context_features(rows.double())
    return model.double().eval(), features


@pytest.mark.parametrize("dim", [1, 2, 6])
@pytest.mark.parametrize("context", [None, CONTEXT])
def test_the_divergence_is_the_trace_of_the_jacobian(dim, context):
    model, features = wild(dim, context)
    z, t = torch.randn(5, dim, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    f, divergence = model.field.along(features)(t, z)

    def one(row, feature=None):
        feature = None if feature is None else feature[None]
        return model.field.along(feature)(t, row[None])[0][0]

    arguments = (z,) if features is None else (z, features)
    jacobian = vmap(jacrev(one))(*arguments)
    torch.testing.assert_close(vmap(one)(*arguments), f)
    torch.testing.assert_close(jacobian.diagonal(dim1=1, dim2=2).sum(1), divergence)


def runge_kutta(field, z, steps=200):
    for i in range(steps):
        t = torch.tensor(i / steps, dtype=torch.float64)
        a = field(t, z)
        b = field(t + 0.5 / steps, z + a / steps / 2)
        c = field(t + 0.5 / steps, z + b / steps / 2)
        d = field(t + 1 / steps, z + c / steps)
        z = z + (a + 2 * b + 2 * c + d) / steps / 6
    return z


@pytest.mark.parametrize("dim", [1, 3])
def test_log_density_against_the_jacobian_of_the_flow(dim):
    model, _ = wild(dim)
    field = model.field.along(None)

    def moved(row):
        return runge_kutta(lambda t, z: field(t, z)[0], row[None])[0]

    for row in torch.randn(2, dim, dtype=torch.float64):
        u, jacobian = moved(row), torch.autograd.functional.jacobian(moved, row)
        expected = torch.linalg.slogdet(jacobian)[1] - (u.square() + LOG_TWO_PI).sum() / 2
        value = model.log_likelihood(row[None], tolerance=1e-11).value[0]
        torch.testing.assert_close(value, expected, rtol=1e-7, atol=1e-7)


def test_training_follows_the_same_density():
    # Many short steps agree with the adaptive solver; λ adds the mean square of the field.
    x = torch.randn(6, 2, dtype=torch.float64)
    model, _ = wild(2, steps=100, kinetic=0.0)
    value = model.log_likelihood(x, tolerance=1e-10).value
    torch.testing.assert_close(-model.loss(Batch(x)), value, rtol=1e-7, atol=1e-7)
    with torch.no_grad():
        model.field.last.weight.zero_()
        model.field.last.bias.copy_(torch.tensor([0.6, -0.8]))  # a drift at speed 1: λ/d more
    plain = model.loss(Batch(x))
    model.kinetic = 0.5
    torch.testing.assert_close(
        model.loss(Batch(x)) - plain, torch.full((6,), 0.25, dtype=torch.float64)
    )


def test_gradients_against_finite_differences():
    model, _ = wild(2, steps=2, kinetic=0.1)
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)

    def loss(x, *parameters):
        torch.manual_seed(0)  # of where the steps meet
        names = [name for name, _ in model.named_parameters()]
        return torch.func.functional_call(
            model, dict(zip(names, parameters, strict=True)), (Batch(x),)
        )

    model.forward = model.loss
    assert torch.autograd.gradcheck(loss, (x, *model.parameters()))


def test_a_nearly_linear_field():
    # With tanh in its linear part dz/dt = g z: from N(0, 1) at t = 1 back to N(0, e^(−2g)).
    model = lk.make("ffjord", lk.reals(1), hidden=(1, 1)).double()
    small, g = 1e-4, 0.7
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.field.first.weight[0, 0] = small
        model.field.second.weight[0, 0] = 1.0
        model.field.last.weight[0, 0] = g / small
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    expected = torch.distributions.Normal(0.0, math.exp(-g)).log_prob(x[:, 0])
    torch.testing.assert_close(
        model.log_likelihood(x, tolerance=1e-9).value, expected, rtol=1e-6, atol=1e-6
    )
    draws = model.sample(20_000, seed=0)
    # The standard error of a standard deviation is σ/√2n; four of them.
    assert abs(draws.std().item() / math.exp(-g) - 1) < 4 / math.sqrt(2 * len(draws))


def trained(truth, rows, updates, **options):
    """A model of draws, and KL(truth‖model) in nats with its standard error, from 4,000 fresh ones."""
    data = lk.load_data(truth.sample(rows, 0))
    model = lk.make("ffjord", data.domain, seed=0, **options)
    lk.fit(model, data, steps=updates, seed=0)
    x = truth.sample(4000, 1)
    gap = truth.log_prob(x) - model.log_likelihood(x).value
    return model, gap.mean().item(), gap.std().item() / math.sqrt(len(gap))


@pytest.mark.slow
def test_a_short_training_in_the_plane():
    truth = gaussian_mixture(
        [0.3, 0.7], [[-2.0, 0.5], [1.5, -0.5]], [(0.3 * torch.eye(2)).tolist()] * 2
    )
    model, divergence, error = trained(truth, 4000, 150, hidden=(64, 64), steps=3)
    assert model.density == Kind.ESTIMATE
    assert -3 * error < divergence < 0.06
    side = torch.linspace(-8, 8, 101)
    density = model.log_likelihood(torch.cartesian_prod(side, side), tolerance=1e-3).value.exp()
    assert density.sum().item() * 0.16**2 == pytest.approx(1, abs=0.01)


@pytest.mark.slow
def test_eight_gaussians():
    _, divergence, error = trained(eight_gaussians(), 16_000, 800)
    print(f"KL {divergence:.4f} ± {error:.4f}")
    assert -3 * error < divergence < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": (8,)}, "whole numbers above 0, 2 of them"),
        ({"hidden": (8, 0)}, "whole numbers above 0, 2 of them"),
        ({"steps": 0}, "steps=0: give a whole number"),
        ({"kinetic": -1.0}, "0 or more"),
        ({"tolerance": 0.0}, "tolerance=0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(lk.LikelyError, match=message):
        lk.flows.FFJORD(lk.reals(2), **options)


def test_options_of_a_likelihood_out_of_range():
    model = lk.make("ffjord", lk.reals(2))
    x = torch.zeros(1, 2)
    with pytest.raises(lk.LikelyError, match="draws=0: give a whole number above 0"):
        model.log_likelihood(x, draws=0)
    with pytest.raises(lk.LikelyError, match="tolerance=2"):
        model.log_likelihood(x, tolerance=2)
    with pytest.raises(lk.DensityError, match="use log_likelihood"):
        model.log_prob(x)
    with pytest.raises(lk.DomainError, match="periodic"):
        lk.make("ffjord", lk.table(phi=lk.Periodic(0, 1)))
