"""Planar, radial and Sylvester maps against autograd's Jacobian, their inverses and quadrature."""

import math

import pytest
import torch

from likely.nets.planar import (
    orthonormal,
    planar,
    planar_inverse,
    radial,
    radial_inverse,
    sylvester,
    sylvester_inverse,
    triangular,
)

N, DIM, COLUMNS = 40, 5, 3


def parameters(kind, scale, dim=DIM, n=N):
    """Parameters of each row, or of all of them (n = None)."""
    rows = () if n is None else (n,)

    def random(*shape):
        return scale * torch.randn((*rows, *shape), dtype=torch.float64)

    if kind == "planar":
        return random(dim), random(dim), random()
    if kind == "radial":
        return random(dim), random(), random()
    columns = min(COLUMNS, dim)
    triangles = (triangular(random(columns * (columns + 1) // 2), columns) for _ in range(2))
    return orthonormal(random(columns, dim)), *triangles, random(columns)


MAPS = {
    "planar": (planar, planar_inverse),
    "radial": (radial, radial_inverse),
    "sylvester": (sylvester, sylvester_inverse),
}


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("scale", [0.1, 1, 10, 100])
def test_maps_invert_and_know_their_jacobian(kind, scale):
    forward, inverse = MAPS[kind]
    given = parameters(kind, min(scale, 10))
    z = scale * torch.randn(N, DIM, dtype=torch.float64)
    y, log_det = forward(z, *given)
    jacobian = torch.autograd.functional.jacobian(lambda z: forward(z, *given)[0].sum(0), z)
    expected = torch.linalg.slogdet(jacobian.transpose(0, 1))
    assert (expected[0] > 0).all()
    torch.testing.assert_close(log_det, expected[1], rtol=1e-8, atol=1e-8)
    # An error of the last bit grows by the steepest slope of the inverse, at most 1/LEAST or so.
    torch.testing.assert_close(inverse(y, *given), z, rtol=1e-9, atol=1e-9 * scale)
    draws = torch.stack([z, -z])  # several draws with the parameters of their row
    torch.testing.assert_close(forward(draws, *given)[0][0], y)
    torch.testing.assert_close(
        inverse(forward(draws, *given)[0], *given), draws, rtol=1e-8, atol=1e-8 * scale
    )


@pytest.mark.parametrize("kind", MAPS)
def test_inverses_have_derivatives(kind):
    _, inverse = MAPS[kind]
    given = [p.requires_grad_() for p in parameters(kind, 1.0, dim=2, n=2)]
    leaves = [torch.randn(2, 2, dtype=torch.float64, requires_grad=True), *given]
    if kind == "sylvester":  # gradcheck would leave the triangles and the frame
        frame, r, r_tilde, b = given
        leaves = [leaves[0], b]
        assert torch.autograd.gradcheck(
            lambda y, b: inverse(y, frame.detach(), r.detach(), r_tilde.detach(), b), leaves
        )
    else:
        assert torch.autograd.gradcheck(inverse, leaves)


@pytest.mark.parametrize("kind", MAPS)
def test_densities_integrate_to_one(kind):
    """The density of y where z is normal, by the inverse and its Jacobian on a grid."""
    forward, inverse = MAPS[kind]
    given = parameters(kind, 1.0, dim=2, n=None)
    edge = torch.linspace(-12, 12, 801, dtype=torch.float64)
    y = torch.cartesian_prod(edge, edge)
    z = inverse(y, *given)
    log_p = -z.square().sum(1) / 2 - math.log(2 * math.pi) - forward(z, *given)[1]
    mass = log_p.exp().sum().item() * (24 / 800) ** 2
    assert mass == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_planar_map_stays_invertible_however_u_opposes_w(dtype):
    w = 3 * torch.randn(N, DIM, dtype=dtype)
    z, b = torch.randn(N, DIM, dtype=dtype), torch.zeros(N, dtype=dtype)
    z -= (z * w).sum(1, keepdim=True) / w.square().sum(1, keepdim=True) * w  # at the steepest point
    y, log_det = planar(z, -10 * w, w, b)
    assert log_det.isfinite().all()
    tolerance = 2e-2 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(planar_inverse(y, -10 * w, w, b), z, rtol=tolerance, atol=tolerance)
    for value in planar(z, -10 * w, 0 * w, b):  # nothing to divide by
        assert value.isfinite().all()


def test_a_sylvester_map_of_one_column_is_planar():
    direction = torch.randn(N, DIM, dtype=torch.float64)
    q = orthonormal(direction[:, None])
    z, b = torch.randn(N, DIM, dtype=torch.float64), torch.randn(N, 1, dtype=torch.float64)
    r, r_tilde = torch.rand(2, N, 1, 1, dtype=torch.float64) + 0.1
    w = (q @ r)[..., 0]
    # û = Q r̃ is what the planar map makes of this u along w.
    product = (r * r_tilde)[:, 0, 0]
    least = 1e-3
    raw = (product + 1 - least).expm1().log() - math.log(math.expm1(1 - least))
    u = raw[:, None] * w / w.square().sum(1, keepdim=True)
    for found, expected in zip(
        sylvester(z, q, r, r_tilde, b), planar(z, u, w, b[:, 0]), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_frames_are_orthonormal():
    for v in (
        torch.randn(N, COLUMNS, DIM),
        1e-3 * torch.randn(N, DIM, DIM),
        torch.zeros(1, 2, DIM),
    ):
        q = orthonormal(v)
        one = torch.eye(v.shape[1]).expand(len(v), -1, -1)
        torch.testing.assert_close(q.mT @ q, one, rtol=0, atol=1e-6)
