"""Wasserstein GAN, with clipped weights or with a gradient penalty.

Arjovsky, Chintala & Bottou 2017, arXiv:1701.07875, eq. 2:

    W₁(data, model) = max over f with slope ≤ 1 of  E_data f(x) − E_noise f(G(noise)),

which falls smoothly as the model comes nearer, even where supports do not meet. Clipping the weights to
[−c, c] bounds the slope by some number (algorithm 1 there); the penalty

    λ E (‖∇f(û)‖ − 1)²,    û uniform on the line between a real and a generated row,

draws it to 1, which it is along optimal transport (Gulrajani et al. 2017, arXiv:1704.00028, eq. 3).
"""

from typing import Any

import torch
from torch import Tensor

from likely.contract import NonNegative, Positive, Recipe, register
from likely.core.domain import Domain
from likely.models.gans.gan import GAN
from likely.models.gans.penalties import distance_from_unit_slope


class Wasserstein(GAN):
    """The losses of a GAN whose critic's slope is drawn to 1."""

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """f(G) − f(x)."""
        return fake - real

    def generator_loss(self, fake: Tensor) -> Tensor:
        """−f(G)."""
        return -fake

    def penalties(self, real: Tensor, fake: Tensor, context: Tensor | None) -> Tensor:
        """λ (‖∇f(û)‖ − 1)²."""
        return self.penalty * distance_from_unit_slope(
            lambda u: self.critic(u, context), real, fake
        )


@register(
    "wgan-gp",
    title="Wasserstein GAN with a gradient penalty",
    constraint="none on the generator; the critic's slope is drawn to 1",
    paper="Gulrajani et al. 2017, arXiv:1704.00028",
    bound=None,
)
@register(
    "wgan",
    title="Wasserstein GAN with clipped weights",
    constraint="none on the generator; the critic's weights are bounded",
    paper="Arjovsky et al. 2017, arXiv:1701.07875",
)
class WGAN(Wasserstein):
    """Wasserstein GAN.

    Parameters
    ----------
    domain, context, latent, hidden, network
        As in `GAN`, and so are its limits.
    critic_steps : int
        Steps of the critic for each of the generator.
    bound : float, optional
        c, the largest weight of the critic; None takes the gradient penalty instead.
    penalty : float
        Its weight λ, where the weights are not clipped.
    """

    recipe = Recipe(batch=256, rate=3e-3, betas=(0.0, 0.9), steps=10_000)

    def __init__(
        self,
        domain: Domain,
        *,
        critic_steps: int = 2,
        bound: Positive | None = 0.03,
        penalty: NonNegative = 0.1,
        **options: Any,
    ) -> None:
        # Clipped weights go without the penalty.
        super().__init__(
            domain, critic_steps=critic_steps, penalty=0.0 if bound else penalty, **options
        )
        self.bound = bound
        self.bound_critic()

    @torch.no_grad()
    def bound_critic(self) -> None:
        """Clip the critic's weights."""
        if self.bound is not None:
            for parameter in self.critic.parameters():
                parameter.clamp_(-self.bound, self.bound)
