"""Penalties on the critic's gradient with respect to what it sees.

Both are differentiable in the critic's parameters, one number for each row, and count the standardised
columns of a view as coordinates.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Critic = Callable[[Float[Tensor, "n features"]], Float[Tensor, " n"]]


def squared_gradient(critic: Critic, u: Float[Tensor, "n features"]) -> Float[Tensor, " n"]:
    """‖∇f(u)‖² of each row; averaged over real rows it is 2/γ times the penalty R₁.

    Mescheder, Geiger & Nowozin 2018, arXiv:1801.04406, eq. 9.
    """
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(u).sum(), u, create_graph=True)
        return gradient.square().sum(1)


def distance_from_unit_slope(
    critic: Critic, real: Float[Tensor, "n features"], fake: Float[Tensor, "n features"]
) -> Float[Tensor, " n"]:
    """(‖∇f(û)‖ − 1)² at a random point û of the line between each real and fake row.

    Gulrajani et al. 2017, arXiv:1704.00028, eq. 3 and algorithm 1.
    """
    part = torch.rand(len(real), 1, dtype=real.dtype, device=real.device)
    square = squared_gradient(critic, part * real + (1 - part) * fake)
    # The root of zero has no slope.
    return (square.clamp_min(torch.finfo(square.dtype).tiny).sqrt() - 1).square()
