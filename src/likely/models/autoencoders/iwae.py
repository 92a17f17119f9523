"""Importance-weighted autoencoder.

    L_K(x) = E log 1/K Σ_k w_k,      w_k = p(x|z_k) p(z_k)/q(z_k|x),      z_k = z(ε_k, φ) ~ q(z|x)

(Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, eq. 8). The encoder's gradient has a part
∂log q(z_k|x)/∂φ at fixed z_k, whose mean is zero or can be written with the others. With the shares w̃ of the
weights,

    reparametrised   Σ_k w̃_k  d log w_k/dφ                   signal to noise falls as 1/√K
    STL              Σ_k w̃_k  ∂log w_k/∂z_k ∂z_k/∂φ          without that part: biased for K > 1
    DReG             Σ_k w̃_k² ∂log w_k/∂z_k ∂z_k/∂φ          unbiased; signal to noise rises as √K

(Roeder, Wu & Duvenaud 2017, arXiv:1703.09194; Tucker, Lawson, Gu & Maddison 2019, arXiv:1810.04152, eq. 8;
Rainforth et al. 2018, arXiv:1802.04537). The last two vanish for every draw where q is the exact posterior.
"""

from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from likely.contract import Batch, NonNegativeInt, register
from likely.contract.inputs import context_features
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.core.likelihood import importance_bound
from likely.models.autoencoders.posteriors import GaussianPosterior
from likely.models.autoencoders.vae import VAE


@register(
    "iwae",
    title="importance-weighted autoencoder",
    constraint="entries independent given `latent` variables; each row is decoded `draws` times",
    paper="Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519; Tucker et al. 2019, arXiv:1810.04152",
)
class IWAE(VAE):
    """Variational autoencoder that trains on the importance-weighted bound.

    The other parameters are those of `VAE`. There is no place inside the logarithm for `beta`,
    `warm_up` and `free_bits`.

    Parameters
    ----------
    draws : int
        K: draws of each row at a step. `log_likelihood` has its own.
    gradient : {"dreg", "stl", "reparametrised"}
        Of the encoder; the first two are for posterior="gaussian".

    Raises
    ------
    LikelyError
        If an option does not fit, or as `VAE`.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.autoencoders.IWAE(data.domain, latent=8, draws=4)
    >>> history = lk.fit(model, data, steps=20)
    """

    def __init__(
        self,
        domain: Domain,
        *,
        draws: int = 8,
        gradient: Literal["dreg", "stl", "reparametrised"] = "dreg",
        warm_up: NonNegativeInt = 0,
        **options: Any,
    ) -> None:
        super().__init__(domain, warm_up=warm_up, **options)
        if self.beta != 1 or self.warm_up or self.free_bits:
            raise LikelyError(
                "IWAE: beta, warm_up and free_bits weigh a divergence, which this bound has not: leave them "
                'out, or take "vae"'
            )
        if gradient != "reparametrised" and self.map is not None:
            raise LikelyError(
                f'IWAE: gradient="{gradient}" needs the density of posterior="gaussian": with a flow take '
                'gradient="reparametrised"'
            )
        self.draws, self.gradient = draws, gradient
        self.derivative_in_loss = gradient == "dreg"

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """−L_K of each row, by one set of draws."""
        context = context_features(self, batch.context, len(batch))
        q = self._posterior(batch.x, context)
        z, log_q = q.draw(self.draws)
        if self.gradient != "reparametrised":
            assert isinstance(q, GaussianPosterior)
            log_q = q.stopped().log_prob(z)
        log_w = self._log_weights(batch.x, context, z, log_q)
        if self.gradient == "dreg" and z.requires_grad:
            shares = log_w.detach().softmax(0)[..., None]
            z.register_hook(lambda gradient: shares * gradient)
        return -importance_bound(log_w)[0]
