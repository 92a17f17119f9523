"""HSIC-constrained VAE: a variational autoencoder with codes that are independent of what is asked.

    loss = −E_q log p(x|z) + KL(q(z|x)‖p) + λ HSIC(z, c)

    HSIC(u, v) = E k(u, u′) l(v, v′) + E k(u, u′) E l(v, v′) − 2 E k(u, u′) l(v, v″)

(Lopez, Regier, Jordan & Yosef 2018, arXiv:1805.08672, there the root of it). The Hilbert–Schmidt independence
criterion is zero only where u and v are independent. Groups of latent variables are independent of each other
where each is of all groups before it: these criteria are added. Estimates take rows that are all different
(Song et al. 2012, J. Machine Learning Research 13, 1393, eq. 5): they have no bias, and may be negative.
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from likely.contract import Batch, NonNegative, NonNegativeInt, Range, Recipe, register
from likely.contract.networks import Encoded
from likely.core.columns import Binary, Categorical
from likely.core.domain import Domain
from likely.core.errors import LikelyError
from likely.models.autoencoders.base import Codes
from likely.models.autoencoders.posteriors import Posterior
from likely.models.autoencoders.vae import VAE

Kernel = Float[Tensor, "n n"]


@register(
    "hsic-vae",
    title="variational autoencoder with independence asked of its codes",
    constraint="entries independent given `latent` variables, whose codes are nearly independent of "
    "the context, or of each other",
    paper="Lopez, Regier, Jordan & Yosef 2018, arXiv:1805.08672",
)
class HSICVAE(VAE):
    """VAE with codes that are independent of the context, or groups of them of each other.

    Kernels are Gaussians, as wide as the mean distance of standard normal vectors; categories and binary
    columns of the context are equal or not. The reported likelihoods are bounds of log p(x), as of any VAE.

    The other parameters and the errors are those of `VAE`.

    Parameters
    ----------
    latent : int
    independent : "context", or sequence of sequences of int, optional
        The codes of the context, which the decoder is given; or groups of latent variables of each
        other, such as ((0, 1), (2, 3)). By default the context, and without one all variables.
    penalty : float
        λ. The criterion is between 0.01 and 0.1 under strong dependence.
    warm_up : int
        Of the KL divergence; none, as the penalty by itself would pull codes away from the prior.

    Examples
    --------
    >>> import likely as lk
    >>> data = lk.load_data("digits", context="label")
    >>> model = lk.autoencoders.HSICVAE(data.domain, context=data.context, latent=6)
    >>> history = lk.fit(model, data, steps=20)
    """

    recipe = Recipe(batch=256, rate=3e-3, weight_decay=0.01)

    def __init__(
        self,
        domain: Domain,
        *,
        latent: int = 8,
        independent: Literal["context"]
        | Annotated[Sequence[Sequence[int]], Range(0)]
        | None = None,
        penalty: NonNegative = 100.0,
        warm_up: NonNegativeInt = 0,
        **options: Any,
    ) -> None:
        super().__init__(domain, latent=latent, warm_up=warm_up, **options)
        self.penalty = penalty
        if independent is None:
            independent = "context" if self.context is not None else [[k] for k in range(latent)]
        if independent == "context" and self.context is None:
            raise LikelyError('HSICVAE: independent="context": there is none; give one, or groups')
        if independent == "context" and isinstance(self.context_features, Encoded):
            raise LikelyError(
                'HSICVAE: independent="context" compares columns, which an encoder does not give: '
                "give groups, or leave context_encoder out"
            )
        self.groups = None if independent == "context" else self._checked(independent)

    def _checked(self, groups: Any) -> list[list[int]]:
        try:
            found = [[int(k) for k in group] for group in groups]
        except (TypeError, ValueError):
            found = []
        used = list(chain(*found))
        if (
            not all(found)
            or not used
            or len(set(used)) < len(used)
            or not set(used) <= {*range(self.latent)}
        ):
            raise LikelyError(
                f'HSICVAE: independent={groups!r}: give "context", or groups of different latent '
                f"variables from 0 to {self.latent - 1}, such as ((0, 1), (2, 3))"
            )
        return found

    def _penalty(self, q: Posterior, z: Codes, batch: Batch) -> Tensor:
        if self.groups is None:
            assert batch.context is not None
            return self.penalty * hsic(
                gaussian(z), self._context_kernel(batch.context), batch.weight
            )
        total, before = z.new_zeros(()), self.groups[0]
        for group in self.groups[1:]:
            total = total + hsic(gaussian(z[:, before]), gaussian(z[:, group]), batch.weight)
            before = before + group
        return self.penalty * total

    def _context_kernel(self, context: Tensor) -> Kernel:
        """Equality of labels, times a Gaussian of the other features."""
        assert self.context is not None
        assert self.context_features is not None
        flat, features = context.flatten(1), self.context_features(context)
        labels = torch.tensor(
            [
                isinstance(self.context.column(i), Binary | Categorical)
                for i in range(flat.shape[1])
            ],
            device=flat.device,
        )
        sizes = torch.tensor(self.context_features.sizes, device=flat.device)
        kernel = (flat[:, None, labels] == flat[:, labels]).all(2).to(features)
        others = features[:, ~labels.repeat_interleave(sizes)]
        return kernel * gaussian(others) if others.shape[1] else kernel


def gaussian(u: Float[Tensor, "n d"]) -> Kernel:
    """exp(−‖u − u′‖²/2g²), with g the mean distance of two standard normal vectors."""
    d = u.shape[1]
    width = 2 * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
    return (-(u[:, None] - u).square().sum(2) / (2 * width**2)).exp()


def hsic(k: Kernel, l: Kernel, weight: Float[Tensor, " n"] | None) -> Float[Tensor, ""]:  # noqa: E741
    """Hilbert–Schmidt independence criterion of rows with weights of mean 1, without bias."""
    n = len(k)
    w = torch.ones_like(k[0]) if weight is None else weight.to(k)
    k, l = (a - torch.diag(a.diagonal()) for a in (k, l))  # noqa: E741
    with torch.autocast(k.device.type, enabled=False):  # sums that cancel
        both, of_both, square = k * l, (k @ w) * (l @ w), w.square()
        # Sums over two, three and four rows that are all different: those that coincide are taken away.
        two = w @ both @ w
        three = w @ of_both - w @ both @ square
        four = (w @ k @ w) * (w @ l @ w) - 4 * square @ of_both + 2 * square @ both @ square
    pairs = max(1, n * (n - 1))
    triples = pairs * max(1, n - 2)
    return two / pairs - 2 * three / triples + four / (triples * max(1, n - 3))
