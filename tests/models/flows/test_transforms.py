"""Autoregressive and coupling transforms: inverse, Jacobian, contexts, cost of sampling."""

import math

import pytest
import torch

import likely as lk
from likely.contract.training import Batch
from likely.models.flows.linear import LU

DOMAIN = lk.table(
    a=lk.Real(), b=lk.Periodic(-math.pi, math.pi), c=lk.Interval(0, 1), d=lk.Periodic(0, 1)
)


def rows(n):
    u = torch.rand(n, 4, dtype=torch.float64)
    return torch.stack([u[:, 0].logit(), (2 * u[:, 1] - 1) * math.pi, u[:, 2], u[:, 3]], 1)


def rough(name, domain, **options):
    """A model whose networks are far from the identity."""
    model = lk.make(name, domain, hidden=(24, 24), **options).double()
    with torch.no_grad():
        for parameter in model.transforms.parameters():
            parameter.mul_(3)
    return model


@pytest.mark.parametrize("name", ["nsf", "nsf-coupling"])
@pytest.mark.parametrize("context", [None, lk.table(lk.Categorical(3))])
def test_jacobian_and_inverse_of_each_layer(name, context):
    model = rough(name, DOMAIN, context=context, transforms=3)
    x = rows(20)
    c = None if context is None else torch.randint(0, 3, (20, 1))
    model.prepare(Batch(x, c))
    features = None if context is None else model.context_features(c)
    z, _ = model.view(x)
    for layer in model.transforms:
        y, log_det = layer(z, features)
        for i in range(3):
            ci = None if features is None else features[i : i + 1]
            jacobian = torch.autograd.functional.jacobian(
                lambda row, ci=ci, layer=layer: layer(row[None], ci)[0][0], z[i]
            )
            torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], log_det[i])
        torch.testing.assert_close(layer.inverse(y, features), z, rtol=1e-7, atol=1e-9)
        z = y.detach()


@pytest.mark.parametrize("name", ["nsf", "nsf-coupling"])
def test_density_is_continuous_across_the_seam(name):
    model = rough(name, DOMAIN)
    x = rows(2)
    x[1] = x[0]
    x[:, 1] = torch.tensor([-math.pi, math.pi])
    a, b = model.log_prob(x)
    torch.testing.assert_close(a, b)
    x[:, 1], x[:, 3] = 0.5, torch.tensor([0.0, 1.0])
    a, b = model.log_prob(x)
    torch.testing.assert_close(a, b)


def test_sampling_costs_one_pass_not_one_for_each_entry():
    # Multiplications of the incremental pass: at most those of one pass with full matrices.
    dim, rows_drawn = 32, 8
    model = lk.make("nsf", lk.reals(dim), transforms=1, hidden=(64, 64))
    counted = 0
    addmm_ = torch.Tensor.addmm_

    def counting(sums, a, b, **options):
        nonlocal counted
        counted += a.shape[0] * a.shape[1] * b.shape[1]
        return addmm_(sums, a, b, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "addmm_", counting)
        model.sample(rows_drawn, seed=0)
    full = rows_drawn * sum(layer.weight.numel() for layer in model.transforms[0].net.layers)
    assert 0.3 * full < counted <= full


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("name", ["nsf", "nsf-coupling"])
def test_any_number_of_columns(name, dim):
    model = rough(name, lk.reals(dim))
    x = model.sample(50, seed=1)
    z, _ = model.view(x)
    u = z
    for layer in model.transforms:
        u, _ = layer(u, None)
    back = u
    for layer in reversed(model.transforms):
        back = layer.inverse(back, None)
    torch.testing.assert_close(back, z, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", ["maf", "iaf", "nsf", "nsf-coupling", "nice", "realnvp"])
def test_linear_maps_between_the_layers(name, tmp_path):
    """They start at the identity, mix all columns, invert, and add their log-determinant."""
    domain = lk.reals(4)
    plain, model = (
        lk.make(name, domain, transforms=3, hidden=(8,), seed=0, linear=linear).double()
        for linear in (None, "lu")
    )
    maps = [module for module in model.modules() if isinstance(module, LU)]
    assert len(maps) == 2
    x = 3 * torch.randn(4, 4, dtype=torch.float64)
    torch.testing.assert_close(model.log_prob(x), plain.log_prob(x))
    with torch.no_grad():
        for parameter in model.transforms.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    y, log_det = model._transformed(x, None)
    assert all(layer.matrix.abs().gt(1e-4).all() for layer in maps)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: model._transformed(x, None)[0].sum(0), x
    )
    expected = torch.linalg.slogdet(jacobian.transpose(0, 1))[1]
    torch.testing.assert_close(log_det, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(model._inverted(y, None), x, rtol=1e-8, atol=1e-8)
    lk.save(model, tmp_path / "model.safetensors")
    loaded = lk.load(tmp_path / "model.safetensors")
    assert torch.equal(loaded.log_prob(x), model.log_prob(x))


def test_where_linear_maps_make_no_sense():
    with pytest.raises(lk.LikelyError, match="angles"):
        lk.make("nsf", DOMAIN, linear="lu")
    for name, layout in [("realnvp", "image"), ("realnvp", "lattice"), ("nsf-coupling", "lattice")]:
        with pytest.raises(lk.LikelyError, match="mixes all columns"):
            lk.make(name, lk.reals(4, 4, layout=layout), linear="lu")
