"""MAF and IAF: the same layers in two directions, and derivatives of a solved layer."""

import math

import pytest
import torch

import likely as lk
from likely.contract.training import Batch
from likely.models.flows.spline import RationalQuadraticSpline
from likely.models.flows.transforms import Autoregressive
from likely.nets.masked import MaskedMLP

CONTEXT = lk.table(lk.Real())


def pair(dim=4, context=None):
    """A MAF and an IAF with the same weights, far from the identity."""
    options = {"context": context, "transforms": 3, "hidden": (16, 16), "seed": 0}
    maf, iaf = (lk.make(name, lk.reals(dim), **options).double() for name in ("maf", "iaf"))
    with torch.no_grad():
        for ours, theirs in zip(
            maf.transforms.parameters(), iaf.transforms.parameters(), strict=True
        ):
            ours.mul_(3)
            theirs.copy_(ours)
    return maf, iaf


def test_the_inverse_flow_is_the_masked_one_backwards():
    maf, iaf = pair()
    u = torch.randn(50, 4, dtype=torch.float64)
    x, log_det = u, 0
    for transform in reversed(maf.transforms):
        x, term = transform(x, None)
        log_det = log_det + term
    normal = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(iaf.log_prob(x), normal.log_prob(u).sum(1) - log_det)
    # Sampling takes one pass each, as the density of the other does.
    z = u
    for transform in reversed(iaf.transforms):
        z = transform.inverse(z, None)
    torch.testing.assert_close(z, x)


def test_which_direction_takes_one_pass(monkeypatch):
    solved = []
    incremental = MaskedMLP.incremental
    monkeypatch.setattr(
        MaskedMLP, "incremental", lambda *args: solved.append(args) or incremental(*args)
    )
    maf, iaf = pair()
    x = torch.randn(3, 4, dtype=torch.float64)
    for one_pass in (lambda: maf.log_prob(x), lambda: iaf.sample(3)):
        one_pass()
        assert not solved
    for entry_by_entry in (lambda: iaf.log_prob(x), lambda: maf.sample(3)):
        entry_by_entry()
        assert len(solved) == 3
        solved.clear()
    constraints = lk.models()["constraint"]
    assert "sampled entry by entry" in constraints["maf"]
    assert "density entry by entry" in constraints["iaf"]


def test_gradients_of_the_inverse_flow_by_finite_differences():
    _, iaf = pair(context=CONTEXT)
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    c = torch.randn(6, 1, dtype=torch.float64, requires_grad=True)
    iaf.prepare(Batch(x.detach(), c.detach()))
    weight = torch.randn(6, dtype=torch.float64)
    inputs = [x, c, *iaf.parameters()]
    gradients = torch.autograd.grad((weight * iaf.log_prob(x, c)).sum(), inputs)
    for tensor, gradient in zip(inputs, gradients, strict=True):
        direction = torch.randn_like(tensor)
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                tensor.add_(step * direction)
                values.append((weight * iaf.log_prob(x, c)).sum())
                tensor.sub_(step * direction)
        slope = (values[0] - values[1]) / 2e-6
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-6, atol=1e-6)


def test_training_loss_and_its_gradients_agree_with_a_dense_jacobian():
    # The density of x written with J: the solved layers only tell where.
    _, iaf = pair()
    x = torch.randn(3, 4, dtype=torch.float64)
    parameters = list(iaf.transforms.parameters())
    gradients = torch.autograd.grad(iaf.log_prob(x).sum(), parameters)
    with torch.no_grad():
        u = x
        for transform in iaf.transforms:
            u = transform.transform.inverse(u, None)

    def forwards(row):
        for transform in reversed(iaf.transforms):
            row = transform.inverse(row[None], None)[0]
        return row

    expected = [torch.zeros_like(p) for p in parameters]
    for row in u:
        jacobian = torch.autograd.functional.jacobian(forwards, row)
        leaf = row.clone().requires_grad_()
        log_det = torch.linalg.slogdet(
            torch.autograd.functional.jacobian(forwards, leaf, create_graph=True)
        )[1]
        score = -leaf.detach() - torch.autograd.grad(log_det, leaf, retain_graph=True)[0]
        adjoint = torch.linalg.solve(jacobian.T, score)
        value = -log_det - adjoint @ forwards(row)
        parts = torch.autograd.grad(value, parameters, allow_unused=True)
        for total, part in zip(expected, parts, strict=True):
            if part is not None:
                total.add_(part)
    torch.testing.assert_close(gradients, tuple(expected), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_derivatives_of_a_solved_layer_of_splines_on_lines_and_circles(dtype):
    torch.manual_seed(0)
    periodic = torch.tensor([False, True] * 6)
    layer = Autoregressive(RationalQuadraticSpline(periodic), range(12), (48, 48), 2).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(4)
    x = ((2 * torch.rand(12, dtype=dtype) - 1) * math.pi)[None]
    c = torch.randn(1, 2, dtype=dtype)
    y = layer(x, c)[0].detach()
    forwards = torch.autograd.functional.jacobian(lambda x, c: layer(x, c)[0][0], (x, c))
    backwards = torch.autograd.functional.jacobian(lambda y, c: layer.inverse(y, c)[0], (y, c))
    inverse = torch.linalg.inv(forwards[0][:, 0])
    tolerance = 2e-3 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(backwards[0][:, 0], inverse, rtol=tolerance, atol=tolerance)
    expected = -inverse @ forwards[1][:, 0]
    torch.testing.assert_close(backwards[1][:, 0], expected, rtol=tolerance, atol=tolerance)


def test_second_derivatives_are_refused():
    _, iaf = pair()
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    with pytest.raises(lk.LikelyError, match="second derivatives"):
        torch.autograd.grad(iaf.log_prob(x).sum(), x, create_graph=True)
