"""Penalties: on the critic's gradient with respect to what it sees, and on a generator's matrices.

The first two are differentiable in the critic's parameters, one number for each row, and count the
standardised columns of a view as coordinates.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Seen = Float[Tensor, "n features"]  # by the critic
Critic = Callable[[Seen], Float[Tensor, " n"]]


@torch.enable_grad()
def squared_gradient(critic: Critic, u: Seen) -> Float[Tensor, " n"]:
    """‖∇f(u)‖² of each row; averaged over real rows it is 2/γ times the penalty R₁.

    Mescheder, Geiger & Nowozin 2018, arXiv:1801.04406, eq. 9.
    """
    return _gradient(critic, u).square().sum(1)


@torch.enable_grad()
def distance_from_unit_slope(critic: Critic, real: Seen, fake: Seen) -> Float[Tensor, " n"]:
    """(‖∇f(û)‖ − 1)² at a random point û of the line between each real and fake row.

    Gulrajani et al. 2017, arXiv:1704.00028, eq. 3 and algorithm 1. Where the critic is flat, the norm
    counts as constant.
    """
    part = torch.rand(len(real), 1, dtype=real.dtype, device=real.device)
    slope = _gradient(critic, torch.lerp(fake.to(real.dtype), real, part))
    return (torch.linalg.vector_norm(slope, dim=1) - 1).square()


def _gradient(critic: Critic, u: Tensor) -> Seen:
    u = u.detach().requires_grad_()
    f = critic(u)
    (gradient,) = torch.autograd.grad(f, u, torch.ones_like(f), create_graph=True)
    return gradient


def non_orthogonality(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, ""]:
    """‖W Wᵀ ∘ (1 − I)‖², whose gradient is 4 (W Wᵀ ∘ (1 − I)) W: how far rows are from orthogonal.

    Brock, Donahue & Simonyan 2019, arXiv:1809.11096, eq. 3. Of W Wᵀ and Wᵀ W, which have the same norm,
    the smaller is formed.
    """
    gram = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
    return gram.square().sum() - matrix.square().sum(1).square().sum()


@torch.enable_grad()
def path_lengths(
    synthesis: Callable[[Tensor], Seen], styles: Float[Tensor, "n layers latent"], pixels: int
) -> Float[Tensor, " n"]:
    """‖Jᵀy‖ of each row, with J the Jacobian of its image and y normal noise over the root of the pixels.

    The square is a sum over a latent's entries and a mean over layers. Karras et al. 2020,
    arXiv:1912.04958, eq. 4.
    """
    images = synthesis(styles)
    noise = torch.randn_like(images) / pixels**0.5
    (gradient,) = torch.autograd.grad((images * noise).sum(), styles, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()
