"""What mixtures share: passes of expectation–maximisation (EM), where they end, responsibilities.

Dempster, Laird & Rubin 1977, "Maximum likelihood from incomplete data via the EM algorithm".
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from likely.contract import Batch, RealModel, RealView, Recipe, Rows
from likely.contract.inputs import map_chunks
from likely.contract.options import NonNegative, Positive
from likely.core.columns import Periodic
from likely.core.domain import Domain
from likely.core.errors import DataError

START_ROWS = 1 << 16  # rows that the start looks at
PATIENCE = 5  # passes without a gain that end EM where dequantisation makes each pass noisy


@dataclass(frozen=True)
class GaussianPaths:
    """Gaussians N(m_u, C_u) with log-weights log w_u."""

    log_weights: Float[Tensor, " u"]
    means: Float[Tensor, "u q"]
    covariances: Float[Tensor, "u q q"]


class Mixture(RealModel):
    """A mixture over the real view of a domain, fitted by EM.

    A subclass writes `_log_joint`, the Gaussians that it consists of, `gaussians`, the E-step's sums over
    rows `_moments`, the M-step `_maximisation` that takes them, and `_block`, the number of rows at a
    time.

    Parameters
    ----------
    domain : Domain
        Without periodic columns: a Gaussian is not continuous across the seam.
    floor : float
        Smallest variance, where each column of the data has variance 1.
    tolerance : float
        EM has converged when a pass gains less than this, in nats per sample.
    """

    accepts = RealView.accepts - {Periodic}
    takes_context = False
    recipe = Recipe(batch=1 << 14)

    def __init__(
        self,
        domain: Domain,
        *,
        floor: Positive = 1e-6,
        tolerance: NonNegative = 1e-4,
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        self.floor, self.tolerance = floor, tolerance
        self._best, self._stalled = -math.inf, 0

    @property
    def _block(self) -> int:
        raise NotImplementedError

    def _log_joint(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "components n"]:
        raise NotImplementedError

    def gaussians(self) -> GaussianPaths:
        """The Gaussians that this is a mixture of, in the columns of its view and in float64."""
        raise NotImplementedError

    def _moments(self, z: Tensor, weight: Tensor) -> tuple[Tensor, list[Tensor]]:
        """log p(z) of some rows, and their sums that the M-step needs."""
        raise NotImplementedError

    def _maximisation(self, moments: list[Tensor]) -> None:
        raise NotImplementedError

    def _log_prob_real(self, z: Tensor, context: Tensor | None) -> Tensor:
        log_prob = torch.cat([self._log_joint(z).logsumexp(0) for z in z.split(self._block)])
        return log_prob.to(z)

    def responsibilities(
        self, x: Rows, *, seed: int | None = None
    ) -> Float[Tensor, "n components"]:
        """Probability of each component given each row.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
        seed : int, optional
            Of the dequantisation noise, where the domain has discrete columns.

        Raises
        ------
        DataError
            If a row lies outside the domain.
        """
        self.domain.check(x)

        def given(x: Tensor, _: Tensor | None) -> Tensor:
            return self._log_joint(self.view(x)[0]).softmax(0)

        return map_chunks(self, given, x, seed=seed).mT

    def _start_rows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The first rows on the reals, and their weights."""
        z, _ = self.view(batch.x[:START_ROWS])
        return z, _weight(batch)[:START_ROWS].to(z)

    @torch.no_grad()
    def epoch(self, batches: Iterable[Batch]) -> dict[str, float]:
        """One pass of EM.

        Parameters
        ----------
        batches : iterable of Batch
            All rows of the training split, once.

        Returns
        -------
        dict
            "loss": mean negative log-likelihood before the update, in nats per sample.

        Raises
        ------
        DataError
            If no row has a weight above zero.
        """
        sums = total(
            self._expectation(x, w)
            for batch in batches
            for x, w in zip(
                batch.x.split(self._block), _weight(batch).split(self._block), strict=True
            )
        )
        if not sums or not sums[0] > 0:
            raise DataError("no row has a weight above zero: there is nothing to fit")
        weight, log_likelihood, *moments = sums
        self._maximisation(moments)
        mean = (log_likelihood / weight).item()
        self._stalled = 0 if mean > self._best + self.tolerance else self._stalled + 1
        self._best = max(self._best, mean)
        return {"loss": -mean}

    def _expectation(self, x: Tensor, weight: Tensor) -> list[Tensor]:
        """E-step: Σ w, Σ w log p, and the moments of some rows."""
        z, log_det = self.view(x)
        weight = weight.to(z)
        log_prob, moments = self._moments(z, weight)
        sums = [weight.sum(), weight.to(log_prob) @ (log_prob + log_det), *moments]
        return [part.double() for part in sums]

    @property
    def converged(self) -> bool:
        """Whether EM has stopped gaining: one pass shows it, unless dequantisation adds noise."""
        return self._stalled >= (1 if self.view.exact else PATIENCE)

    def training_state(self) -> dict[str, Any]:
        return {"best": self._best, "stalled": self._stalled}

    def load_training_state(self, state: dict[str, Any]) -> None:
        self._best, self._stalled = state.get("best", -math.inf), state.get("stalled", 0)


def _weight(batch: Batch) -> Tensor:
    return batch.x.new_ones(len(batch)) if batch.weight is None else batch.weight


def total(parts: Iterable[list[Tensor]]) -> list[Tensor]:
    """The sum of lists of tensors, entry by entry."""
    sums: list[Tensor] = []
    for part in parts:
        sums = [a + b for a, b in zip(sums, part, strict=True)] if sums else part
    return sums


def posterior(
    joint: Float[Tensor, "components n"], weight: Float[Tensor, " n"]
) -> tuple[Float[Tensor, "components n"], Float[Tensor, " n"]]:
    """r = w p(k|z) and log p(z), from log p(k, z)."""
    top = joint.amax(0)
    r = (joint - top).clamp_min(-80).exp()  # denormal numbers would be slow
    p = r.sum(0)
    r *= weight / p
    return r, top + p.log()
