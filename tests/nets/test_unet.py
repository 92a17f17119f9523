"""Networks that see a noise level: shapes, rows that do not see one another, levels and contexts."""

import pytest
import torch

from likely.nets.noise import NoiseMLP
from likely.nets.unet import UNet

NETWORKS = [
    lambda context: NoiseMLP(15, (16, 16, 8), context),
    lambda context: UNet((1, 3, 5), (8, 16), context),  # edges that cannot be halved evenly
    lambda context: UNet((3, 1, 5), (4, 6, 8), context),
    lambda context: UNet((2, 17, 19), (8, 12), context),  # in patches of 2 × 2, with a margin
    lambda context: UNet((1, 8, 8), (4,), context),
]
WIDTHS = [15, 15, 15, 646, 64]


@pytest.fixture(params=range(len(NETWORKS)))
def case(request):
    """A network away from its start, and rows, levels and contexts for it."""
    network = NETWORKS[request.param](3).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    z = torch.randn(4, WIDTHS[request.param], dtype=torch.float64)
    t, context = torch.rand(4).double(), torch.randn(4, 3).double()
    return network, z, t, context


@pytest.mark.parametrize(("make", "width"), [*zip(NETWORKS, WIDTHS, strict=True)])
def test_starts_at_zero(make, width):
    assert (make(0)(torch.randn(2, width), torch.rand(2)) == 0).all()


def test_a_row_alone_is_the_row_in_a_batch(case):
    network, z, t, context = case
    together = network(z, t, context)
    assert together.shape == z.shape
    alone = torch.cat([network(z[i, None], t[i, None], context[i, None]) for i in range(4)])
    torch.testing.assert_close(alone, together)


def test_one_level_serves_all_rows(case):
    network, z, t, context = case
    expected = network(z, t[:1].expand(4), context)
    torch.testing.assert_close(network(z, t[:1], context), expected)


def test_outputs_depend_on_level_context_and_every_parameter(case):
    network, z, t, context = case
    y = network(z, t, context)
    assert (y != network(z, t + 0.1, context)).all()
    assert (y != network(z, t, context + 0.1)).all()
    gradients = torch.autograd.grad((y * torch.randn_like(y)).sum(), list(network.parameters()))
    assert all((g != 0).any() for g in gradients)


def test_every_pixel_sees_every_pixel():
    network = UNet((1, 9, 9), (8, 16, 16)).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    t = torch.rand(1).double()
    jacobian = torch.autograd.functional.jacobian(
        lambda z: network(z[None], t)[0], torch.randn(81, dtype=torch.float64)
    )
    assert (jacobian != 0).all()
