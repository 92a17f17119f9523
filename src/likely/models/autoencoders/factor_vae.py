"""FactorVAE: a variational autoencoder and a critic that judges whether latent variables are independent.

    loss = −E_q log p(x|z) + KL(q(z|x)‖p) + γ E_q f(z),      f(z) ≈ log q(z)/Π_k q(z_k)

    critic:   −E_{q(z)} log σ(f(z)) − E_{Π_k q(z_k)} log(1 − σ(f(z)))

(Kim & Mnih 2018, arXiv:1802.05983, eqs. 2 and 3) with σ the logistic function. Codes of Π_k q(z_k) take each
variable from a row of its own.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from likely.contract import Batch, NonNegative, NonNegativeInt, Objective, Recipe, Widths, register
from likely.contract.inputs import context_features
from likely.core.domain import Domain
from likely.models.autoencoders.base import Codes
from likely.models.autoencoders.posteriors import Posterior
from likely.models.autoencoders.vae import VAE
from likely.nets.critic import Critic, frozen


@register(
    "factor-vae",
    title="variational autoencoder with a critic of the total correlation",
    constraint="entries independent given `latent` variables, whose codes are nearly independent",
    paper="Kim & Mnih 2018, arXiv:1802.05983",
)
class FactorVAE(VAE):
    """FactorVAE; the reported likelihoods are bounds of log p(x), as of any VAE.

    The other parameters and the errors are those of `VAE`.

    Parameters
    ----------
    latent : int
    penalty : float
        γ: weight of the total correlation beyond the one that it has in the KL divergence.
    critic_hidden : sequence of int
        Widths of the critic's hidden layers.
    warm_up : int
        Of the KL divergence; none, as the penalty by itself would pull codes away from the prior.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.autoencoders.FactorVAE(data.domain, latent=6)
    >>> history = lk.fit(model, data, steps=20)
    """

    recipe = Recipe(batch=512, rate=3e-3, weight_decay=0.01)  # half for either side of the critic

    def __init__(
        self,
        domain: Domain,
        *,
        latent: int = 8,
        penalty: NonNegative = 10.0,
        critic_hidden: Widths = (256, 256, 256),
        warm_up: NonNegativeInt = 0,
        **options: Any,
    ) -> None:
        super().__init__(domain, latent=latent, warm_up=warm_up, **options)
        self.penalty = penalty
        self.critic = Critic(self.latent, 0, critic_hidden, None)

    def objectives(self) -> list[Objective]:
        critic = list(self.critic.parameters())
        with frozen(self.critic):
            others = [p for p in self.parameters() if p.requires_grad]
        return [
            Objective("critic", critic, self._critic_loss, rate=1e-3, betas=(0.5, 0.9)),
            Objective("loss", others, self.loss),
        ]

    def _critic_loss(self, batch: Batch) -> Float[Tensor, ""]:
        """Codes of one half of the batch, against codes with variables from rows of the other half."""
        with torch.no_grad():
            context = context_features(self, batch.context, len(batch))
            z = self._posterior(batch.x, context).draw(1)[0][0]
        weight = torch.ones_like(z[:, 0]) if batch.weight is None else batch.weight.to(z)
        half = (len(z) + 1) // 2
        joint = weight[:half] * F.softplus(-self.critic(z[:half], None))
        return (
            joint.mean() + F.softplus(self.critic(shuffled(z[-half:], weight[-half:]), None)).mean()
        )

    def _penalty(self, q: Posterior, z: Codes, batch: Batch) -> Float[Tensor, " n"]:
        with frozen(self.critic):
            return self.penalty * self.critic(z, None)


def shuffled(z: Codes, weight: Float[Tensor, " n"]) -> Codes:
    """Codes with each variable from a row of its own, drawn by weight."""
    n, latent = z.shape
    chances = weight.clamp_min(torch.finfo(weight.dtype).tiny).expand(latent, n)
    return z.gather(0, torch.multinomial(chances, n, replacement=True).T)
