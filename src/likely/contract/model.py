"""GenerativeModel: the contract that every family keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from likely.contract.training import Batch, Objective, Recipe
from likely.contract.views import Features, RealView
from likely.core.columns import COLUMNS, Column
from likely.core.domain import Domain
from likely.core.errors import DataError, DensityError, DomainError, LikelyError
from likely.core.likelihood import Kind, Likelihood, importance_bound
from likely.core.random import seeded
from likely.core.runtime import keep_freed_memory


def as_rows(values: Any, domain: Domain, what: str) -> Tensor:
    """A tensor of what a user gives as rows: a tensor, an array, a list or a table of numbers.

    Raises
    ------
    DataError
        If it holds anything but numbers, or a table lacks a column.
    """
    if isinstance(values, Tensor):
        return values
    try:
        if hasattr(values, "columns") and domain.names is not None:
            values = values[list(domain.names)]
        return torch.as_tensor(np.asarray(values))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{what}: rows of numbers are needed, categories as their codes 0, 1, …; "
            "lk.data.load_rows(table, domain=…) makes them from a table"
        ) from error


CHUNK = 1 << 17  # entries that are scored or sampled at a time


class GenerativeModel(nn.Module):
    """A distribution over a domain: an ordinary module with `loss`, `sample` and `log_likelihood`.

    A subclass passes its hyperparameters on to this constructor, and writes `_sample` and, where
    there is a density, `_log_prob`; both see the context as features. One that is not trained by
    gradients has `epoch(batches) -> dict of figures`, one pass over the data, and, if it can tell,
    a property `converged`. What is checked for every family (shapes, supports, contexts, seeds,
    chunks) is checked here.

    Parameters
    ----------
    domain : Domain
        Where a sample lives.
    context : Domain, optional
        Where the variables live that the distribution is conditional on.
    **hyperparameters
        JSON-able; they are saved with the model.

    Raises
    ------
    DomainError
        If this family does not take the domain's columns, or takes no context.
    """

    accepts: ClassVar[frozenset[type[Column]]] = frozenset(COLUMNS.values())
    of_one_kind: ClassVar[bool] = False  # whether all columns must be alike
    takes_context: ClassVar[bool] = True
    dequantises: ClassVar[bool] = False  # whether discrete columns get uniform noise
    recipe: Recipe = Recipe()  # an instance may have its own
    derivative_in_loss = False  # which torch.compile cannot follow
    taken_back = 0  # how often training has returned to an earlier state
    validation: ClassVar[dict[str, Any]] = {}  # options of `log_likelihood` when `fit` validates
    prepared: Tensor

    def __init__(self, domain: Domain, *, context: Domain | None = None, **hyperparameters: Any):
        super().__init__()
        keep_freed_memory()
        self.domain = domain
        self.context = context
        self.hyperparameters = hyperparameters
        self._refuse_unless_taken()
        self.context_features = Features(context) if context is not None else None
        self.register_buffer("prepared", torch.tensor(False))

    def _refuse_unless_taken(self) -> None:
        from likely.contract.registry import taking

        for domain in (self.domain, self.context):
            if not isinstance(domain, Domain | None):
                raise DomainError(
                    f"a domain is needed, not a {type(domain).__name__}: give data.domain, "
                    "context=data.context"
                )
        why = None
        if refused := sorted(kind.__name__.lower() for kind in self.domain.kinds - self.accepts):
            names = [
                self.domain.name(i)
                for i in range(self.domain.size)
                if type(self.domain.column(i)) not in self.accepts
            ]
            which = f" ({', '.join(names[:5])})" if self.domain.names else ""
            why = f"{', '.join(refused)} columns{which}"
        elif not self.takes(self.domain):
            why = "columns of different kinds or numbers of levels"
        if why:
            raise DomainError(
                f"{type(self).__name__} does not take {why}; these models do: "
                f"{', '.join(taking(self.domain)) or 'none'}; or leave the columns out, or take them "
                "as the context"
            )
        if self.context is not None and not self.takes_context:
            raise DomainError(f"{type(self).__name__} takes no context: leave it out")

    @classmethod
    def takes(cls, domain: Domain) -> bool:
        """Whether this family takes a domain's columns."""
        return domain.kinds <= cls.accepts and (not cls.of_one_kind or len(domain.groups) == 1)

    @property
    def density(self) -> Kind:
        """What kind of log-likelihood this model has on its domain."""
        return Kind.EXACT

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.prepared.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of samples: int64 on discrete domains, otherwise that of the parameters."""
        if self.domain.discrete:
            return torch.int64
        return next(
            (p.dtype for p in [*self.parameters(), *self.buffers()] if p.is_floating_point()),
            torch.get_default_dtype(),
        )

    @property
    def context_size(self) -> int:
        """Number of context features."""
        return self.context_features.size if self.context_features is not None else 0

    # Training.

    def prepare(self, batch: Batch) -> None:
        """Initialise from rows of the training split; `fit` calls it once, before the first step."""
        if self.context_features is not None:
            assert batch.context is not None
            self.context_features.prepare(batch.context, batch.weight)
        self.prepared.fill_(True)

    def loss(self, batch: Batch) -> Float[Tensor, "..."]:
        """What training minimises: shape (n,) where it is a sum over rows, () otherwise."""
        return -self._log_prob(batch.x, self._context(batch.context, len(batch)))

    def objectives(self) -> list[Objective]:
        """The players of the training; by default one, `loss` over all parameters."""
        return [Objective("loss", [p for p in self.parameters() if p.requires_grad], self.loss)]

    def training_state(self) -> dict[str, Any]:
        """State that training needs and sampling doesn't: a tree of tensors, numbers and strings."""
        return {}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Take back what `training_state` gave; {} at the beginning of a fit."""

    def finish(self, batch: Batch) -> None:
        """Set what follows from the final weights, as moments of codes; `fit` calls it at its end.

        `batch` holds rows of the training split, as in `prepare`.
        """

    # Use.

    def sample(
        self, n: int, *, context: Tensor | None = None, seed: int | None = None
    ) -> Shaped[Tensor, "n *shape"]:
        """Draw from the model.

        Parameters
        ----------
        n : int
            Number of draws.
        context : Tensor, shape (n, *context.shape) or (*context.shape,), optional
            What to condition on; one row serves all draws.
        seed : int, optional
            The same seed gives the same draws; None uses torch's global generator.

        Returns
        -------
        Tensor, shape (n, *domain.shape)
            In the data's own units; int64 on a discrete domain.

        Raises
        ------
        DataError
            If the context is missing, not wanted, or outside its domain.
        """
        return self._drawn(self._sample, n, context, seed)

    def _drawn(
        self,
        draw: Callable[[int, Tensor | None], Tensor],
        n: int,
        context: Tensor | None,
        seed: int | None,
    ) -> Tensor:
        """n draws by `draw(rows, context features)`, by chunks and without gradients."""
        if n < 0:
            raise DataError(f"sample: n must not be negative, not {n}")
        features = self._checked_context(context, n)
        with torch.no_grad(), seeded(seed, self.device):
            parts = [
                draw(stop - start, None if features is None else features[start:stop])
                for start, stop in self._chunks(n)
            ]
        if not parts:
            return torch.empty(0, *self.domain.shape, dtype=self.dtype, device=self.device)
        return torch.cat(parts)

    def log_prob(
        self, x: Shaped[Tensor, "n *shape"], context: Tensor | None = None
    ) -> Float[Tensor, " n"]:
        """Exact log-density, differentiable, −inf outside the support.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
        context : Tensor, shape (n, *context.shape) or (*context.shape,), optional

        Returns
        -------
        Tensor, shape (n,)
            Nats, by the domain's base measure.

        Raises
        ------
        DensityError
            If the model's density is not exact on this domain.
        DataError
            If x or the context have the wrong shape, or the context is missing.
        """
        if self.density != Kind.EXACT:
            raise DensityError(self._no_density("log_prob"))
        inside, x, features = self._checked(x, context)
        return torch.where(inside, self._log_prob(x, features), -math.inf)

    def log_likelihood(
        self,
        x: Shaped[Tensor, "n *shape"],
        context: Tensor | None = None,
        *,
        seed: int | None = None,
        **estimator: Any,
    ) -> Likelihood:
        """Log-likelihood of each row, with its kind and errors.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
        context : Tensor, optional
            As in `log_prob`.
        seed : int, optional
            For estimators that draw.
        **estimator
            Options of the family's estimator.

        Raises
        ------
        DensityError
            If the family has no likelihood of any kind.
        """
        if self.density != Kind.EXACT:
            raise DensityError(self._no_density("log_likelihood"))
        if estimator:
            raise LikelyError(
                f"{type(self).__name__}.log_likelihood is exact and takes no option {[*estimator]}"
            )
        value = self._in_chunks(lambda x, c: self._log_prob(x, c)[None], x, context)[0]
        return Likelihood(value, Kind.EXACT)

    def anomaly_score(
        self,
        x: Shaped[Tensor, "n *shape"],
        context: Tensor | None = None,
        *,
        seed: int | None = None,
    ) -> Float[Tensor, " n"]:
        """How unusual each row is: the higher, the more so. Here the negative log-likelihood.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
        context : Tensor, optional
            As in `log_prob`.
        seed : int, optional
            For scores that draw.

        Returns
        -------
        Tensor, shape (n,)
            Infinite for rows outside the domain.

        Raises
        ------
        DensityError
            If the family has no such score.
        """
        if self.density == Kind.NONE:
            raise DensityError(
                f"{type(self).__name__} has no anomaly score: take an autoencoder or a model that has "
                "a likelihood"
            )
        return -self.log_likelihood(x, context, seed=seed).value

    def complete(
        self,
        x: Shaped[Tensor, "n *shape"],
        known: Bool[Tensor, "n *shape"],
        *,
        context: Tensor | None = None,
        seed: int | None = None,
    ) -> Shaped[Tensor, "n *shape"]:
        """Fill what the mask `known` leaves open by draws from the conditional; families that can.

        Parameters
        ----------
        x : Tensor, shape (n, *domain.shape)
            Known entries are returned as they are; open ones may hold anything, NaN too.
        known : Tensor of bool, shape (n, *domain.shape) or (*domain.shape,)
        context : Tensor, optional
            As in `sample`.
        seed : int, optional
            The same seed gives the same draws.

        Raises
        ------
        DataError
            If a shape is wrong, or a known entry lies outside the domain.
        LikelyError
            If the family cannot.
        """
        raise LikelyError(f"{type(self).__name__} cannot complete rows; autoregressive models can")

    # What a family writes.

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        raise NotImplementedError

    # Checks and chunks.

    def _no_density(self, verb: str) -> str:
        name = type(self).__name__
        if self.density == Kind.NONE:
            return f"{name} has no likelihood: compare its samples instead (lk.evaluate)"
        return (
            f"{name}.{verb}: the density on this domain is not exact ({self.density}): use "
            "log_likelihood"
        )

    def _context(self, context: Tensor | None, n: int) -> Tensor | None:
        """Features of a context of n rows, or of one row for all; errors where one is missing."""
        if self.context is None or self.context_features is None:
            if context is not None:
                raise DataError(f"{type(self).__name__} was built without a context: leave it out")
            return None
        if context is None:
            raise DataError(
                f"{type(self).__name__} is conditional: give context=, of shape ({n}, "
                f"{', '.join(map(str, self.context.shape))})"
            )
        if tuple(context.shape) == self.context.shape:
            context = context.expand(n, *self.context.shape)
        if tuple(context.shape) != (n, *self.context.shape):
            raise DataError(
                f"the context has shape {tuple(context.shape)}, not {(n, *self.context.shape)}"
            )
        return self.context_features(context)

    def _checked_context(self, context: Tensor | None, n: int) -> Tensor | None:
        if context is not None and self.context is not None:
            context = as_rows(context, self.context, "the context")
            rows = context if tuple(context.shape) != self.context.shape else context[None]
            self.context.check(rows, "the context")
            context = context.to(self.device)
        return self._context(context, n)

    def _within(self, x: Shaped[Tensor, "n *shape"]) -> Shaped[Tensor, "n *shape"]:
        """Rows on the model's device; a `DataError` unless all lie in its domain."""
        x = as_rows(x, self.domain, "x").to(self.device)
        self.domain.check(x)
        return x

    def _checked(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Which rows are in the support, x with the others moved inside, and context features."""
        x = as_rows(x, self.domain, "x").to(self.device)
        if tuple(x.shape[1:]) != self.domain.shape:
            raise DataError(
                f"x has rows of shape {tuple(x.shape[1:])} where the model's domain has "
                f"{self.domain.shape}"
            )
        inside = self.domain.contains(x)
        if not inside.all():
            mask = inside.reshape(-1, *[1] * len(self.domain.shape))
            x = torch.where(mask, x, self.domain.anchor.to(x))
        return inside, x, self._checked_context(context, len(x))

    def _partly_known(
        self, x: Tensor, known: Tensor, dtype: torch.dtype
    ) -> tuple[Shaped[Tensor, "n *shape"], Bool[Tensor, "n *shape"]]:
        """Rows with the domain's anchor in their open entries, and the mask in the shape of the rows.

        Rows stay in their floating type; others get that of draws, as all do on a discrete domain.

        Raises
        ------
        DataError
            If a shape is wrong, or a known entry lies outside the domain.
        """
        domain = self.domain
        x, known = as_rows(x, domain, "complete: x"), torch.as_tensor(known)
        if tuple(x.shape[1:]) != domain.shape or tuple(known.shape) not in (domain.shape, x.shape):
            raise DataError(
                "complete: x and known must have the shape "
                f"(n, {', '.join(map(str, domain.shape))}), not {tuple(x.shape)} and "
                f"{tuple(known.shape)}"
            )
        x, known = x.to(self.device), known.to(self.device, torch.bool).expand_as(x)
        x = x if x.is_floating_point() else x.to(dtype)
        x = torch.where(known, x, domain.anchor.to(x))
        domain.check(x, "the known entries")
        return x.to(dtype) if domain.discrete else x, known

    def _chunks(self, n: int) -> Iterable[tuple[int, int]]:
        rows = max(1, CHUNK // self.domain.size)
        return [(start, min(start + rows, n)) for start in range(0, n, rows)]

    def _in_chunks(
        self,
        function: Callable[[Tensor, Tensor | None], Tensor],
        x: Tensor,
        context: Tensor | None,
        seed: int | None = None,
    ) -> Tensor:
        """`function` of x and context features, shape (k, n), by chunks and without gradients.

        Rows outside the support get −inf in the first line and 0 in the others.
        """
        parts = []
        x = as_rows(x, self.domain, "x")
        if context is not None and self.context is not None:
            context = as_rows(context, self.context, "the context")
            if tuple(context.shape) == self.context.shape:  # one row for all
                context = context.expand(len(x), *self.context.shape)
        with torch.no_grad(), seeded(seed, self.device):
            for start, stop in self._chunks(len(x)) or [(0, 0)]:
                part_context = None if context is None else context[start:stop]
                inside, rows, features = self._checked(x[start:stop], part_context)
                part = function(rows, features)
                outside = torch.zeros_like(part[:, :1])
                outside[0] = -math.inf
                parts.append(torch.where(inside, part, outside))
        return torch.cat(parts, 1)


class RealModel(GenerativeModel):
    """A density on R^d (and circles), carried to the data's own units by a `RealView`.

    A subclass writes `_log_prob_real` and `_sample_real` in the view's d columns. Where the domain
    has integer columns they are dequantised: the likelihood is then a lower bound, which
    `log_likelihood` tightens by averaging over `draws` draws of the noise.
    """

    accepts = RealView.accepts
    dequantises = True

    def __init__(self, domain: Domain, *, context: Domain | None = None, **hyperparameters: Any):
        super().__init__(domain, context=context, **hyperparameters)
        self.view = RealView(domain)
        if not self.view.dim:
            raise DomainError("every column of the data is constant: there is nothing to learn")

    @property
    def density(self) -> Kind:
        return Kind.EXACT if self.view.exact else Kind.LOWER

    def prepare(self, batch: Batch) -> None:
        self.view.prepare(batch.x, batch.weight)
        super().prepare(batch)

    def _log_prob_real(self, z: Tensor, context: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _sample_real(self, n: int, context: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        z, log_det = self.view(x)
        return self._log_prob_real(z, context) + log_det

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        return self.view.inverse(self._sample_real(n, context))

    def log_likelihood(  # type: ignore[override]
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        seed: int | None = None,
        draws: int = 16,
    ) -> Likelihood:
        """Log-likelihood of each row: exact, or a bound from dequantisation.

        The bound is the importance-weighted one, log 1/K Σ_k p(x + u_k) with K = `draws`
        (Burda, Grosse & Salakhutdinov 2016, arXiv:1509.00519, eq. 8); it rises with K towards
        the model's probability of the cell. Its standard error is the delta method's.
        """
        if self.density == Kind.EXACT:
            return super().log_likelihood(x, context, seed=seed)
        if draws < 1:
            raise LikelyError(f"draws must be at least 1, not {draws}")

        def bound(x: Tensor, context: Tensor | None) -> Tensor:
            return importance_bound(torch.stack([self._log_prob(x, context) for _ in range(draws)]))

        value, stderr = self._in_chunks(bound, x, context, seed)
        return Likelihood(value, Kind.LOWER, stderr if draws > 1 else None)
