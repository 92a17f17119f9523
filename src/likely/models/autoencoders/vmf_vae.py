"""Hyperspherical variational autoencoder.

    q(z|x) = vMF(z; μ(x), κ(x)),      p(z) = U(S^d),      z in R^(d+1), |z| = 1

    KL(q‖p) = κ A(κ) + log C(κ) + log |S^d|,      A = I_(m/2)(κ)/I_(m/2−1)(κ),      m = d + 1

(Davidson, Falorsi, De Cao, Kipf & Tomczak 2018, arXiv:1804.00891), or with the power spherical distribution
in place of von Mises and Fisher's (De Cao & Aziz 2020, arXiv:2006.04437). κ is above 1, as in the authors'
code. The divergence is exact, and gradients through draws have no bias (`likely.numerics.spheres`).
"""

from typing import Any, Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from likely.contract import register
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.models.autoencoders.base import Codes
from likely.models.autoencoders.posteriors import Draws, LogProbs, Posterior
from likely.models.autoencoders.vae import VAE
from likely.numerics.spheres import PowerSpherical, Spherical, VonMisesFisher, around, log_area

FAMILIES = {"vmf": VonMisesFisher, "power-spherical": PowerSpherical}


class SphericalPosterior(NamedTuple):
    """A distribution around a unit vector for each row."""

    mean: Float[Tensor, "n latent"]
    spread: Spherical

    def draw(self, draws: int) -> tuple[Draws, LogProbs]:
        angle = self.spread.draw(draws)
        z = around(self.mean.double(), angle)
        return z.to(self.mean), self.spread.log_prob(angle).to(self.mean)


@register(
    "vmf-vae",
    title="hyperspherical variational autoencoder",
    constraint="entries independent given a point of a sphere of `latent` dimensions",
    paper="Davidson et al. 2018, arXiv:1804.00891; De Cao & Aziz 2020, arXiv:2006.04437",
)
class VMFVAE(VAE):
    """Variational autoencoder whose codes are points of a sphere; their prior is uniform.

    The other parameters and the errors are those of `VAE`, without other priors. Codes that are decoded,
    such as those of a walk, are first taken to the sphere.

    Parameters
    ----------
    latent : int
        d, the dimension of the sphere: codes are unit vectors of d + 1 numbers.
    posterior : {"vmf", "power-spherical"}
        q(z|x): von Mises–Fisher, or power spherical.

    Raises
    ------
    LikelyError
        If a prior is given, or as `VAE`.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits")
    >>> model = lk.autoencoders.VMFVAE(data.domain, latent=5)
    >>> history = lk.fit(model, data, steps=20)
    >>> model.encode(data.test.x[:4]).shape
    torch.Size([4, 6])
    """

    flat_codes = False

    def __init__(
        self,
        domain: Domain,
        *,
        latent: int = 5,
        posterior: Literal["vmf", "power-spherical"] = "vmf",
        **options: Any,
    ) -> None:
        super().__init__(domain, latent=latent + 1, **options)
        if self.prior is not None or self.pseudo_inputs is not None:
            raise LikelyError('VMFVAE: its prior is uniform: leave out prior, or take "vae"')
        self.family = FAMILIES[posterior]

    def _encoder_outputs(self) -> int:
        return self.latent + 1

    def _posterior_of(self, features: Tensor, context: Tensor | None) -> SphericalPosterior:
        direction, raw = self.encoder(features, context).split([self.latent, 1], 1)
        kappa = 1 + F.softplus(raw[:, 0])
        return SphericalPosterior(F.normalize(direction, dim=1), self.family(kappa, self.latent))

    def _log_prior(self, z: Draws) -> LogProbs:
        return z.new_full(z.shape[:2], -log_area(self.latent))

    def _divergence(self, q: Posterior, z: Draws, log_q: LogProbs) -> Float[Tensor, "n 1"]:
        assert isinstance(q, SphericalPosterior)
        return q.spread.divergence().to(z)[:, None]

    def _sample_code(self, n: int, context: Tensor | None) -> Codes:
        return F.normalize(self.decoder.bias.new_empty(n, self.latent).normal_(), dim=1)

    def _decoded(self, z: Codes, context: Tensor | None) -> Tensor:
        return super()._decoded(F.normalize(z, dim=1), context)
