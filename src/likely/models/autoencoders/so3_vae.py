"""Variational autoencoder with a rotation as its code.

    z = μ(x) exp(v),      v ~ N(0, diag σ(x)²) in the Lie algebra so(3),      p(z) uniform (Haar)

    q(z|x) = Σ_k N(θ_k u; 0, diag σ²) θ_k²/(2 − 2 cos θ),      θ_k = θ + 2πk,      μᵀz = exp(θ u)

with respect to the measure of total 8π²: all θ_k u have the same image, and the second factor is the change
of volume there (Falorsi et al. 2018, arXiv:1807.04689; 2019, arXiv:1903.02958). KL(q‖p) is estimated at the
draw. A wide σ does not come to the uniform distribution: for equal σ the divergence is least, 0.012 nats, at
1.7, and tends to log 2. μ comes from two vectors by Gram and Schmidt's process: an encoder that gave three
coordinates of a rotation would have to jump somewhere.
"""

import math
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from likely.contract import LOG_TWO_PI, Range, register
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.models.autoencoders.base import Codes
from likely.models.autoencoders.posteriors import Draws, GaussianPosterior, LogProbs, Posterior
from likely.models.autoencoders.vae import VAE
from likely.nets.heads import NARROWEST

MATRIX = 9  # numbers of a rotation's matrix
WIDEST = 2 * math.pi  # of σ; the angle is then uniform to e⁻²⁰
WINDINGS = 9  # |k| of the sum: as far as the widest Gaussian falls by 40 nats
LOG_VOLUME = math.log(8 * math.pi**2)

Rotations = Float[Tensor, "... 3 3"]


class RotationPosterior(NamedTuple):
    """A rotation with its widths for each row, and Gaussian variables beside it."""

    rotation: Float[Tensor, "n 3 3"]
    std: Float[Tensor, "n 3"]
    rest: GaussianPosterior

    @property
    def mean(self) -> Float[Tensor, "n latent"]:
        return torch.cat([self.rotation.flatten(1), self.rest.mean], 1)

    def draw(self, draws: int) -> tuple[Draws, LogProbs]:
        std = self.std.double()
        v = std * torch.randn(draws, *std.shape, dtype=std.dtype, device=std.device)
        z = (self.rotation.double() @ exponential(v)).to(self.std)
        rest, log_rest = self.rest.draw(draws)
        return torch.cat([z.flatten(2), rest], 2), log_density(v, std).to(self.std) + log_rest


@register(
    "so3-vae",
    title="variational autoencoder of rotations",
    constraint="entries independent given a rotation in space and `latent` − 3 Gaussian variables",
    paper="Falorsi et al. 2018, arXiv:1807.04689; Falorsi et al. 2019, arXiv:1903.02958",
)
class SO3VAE(VAE):
    """Variational autoencoder whose code is a rotation in space, and Gaussian variables if there are more.

    The other parameters and the errors are those of `VAE`, without other posteriors and priors. A code is
    the nine entries of the rotation's matrix, row by row, and then the other variables. Codes that are
    decoded, such as those of a walk, are first taken to a rotation.

    Parameters
    ----------
    latent : int
        3 for the rotation, and as many more as there are Gaussian variables beside it.

    Raises
    ------
    LikelyError
        If a posterior or a prior is given, or as `VAE`.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("rotations")
    >>> model = lk.autoencoders.SO3VAE(data.domain, network="mlp")
    >>> history = lk.fit(model, data, steps=20)
    >>> model.encode(data.test.x[:4]).shape
    torch.Size([4, 9])
    """

    flat_codes = False

    def __init__(
        self, domain: Domain, *, latent: Annotated[int, Range(3)] = 3, **options: Any
    ) -> None:
        super().__init__(domain, latent=MATRIX + latent - 3, **options)
        if self.map is not None or self.prior is not None or self.pseudo_inputs is not None:
            raise LikelyError(
                'SO3VAE: has a posterior and a prior of its own: leave both out, or take "vae"'
            )

    def _encoder_outputs(self) -> int:
        return MATRIX + 2 * (self.latent - MATRIX)

    def _posterior_of(self, features: Tensor, context: Tensor | None) -> RotationPosterior:
        rest = self.latent - MATRIX
        vectors, raw, mean, raw_rest = self.encoder(features, context).split([6, 3, rest, rest], 1)
        std = WIDEST * torch.sigmoid(raw - math.log(WIDEST - 1))  # 1 at first
        return RotationPosterior(
            orthonormal(vectors), std + NARROWEST, GaussianPosterior.of(mean, raw_rest)
        )

    def _log_prior(self, z: Draws) -> LogProbs:
        rest = z[..., MATRIX:]
        return -(rest.square() + LOG_TWO_PI).sum(2) / 2 - LOG_VOLUME

    def _divergence(self, q: Posterior, z: Draws, log_q: LogProbs) -> Float[Tensor, "n parts"]:
        """Of the rotation at the first draw, and of each other variable in closed form."""
        assert isinstance(q, RotationPosterior)
        of_rotation = log_q[0] - q.rest.log_prob(z[:1, :, MATRIX:])[0] + LOG_VOLUME
        return torch.cat([of_rotation[:, None], q.rest.divergence()], 1)

    def _sample_code(self, n: int, context: Tensor | None) -> Codes:
        normal = self.decoder.bias.new_empty(n, self.latent - 3).normal_()
        return self._on_rotations(normal[:, :6], normal[:, 6:])

    def _decoded(self, z: Codes, context: Tensor | None) -> Tensor:
        return super()._decoded(self._on_rotations(z[:, :6], z[:, MATRIX:]), context)

    def _on_rotations(self, vectors: Tensor, rest: Tensor) -> Codes:
        return torch.cat([orthonormal(vectors).flatten(1), rest], 1)


def orthonormal(vectors: Float[Tensor, "n 6"]) -> Rotations:
    """The rotation whose first two rows are two vectors after Gram and Schmidt; uniform for normal ones."""
    first = F.normalize(vectors[:, :3], dim=1)
    second = vectors[:, 3:]
    second = F.normalize(second - (first * second).sum(1, keepdim=True) * first, dim=1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], 1)


def exponential(v: Float[Tensor, "... 3"]) -> Rotations:
    """exp(v) by Rodrigues' formula: the rotation around v by |v|."""
    angle = _length(v)[..., None, None]
    x, y, z = v.unbind(-1)
    o = torch.zeros_like(x)
    turn = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))
    half = torch.sinc(angle / (2 * math.pi)).square() / 2  # (1 − cos θ)/θ²
    return torch.eye(3).to(v) + torch.sinc(angle / math.pi) * turn + half * (turn @ turn)


def log_density(v: Float[Tensor, "... 3"], std: Float[Tensor, "... 3"]) -> Float[Tensor, "..."]:
    """log q of exp(v) around the identity, for any of the v that have this image."""
    angle = _length(v)
    windings = torch.arange(-WINDINGS, WINDINGS + 1).to(v)
    turned = angle.remainder(2 * math.pi)[..., None] + 2 * math.pi * windings
    precision = (v / std).square().sum(-1) / angle.square()
    terms = turned.square().log() - precision[..., None] * turned.square() / 2
    volume = (2 * (angle / 2).sin()).square().log()
    return terms.logsumexp(-1) - volume - 3 * LOG_TWO_PI / 2 - std.log().sum(-1)


def _length(v: Tensor) -> Tensor:
    """|v| with a derivative at 0."""
    return (v.square().sum(-1) + torch.finfo(v.dtype).tiny).sqrt()
