"""What mixtures share: passes of expectation–maximisation (EM), where they end, responsibilities.

Dempster, Laird & Rubin 1977, "Maximum likelihood from incomplete data via the EM algorithm".
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from likely.contract import Batch, RealModel, RealView, Recipe, Rows
from likely.contract.inputs import accept_partly_known, as_rows, map_chunks
from likely.contract.options import NonNegative, Positive
from likely.core.columns import Maybe, Periodic
from likely.core.domain import Domain
from likely.core.errors import DataError
from likely.core.random import seeded

START_ROWS = 1 << 16  # rows that the start looks at
PSEUDOCOUNT = 0.1  # rows added to those with and without an entry
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
    rows `_moments`, the M-step `_maximisation` that takes them, `_infer`, and `_block`, the number of rows
    at a time. `_log_joint`, `_moments` and `_infer` take rows of which the same columns are missing; these
    are integrated out.

    Where columns may be missing, entries are taken to be missing at random, each with a probability ρ of its
    own: log p(x) = log p(entries that are present) + Σ log ρ or log(1 − ρ). Its first term is
    `log_prob_present`. EM takes the expectation of what is missing too.

    Parameters
    ----------
    domain : Domain
        Without periodic columns: a Gaussian is not continuous across the seam.
    floor : float
        Smallest variance, where each column of the data has variance 1.
    tolerance : float
        EM has converged when a pass gains less than this, in nats per sample.
    """

    accepts = RealView.accepts - {Periodic} | {Maybe}
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
        self.missing_logits = nn.Buffer(torch.zeros(n := len(domain.holes)), persistent=n > 0)
        self._best, self._stalled = -math.inf, 0

    @property
    def _block(self) -> int:
        raise NotImplementedError

    def _log_joint(
        self, z: Float[Tensor, "n d"], missing: Bool[Tensor, " d"] | None = None
    ) -> Float[Tensor, "components n"]:
        """log p(k, z) of what is not missing."""
        raise NotImplementedError

    def gaussians(self) -> GaussianPaths:
        """The Gaussians that this is a mixture of, in the columns of its view and in float64."""
        raise NotImplementedError

    def _moments(
        self, z: Tensor, weight: Tensor, missing: Bool[Tensor, " d"] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """log p(z) of some rows, and their sums that the M-step needs."""
        raise NotImplementedError

    def _infer(self, z: Float[Tensor, "n d"], missing: Bool[Tensor, " d"]) -> Tensor:
        """A draw of the missing columns, given the others: shape (n, missing)."""
        raise NotImplementedError

    def _maximisation(self, moments: list[Tensor]) -> None:
        raise NotImplementedError

    def _log_prob_real(self, z: Tensor, context: Tensor | None) -> Tensor:
        log_prob = torch.cat([self._log_joint(z).logsumexp(0) for z in z.split(self._block)])
        return log_prob.to(z)

    def _log_prob(self, x: Tensor, context: Tensor | None, **options: Any) -> Tensor:
        if not self.domain.holes:
            return super()._log_prob(x, context, **options)
        return self._log_prob_present(x) + self._log_prob_missing(x)

    def _log_prob_present(self, x: Tensor) -> Tensor:
        z, log_det = self._seen(x)
        return self._log_joint_present(z).logsumexp(0).to(z) + log_det

    def _log_joint_present(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "components n"]:
        """`_log_joint` of rows with NaN anywhere."""
        parts = [(part, mask) for rows, mask in _alike(z) for part in rows.split(self._block)]
        joint = torch.cat([self._log_joint(z[rows], mask) for rows, mask in parts], 1)
        return joint[:, torch.cat([rows for rows, _ in parts]).argsort()]

    def _log_prob_missing(self, x: Tensor) -> Tensor:
        """Of which entries are missing."""
        missing = x.flatten(1)[:, self.domain.holes].isnan()
        return nn.functional.logsigmoid((2 * missing - 1) * self.missing_logits).sum(1)

    def _seen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z, NaN where an entry is missing, and the log-determinant of the others."""
        z, log_slope = self.view.standardised(x)
        log_slope = log_slope.masked_fill(z.isnan(), 0.0)
        return z.to(self.missing_logits), log_slope.sum(1).to(self.missing_logits)

    def log_prob_present(self, x: Rows) -> Float[Tensor, " n"]:
        """Log-density of the entries of each row that are present, the missing ones integrated out.

        It says nothing of how probable it is that these are missing; `log_prob` does so as well, where the
        domain has such columns. Rows with holes in any column are scored, whatever the domain.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
            NaN is missing.

        Returns
        -------
        Tensor, shape (n,)
            Nats; −inf where an entry lies outside its support, 0 for a row without entries.

        Raises
        ------
        DensityError
            If columns are dequantised.
        DataError
            If x has another shape.
        """
        self._check_density(exact=True)
        x = as_rows(x, self.domain, "x").to(self.device)
        if tuple(x.shape[1:]) != self.domain.shape:
            raise DataError(f"x has rows of shape {(*x.shape[1:],)}, not {self.domain.shape}")
        inside = (self.domain.inside(x) | x.isnan().flatten(1)).all(1)
        anchor = self.domain.anchor.to(x)
        x = torch.where(inside.reshape(-1, *[1] * len(self.domain.shape)), x, anchor)
        return torch.where(inside, self._log_prob_present(x), -math.inf)

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        x = super()._sample(n, context)
        if not (holes := self.domain.holes):
            return x
        x = x if x.is_floating_point() else x.to(self.parameter_dtype)
        share = self.missing_logits.sigmoid().expand(n, -1)
        x.flatten(1)[:, holes] = x.flatten(1)[:, holes].masked_fill(
            torch.rand_like(share) < share, math.nan
        )
        return x

    def complete(
        self, x: Rows, known: Tensor, *, context: Tensor | None = None, seed: int | None = None
    ) -> Rows:
        """Fill what the mask `known` leaves open by draws from the conditional.

        Exact on continuous columns: the component is drawn given the known entries, and the open ones given
        both. A known entry of a discrete column stands anywhere in its cell.
        Parameters and errors are those of `Completes.complete`.
        """
        x, known, _ = accept_partly_known(self, x, known, context)
        with torch.no_grad(), seeded(seed, self.device):
            z = self._seen(x)[0].masked_fill(~known.flatten(1)[:, self.view.kept], math.nan)
            for rows, missing in _alike(z):
                for part in rows.split(self._block) if missing.any() else ():
                    filled = self._infer(z[part], missing)
                    z[part] = z[part].masked_scatter(missing, filled.to(z))
            return torch.where(known, x, self.view.inverse(z).to(x))

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
            if not self.domain.holes:
                return self._log_joint(self.view(x)[0]).softmax(0)
            return self._log_joint_present(self._seen(x)[0]).softmax(0)

        return map_chunks(self, given, x, seed=seed).mT

    def _start_rows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The first rows on the reals, what is missing in the middle, and their weights."""
        z = self._seen(batch.x[:START_ROWS])[0].nan_to_num(0.0)
        return z, _weight(batch)[:START_ROWS].to(z)

    def prepare(self, batch: Batch) -> None:
        super().prepare(batch)
        missing, weight = batch.x.flatten(1)[:, self.domain.holes].isnan(), _weight(batch).double()
        absent, present = (weight @ part.double() + PSEUDOCOUNT for part in (missing, ~missing))
        self.missing_logits.copy_((absent / present).log())

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
        if self.domain.holes:
            z, log_det = self._seen(x)
            log_det = log_det + self._log_prob_missing(x)
            groups = [(z[rows], log_det[rows], weight[rows], mask) for rows, mask in _alike(z)]
        else:
            groups = [(*self.view(x), weight, None)]
        sums = []
        for z, log_det, w, missing in groups:
            log_prob, moments = self._moments(z, w.to(z), missing)
            parts = [w.sum(), w.to(log_prob) @ (log_prob + log_det), *moments]
            sums.append([part.double() for part in parts])
        return total(sums)

    @property
    def converged(self) -> bool:
        """Whether EM has stopped gaining: one pass shows it, unless dequantisation adds noise."""
        return self._stalled >= (1 if self.view.exact else PATIENCE)

    def training_state(self) -> dict[str, Any]:
        return {"best": self._best, "stalled": self._stalled}

    def load_training_state(self, state: dict[str, Any]) -> None:
        self._best, self._stalled = state.get("best", -math.inf), state.get("stalled", 0)


def _alike(z: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The rows of which the same columns are missing, and which these are."""
    masks, which = z.isnan().unique(dim=0, return_inverse=True)
    for i, mask in enumerate(masks):
        yield (which == i).nonzero()[:, 0], mask


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
