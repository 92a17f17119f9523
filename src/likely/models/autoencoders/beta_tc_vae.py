"""β-TC-VAE: a variational autoencoder whose latent variables are pulled to be independent of each other.

    loss = −E_q log p(x|z) + KL(q(z|x)‖p) + (β − 1) TC

    TC = KL(q(z)‖Π_k q(z_k)),      q(z) = E_data q(z|x)

(Chen, Li, Grosse & Duvenaud 2018, arXiv:1802.04942, eqs. 2 and 4 with α = γ = 1, where KL is split into
an information, TC and KL(q(z_k)‖p)). With N training rows, B of them in a batch, and z_i from q(z|x_i),

    q(z_i) ≈ Σ_j W_ij q(z_i|x_j),      W_ii = 1/N,      W_ij = (N − 1)/(N (B − 1)),

without bias (their code puts 1/N elsewhere); its logarithm is biased low, unless B = N.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from likely.contract import Batch, NonNegative, NonNegativeInt, Recipe, register
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.models.autoencoders.base import Codes
from likely.models.autoencoders.posteriors import GaussianPosterior, Posterior
from likely.models.autoencoders.vae import VAE


@register(
    "beta-tc-vae",
    title="variational autoencoder with a penalty on the total correlation",
    constraint="entries independent given `latent` variables, whose codes are nearly independent",
    paper="Chen, Li, Grosse & Duvenaud 2018, arXiv:1802.04942",
)
class BetaTCVAE(VAE):
    """β-TC-VAE; the reported likelihoods are bounds of log p(x), as of any VAE.

    The other parameters and the errors are those of `VAE`; the posterior must be Gaussian.

    Parameters
    ----------
    latent : int
    penalty : float
        β − 1: weight of the total correlation beyond the one that it has in the KL divergence.
    warm_up : int
        Of the KL divergence; none, as the penalty by itself would pull codes away from the prior.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.autoencoders.BetaTCVAE(data.domain, latent=6)
    >>> history = lk.fit(model, data, steps=20)
    """

    recipe = Recipe(batch=256, rate=3e-3, weight_decay=0.01)

    def __init__(
        self,
        domain: Domain,
        *,
        latent: int = 8,
        penalty: NonNegative = 5.0,
        warm_up: NonNegativeInt = 0,
        **options: Any,
    ) -> None:
        super().__init__(domain, latent=latent, warm_up=warm_up, **options)
        if self.map is not None:
            raise LikelyError(
                'BetaTCVAE: it needs the density of posterior="gaussian"; with a flow take "factor-vae"'
            )
        self.penalty = penalty

    def _penalty(self, q: Posterior, z: Codes, batch: Batch) -> Float[Tensor, " n"]:
        assert isinstance(q, GaussianPosterior)
        return self.penalty * total_correlation(q, z, batch.weight, batch.rows)


def total_correlation(
    q: GaussianPosterior, z: Codes, weight: Float[Tensor, " n"] | None, rows: int | None
) -> Float[Tensor, " n"]:
    """log q(z) − Σ_k log q(z_k) of the code of each row of a batch: its mean is TC."""
    joint, each = log_densities(q, z, weight, rows)
    return joint - each.sum(1)


def log_densities(
    q: GaussianPosterior, z: Codes, weight: Float[Tensor, " n"] | None, rows: int | None
) -> tuple[Float[Tensor, " n"], Codes]:
    """log q(z) and log q(z_k) of the code of each row of a batch.

    The batch is from `rows` training rows (None: of these only), whose weights have the mean 1.
    """
    n = len(z)
    rows = n if rows is None else rows
    weight = torch.ones_like(z[:, 0]) if weight is None else weight.to(z).clamp_min(0)
    own = torch.eye(n, dtype=torch.bool, device=z.device)
    log_w = torch.where(own, 1 / rows, (rows - 1) / (rows * max(1, n - 1))).log() + weight.log()
    terms = q.log_probs(z[:, None])  # of code i by row j
    return (log_w + terms.sum(2)).logsumexp(1), (log_w[..., None] + terms).logsumexp(1)
