"""Models of real columns, among them RealModel: a density on R^d, in the data's own units."""

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from likely.contract.model import GenerativeModel
from likely.contract.training import Batch
from likely.contract.views import RealView
from likely.core.domain import Domain
from likely.core.likelihood import Estimator, Kind, importance_bound


class ViewedModel(GenerativeModel):
    """A model of the columns of a `RealView`, `view`; a subclass makes it, and writes `_sample_real`."""

    accepts = RealView.accepts
    view: RealView

    def prepare(self, batch: Batch) -> None:
        self.view.prepare(batch.x, batch.weight)
        super().prepare(batch)

    def _sample_real(self, n: int, context: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        return self.view.inverse(self._sample_real(n, context))


class RealModel(ViewedModel):
    """A density on R^d (and circles), carried to the data's own units by a `RealView`.

    A subclass writes `_log_prob_real` and `_sample_real` in the view's d columns. Where the domain
    has integer columns they are dequantised: the likelihood is then a lower bound, which
    `log_likelihood` tightens by averaging over `draws` draws of the noise.

    Parameters
    ----------
    domain : Domain
        With columns that have a real view.
    context : Domain, optional
    view : {"bijections", "affine"}
        What finitely many levels become. "bijections" spread their cells over the whole line, so
        that samples and density stay within the ends; "affine" leaves the pixels x of an image with
        b bits at (x + u)/2ᵇ − ½, with u uniform on [0, 1), so that equal steps stay equal. A sample
        beyond an end then counts for the outer level.
    """

    dequantisation = "uniform"

    def __init__(
        self,
        domain: Domain,
        *,
        view: Literal["bijections", "affine"] = "bijections",
        **options: Any,
    ) -> None:
        super().__init__(domain, **options)
        self.view = RealView(domain, view)

    @property
    def density(self) -> Kind:
        return Kind.EXACT if self.view.exact else Kind.LOWER

    def _log_prob_real(self, z: Tensor, context: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _log_prob(self, x: Tensor, context: Tensor | None, **options: Any) -> Tensor:
        z, log_det = self.view(x)
        return self._log_prob_real(z, context, **options) + log_det

    def estimator(self, *, seed: int | None = None, draws: int = 16) -> Estimator:
        """Exact, or a bound from dequantisation.

        The bound is the importance-weighted one, log 1/K Σ_k p(x + u_k) with K = `draws`
        (Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, eq. 8); it rises with K towards
        the model's probability of the cell. Its standard error is the delta method's.
        """
        if self.density == Kind.EXACT:
            return super().estimator()
        return Estimator(partial(self._bound, draws), Kind.LOWER)

    def _bound(self, draws: int, x: Tensor, context: Tensor | None, **options: Any) -> Tensor:
        terms = [self._log_prob(x, context, **options) for _ in range(draws)]
        return importance_bound(torch.stack(terms))
