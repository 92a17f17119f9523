"""Wasserstein autoencoders: codes without noise, which together look like the prior.

    loss = −log p(x|e(x)) + λ D(q, p),      z = e(x) ~ q(z) where x is a row of the data,      p = N(0, 1)

(Tolstikhin, Bousquet, Gelly & Schölkopf 2018, arXiv:1711.01558, eq. 4): with λ → ∞ the least loss is an
optimal transport cost between the data and the samples. D is the maximum mean discrepancy (WAE-MMD), or
what a critic f of codes makes of them (WAE-GAN), with σ the logistic function:

    critic:   −E_p log σ(f(z)) − E_q log(1 − σ(f(z))),      encoder:   D = −E_q log σ(f(z)).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from likely.contract import Batch, NonNegative, Objective, Recipe, Widths, register
from likely.contract.inputs import context_features
from likely.core.domain import Domain
from likely.models.autoencoders.ae import Autoencoder
from likely.models.autoencoders.base import Codes
from likely.models.autoencoders.mmd import Kernel, mmd_to_normal
from likely.nets.critic import Critic, frozen

PAPER = "Tolstikhin, Bousquet, Gelly & Schölkopf 2018, arXiv:1711.01558"
CONSTRAINT = "data near a surface of `latent` dimensions, whose codes together look like N(0, 1)"


class WAE(Autoencoder):
    """A Wasserstein autoencoder; a subclass says how far codes are from the prior, by `_mismatch`.

    It has no likelihood, as its codes have no density given a row.

    The other parameters and the errors are those of `Autoencoder`.

    Parameters
    ----------
    latent : int
    penalty : float
        λ, in nats of the reconstruction.
    """

    recipe = Recipe(batch=256, rate=1e-3, steps=10_000)

    def __init__(
        self, domain: Domain, *, latent: int = 8, penalty: NonNegative = 100.0, **options: Any
    ) -> None:
        super().__init__(domain, latent=latent, **options)
        self.penalty = penalty

    def _mismatch(self, z: Codes, context: Tensor | None, weight: Tensor | None) -> Tensor:
        """D, of the batch or of each row."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Float[Tensor, " n"]:
        """−log p(x|e(x)) + λ D of each row."""
        context = context_features(self, batch.context, len(batch))
        z = self._code(batch.x, context)
        mismatch = self._mismatch(z, context, batch.weight)
        return self.penalty * mismatch - self._log_prob_given(batch.x, z, context)

    def finish(self, batch: Batch) -> None:
        """Codes of samples stay N(0, 1)."""


@register(
    "wae-mmd",
    title="Wasserstein autoencoder with a maximum mean discrepancy",
    constraint=CONSTRAINT,
    paper=PAPER,
)
class WAEMMD(WAE):
    """Wasserstein autoencoder with a maximum mean discrepancy.

    The other parameters are those of `WAE`.

    Parameters
    ----------
    kernel : {"imq", "rbf"}
        Mean of inverse multiquadratics, or of Gaussians, of several widths.
    """

    def __init__(self, domain: Domain, *, kernel: Kernel = "imq", **options: Any) -> None:
        super().__init__(domain, **options)
        self.kernel = kernel

    def _mismatch(self, z: Codes, context: Tensor | None, weight: Tensor | None) -> Tensor:
        return mmd_to_normal(z, weight, self.kernel)


@register(
    "wae-gan",
    title="Wasserstein autoencoder with a critic of codes",
    constraint=CONSTRAINT,
    paper=PAPER,
)
class WAEGAN(WAE):
    """Wasserstein autoencoder with a critic, which sees codes and the context.

    The other parameters are those of `WAE`.

    Parameters
    ----------
    penalty : float
        λ, in nats of the reconstruction for each nat of the critic's.
    critic_hidden : sequence of int
        Widths of the critic's hidden layers.
    """

    def __init__(
        self,
        domain: Domain,
        *,
        penalty: NonNegative = 1.0,
        critic_hidden: Widths = (256, 256),
        **options: Any,
    ) -> None:
        super().__init__(domain, penalty=penalty, **options)
        self.critic = Critic(self.latent, self.context_size, critic_hidden, None)

    def objectives(self) -> list[Objective]:
        critic = list(self.critic.parameters())
        with frozen(self.critic):
            trained = [p for p in self.parameters() if p.requires_grad]
        return [
            Objective("critic", critic, self._critic_loss, betas=(0.5, 0.999)),
            Objective("loss", trained, self.loss),
        ]

    def _critic_loss(self, batch: Batch) -> Float[Tensor, " n"]:
        context = context_features(self, batch.context, len(batch))
        with torch.no_grad():
            code = self._code(batch.x, context)
        return F.softplus(-self.critic(torch.randn_like(code), context)) + F.softplus(
            self.critic(code, context)
        )

    def _mismatch(self, z: Codes, context: Tensor | None, weight: Tensor | None) -> Tensor:
        with frozen(self.critic):
            return F.softplus(-self.critic(z, context))
