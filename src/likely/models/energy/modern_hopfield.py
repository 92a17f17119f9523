"""Continuous Hopfield network: an associative memory whose recall is attention.

Ramsauer et al. 2020, arXiv:2008.02217, eqs. 2 and 3, for patterns x_μ, the rows of X:

    E(ξ) = −1/β log Σ_μ e^(β x_μ·ξ) + ½ ξ·ξ,      ξ ← Xᵀ softmax(β X ξ)
"""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from likely.contract import LOG_TWO_PI, Positive, RealModel, RealView, Rows, log_mass, register
from likely.contract.inputs import accept_partly_known
from likely.core.columns import Periodic
from likely.core.domain import Domain
from likely.core.random import seeded
from likely.models.energy.patterns import AssociativeMemory


@register(
    "modern-hopfield",
    title="continuous Hopfield network",
    constraint="keeps rows of the data; one width for all",
    paper="Ramsauer et al. 2020, arXiv:2008.02217",
)
class ModernHopfield(AssociativeMemory, RealModel):
    """Continuous Hopfield network over the real view of a domain; its patterns are training rows.

    Its Boltzmann distribution at inverse temperature β, the same that is in the softmax, is a mixture
    of Gaussians around the patterns:

        e^(−βE(ξ)) = Σ_μ e^(β x_μ·ξ − ½β ξ·ξ) = Σ_μ e^(½β ‖x_μ‖²) e^(−½β ‖ξ − x_μ‖²)

    so that the density is exact, N(x_μ, 1/β) with weights ∝ e^(½β ‖x_μ‖²): equal ones only for
    patterns of equal norm, otherwise the longest win. A network without patterns is N(0, 1/β).

    Parameters
    ----------
    domain : Domain
        Of continuous columns, without periodic ones, or of discrete ones, which are dequantised.
    patterns : int
        How many rows are stored at most, drawn at random.
    beta : float
        β, for columns of variance 1.

    Raises
    ------
    LikelyError
        If an option is out of range.
    """

    accepts = RealView.accepts - {Periodic}
    takes_context = False

    def __init__(
        self, domain: Domain, *, patterns: int = 512, beta: Positive = 2.0, **options: Any
    ) -> None:
        super().__init__(domain, **options)
        self.beta, self.room = beta, patterns
        self.patterns = nn.Buffer(torch.zeros(patterns, self.view.dim))
        self.stored = nn.Buffer(torch.tensor(1))  # how many are in use: first of all, 0

    def _store(self, x: Rows) -> None:
        z, _ = self.view(x)
        self.patterns.zero_()[: len(z)] = z
        self.stored.fill_(len(z))

    @property
    def _used(self) -> Float[Tensor, "stored dim"]:
        return self.patterns[: int(self.stored)]

    def energy(self, xi: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """E(ξ) of states in the view's columns."""
        lse = (self.beta * xi @ self._used.T).logsumexp(1) / self.beta
        return xi.square().sum(1) / 2 - lse

    def _log_prob_real(self, z: Tensor, context: Tensor | None) -> Tensor:
        log_z = (self.beta / 2 * self._used.square().sum(1)).logsumexp(0)
        width = self.view.dim / 2 * (LOG_TWO_PI - math.log(self.beta))
        return -self.beta * self.energy(z) - log_z - width

    def _sample_real(self, n: int, context: Tensor | None) -> Tensor:
        return self._around(self._used.new_zeros(n, len(self._used)))

    def _around(self, log_known: Float[Tensor, "n stored"]) -> Float[Tensor, "n dim"]:
        """Draws around patterns, given how likely each makes what is known."""
        x = self._used
        log_weight = log_known + self.beta / 2 * x.square().sum(1)
        drawn_from = x[torch.multinomial(log_weight.softmax(1), 1)[:, 0]]
        return drawn_from + torch.randn_like(drawn_from) / math.sqrt(self.beta)

    def _log_known(self, rows: Rows, known: Bool[Tensor, "n dim"]) -> Float[Tensor, "n stored"]:
        """log-probability of the known columns of rows around each pattern, up to a constant.

        Densities of continuous columns, masses of the cells of discrete ones.
        """
        low, z, high = self.view.cells(rows)[0]
        x, discrete = self._used.to(z), self.view.discrete
        dense = known & ~discrete
        near = torch.where(dense, z, 0) @ x.T - dense.to(z) @ x.square().T / 2
        total, root = self.beta * near, math.sqrt(self.beta)  # −½β‖z − x‖², but for ‖z‖²
        for i in (known & discrete).any(0).nonzero()[:, 0].tolist():
            below, above = ((end[:, i, None] - x[:, i]) * root for end in (low, high))
            total += torch.where(known[:, i, None], log_mass(below, above), 0)
        return total

    @torch.no_grad()
    def recall(self, x: Rows, *, steps: int = 1) -> Tensor:
        """Rows after `steps` updates ξ ← Xᵀ softmax(β X ξ), each of which lowers the energy.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
        steps : int
            One is nearly always enough, where the patterns are far apart.

        Raises
        ------
        DataError
            If a row lies outside the domain.
        LikelyError
            If nothing is stored.
        """
        xi, _ = self.view(self._accept_for_recall(x))
        for _ in range(steps):
            xi = (self.beta * xi @ self._used.T).softmax(1) @ self._used
        return self.view.inverse(xi)

    @torch.no_grad()
    def complete(
        self, x: Rows, known: Tensor, *, context: Tensor | None = None, seed: int | None = None
    ) -> Rows:
        """Fill what the mask `known` leaves open by draws from the conditional, which is exact.

        Parameters and errors are those of `Completes.complete`.
        """
        x, known, _ = accept_partly_known(self, x, known, context)
        with seeded(seed, self.device):
            log_known = self._log_known(x, known.flatten(1)[:, self.view.kept])
            filled = self.view.inverse(self._around(log_known))
        return torch.where(known, x, filled.to(x))
