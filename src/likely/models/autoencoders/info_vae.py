"""InfoVAE: a variational autoencoder whose codes, all together, are pulled to the prior.

    loss = −E_q log p(x|z) + (1 − α) KL(q(z|x)‖p) + (α + λ − 1) MMD²(q(z), p),      q(z) = E_data q(z|x)

(Zhao, Song & Ermon 2019, arXiv:1706.02262, eq. 6). The first divergence asks the codes of each row to say
little about it; the second asks only that those of all rows together look like the prior, so that α > 0
leaves them more information. α = 0, λ = 1 is the VAE; α = 1 is MMD-VAE.
"""

from typing import Any

from torch import Tensor

from likely.contract import Batch, NonNegative, Recipe, register
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.models.autoencoders.base import Codes
from likely.models.autoencoders.mmd import Kernel, mmd_to_normal
from likely.models.autoencoders.posteriors import Posterior
from likely.models.autoencoders.vae import VAE

PAPER = "Zhao, Song & Ermon 2019, arXiv:1706.02262"


@register(
    "mmd-vae",
    title="variational autoencoder with a discrepancy in place of the divergence",
    constraint="entries independent given `latent` variables, whose codes together look like the prior",
    paper=PAPER,
    beta=0.0,
)
@register(
    "info-vae",
    title="information maximising variational autoencoder",
    constraint="entries independent given `latent` variables, whose codes together look like the prior",
    paper=PAPER,
)
class InfoVAE(VAE):
    """InfoVAE; the reported likelihoods are importance-weighted bounds of log p(x), as of any VAE.

    The other parameters and the errors are those of `VAE`; the prior must be normal.

    Parameters
    ----------
    latent : int
    beta : float
        1 − α: weight of the KL divergence. "mmd-vae" has 0.
    penalty : float
        α + λ − 1: weight of the discrepancy.
    kernel : {"rbf", "imq"}
        Of the discrepancy: a mean of Gaussians, or of inverse multiquadratics, of several widths.
    """

    recipe = Recipe(batch=256, rate=3e-3, weight_decay=0.01)

    def __init__(
        self,
        domain: Domain,
        *,
        latent: int = 8,
        penalty: NonNegative = 100.0,
        kernel: Kernel = "rbf",
        **options: Any,
    ) -> None:
        super().__init__(domain, latent=latent, **options)
        if self.prior is not None or self.pseudo_inputs is not None:
            raise LikelyError(
                'InfoVAE: its discrepancy is that to N(0, 1): leave out prior, or take "vae"'
            )
        self.penalty, self.kernel = penalty, kernel

    def _penalty(self, q: Posterior, z: Codes, batch: Batch) -> Tensor:
        return self.penalty * mmd_to_normal(z, batch.weight, self.kernel)
