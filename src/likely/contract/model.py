"""GenerativeModel: the contract that every family keeps."""

import math
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from likely.contract import options
from likely.contract.abilities import VERBS
from likely.contract.inputs import accept, context_features, draw_chunks, map_chunks
from likely.contract.networks import Encoded
from likely.contract.training import Batch, Objective, Recipe, Stage
from likely.contract.views import Features, Rows
from likely.core.columns import Column
from likely.core.domain import Domain
from likely.core.errors import AbilityError, DensityError, DomainError
from likely.core.kinds import KINDS
from likely.core.likelihood import Estimator, Kind, Likelihood
from likely.core.numbers import whole
from likely.core.runtime import keep_freed_memory


class GenerativeModel(nn.Module):
    """A distribution over a domain: an ordinary module with `loss`, `sample` and `log_likelihood`.

    A subclass writes `_sample` and, where its density is exact, `_log_prob`; otherwise `density`, `loss`
    and, for a bound or an estimate, `estimator`. All of them see rows that lie in the domain, and the
    context as features. What only some models can is in `likely.contract.abilities`.

    The constructor's keywords are the model's options: they are checked from their annotations, and
    recorded in `hyperparameters`, before it runs. One that takes `**options` passes on those of the class
    above.

    Parameters
    ----------
    domain : Domain
        Where a sample lives.
    context : Domain, optional
        Where the variables live that the distribution is conditional on.
    context_encoder : Module or str, optional
        Network that makes features of contexts that are arrays, and is trained with the model: "cnn" of
        images, "gru" of series, "deepsets" of sets, or one of your own, of which a copy is taken. It sees
        standardised arrays of shape (n, *context.shape), and gives (n, features); see `lk.register_module`.

    Raises
    ------
    DomainError
        If this family does not take the domain's columns, or takes no context, or the encoder does not
        suit it.
    LikelyError
        If an option has a value that it does not take.
    """

    accepts: ClassVar[frozenset[type[Column]]] = frozenset(KINDS)
    of_one_kind: ClassVar[bool] = False  # whether all columns must be alike
    takes_context: ClassVar[bool] = True
    needs_context: ClassVar[bool] = False  # whether there is nothing without one
    context_optional: ClassVar[bool] = False  # whether each verb also does without it
    # How it can be trained on an energy, the best way first; see `fit`.
    energy_gradients: ClassVar[tuple[str, ...]] = ()
    recipe: Recipe = Recipe()  # an instance may have its own
    dequantisation: str = "none"  # which noise makes columns of whole numbers continuous
    derivative_in_loss = False  # which torch.compile cannot follow
    rollback_count = 0  # how often training has returned to an earlier state
    averaged: tuple[str, ...] = ()  # buffers that training moves, averaged like weights
    validation: ClassVar[dict[str, Any]] = {}  # options of `log_likelihood` when `fit` validates
    hyperparameters: dict[str, Any]
    fitted_to: str | None = None  # a checksum of rows, in this process

    def __init_subclass__(cls) -> None:
        cls.__signature__ = options.signature(cls)  # type: ignore[attr-defined]

    def __new__(cls, *arguments: Any, **keywords: Any) -> Self:
        model = super().__new__(cls)
        if arguments or keywords:  # a copy is filled from outside
            model.__dict__["hyperparameters"] = options.record(cls, arguments, keywords)
        return model

    def __init__(
        self,
        domain: Domain,
        *,
        context: Domain | None = None,
        context_encoder: nn.Module | str | None = None,
    ) -> None:
        super().__init__()
        keep_freed_memory()
        for given in (domain, context):
            if not isinstance(given, Domain | None):
                kind = type(given).__name__
                raise DomainError(f"not a domain but a {kind}: give data.domain, data.context")
        if obstacle := self.obstacle(domain):
            raise DomainError(
                f"{type(self).__name__} does not take {obstacle}; lk.models() lists what each model "
                "takes; or leave the columns out, or use them as the context"
            )
        if context is not None and not self.takes_context:
            raise DomainError(f"{type(self).__name__} takes no context: leave it out")
        if context is None and self.needs_context:
            raise DomainError(
                f"{type(self).__name__} predicts its domain from a context: give context=data.context, of "
                "data from lk.load_data(…, predict=COLUMN) (--predict COLUMN)"
            )
        self.domain, self.context = domain, context
        if context is None and context_encoder is not None:
            raise DomainError("context_encoder: there is no context: give one, or leave it out")
        self.context_features: Features | Encoded | None = None
        if context is not None:
            self.context_features = (
                Features(context) if context_encoder is None else Encoded(context, context_encoder)
            )
        self.prepared = nn.Buffer(torch.tensor(False))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in VERBS:
                raise AbilityError(
                    f"{type(self).__name__} cannot {name} rows; {VERBS[name]} can"
                ) from None
            raise

    @classmethod
    def obstacle(cls, domain: Domain) -> str | None:
        """Which of a domain's columns this family does not take, in words; None if it takes them."""
        if unknown := sorted(kind.__name__.lower() for kind in domain.kinds - cls.accepts):
            entries = [i for i in range(domain.size) if domain.column(i).kinds - cls.accepts]
            which = f" ({', '.join(map(domain.name, entries[:5]))})" if domain.names else ""
            return f"{', '.join(unknown)} columns{which}"
        if cls.of_one_kind and len(domain.groups) > 1:
            return "columns of different kinds or numbers of levels"
        return None

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
        return torch.int64 if self.domain.discrete else self.parameter_dtype

    @property
    def parameter_dtype(self) -> torch.dtype:
        """Type of the parameters."""
        tensors = [*self.parameters(), *self.buffers()]
        return next((t.dtype for t in tensors if t.is_floating_point()), torch.get_default_dtype())

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
        return -self._log_prob(batch.x, context_features(self, batch.context, len(batch)))

    def objectives(self) -> list[Objective]:
        """The players of the training; by default one, `loss` over all parameters."""
        return [Objective("loss", [p for p in self.parameters() if p.requires_grad], self.loss)]

    def stages(self) -> list[Stage]:
        """The phases of the training; by default one, with `objectives`."""
        return [Stage(self.objectives)]

    def training_state(self) -> dict[str, Any]:
        """State that training needs and sampling doesn't: a tree of tensors, numbers and strings."""
        return {}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore what `training_state` gave; {} at the beginning of a fit."""

    def finish(self, batch: Batch) -> None:
        """Set what follows from the final weights, as moments of codes; `fit` calls it at its end.

        `batch` holds rows of the training split, as in `prepare`.
        """

    def figures(self, batch: Batch) -> dict[str, float]:
        """More columns of the history, from rows of the validation split."""
        return {}

    # Use.

    def sample(
        self,
        n: int,
        *,
        context: Any = None,
        seed: int | None = None,
        as_frame: bool = False,
        **sampling: Any,
    ) -> Any:
        """Draw from the model.

        Parameters
        ----------
        n : int
            Number of draws.
        context : Tensor, shape (n, *context.shape) or (*context.shape,), optional
            What to condition on; one row serves all draws. Also a frame with the columns of the context,
            a dictionary of values by name for all draws, or a label.
        seed : int, optional
            The same seed gives the same draws; None uses torch's global generator.
        as_frame : bool
            Give a DataFrame, with the names, labels and types of the table that was fitted.
        **sampling
            The family's own options: the keywords of its `_sample`.

        Returns
        -------
        Tensor or DataFrame, shape (n, *domain.shape)
            In the data's own units; int64 on a discrete domain.

        Raises
        ------
        DataError
            If the context is missing, not wanted, or outside its domain, or too far out.
        LikelyError
            If the family has no such option, or not of that value.
        """
        options.check(f"{type(self).__name__}.sample", self._sample, sampling)
        n = whole("n", n)
        x = draw_chunks(self, self._sample, n, context, seed, sampling)
        return self.domain.frame(x) if as_frame else x

    def log_prob(self, x: Rows, context: Tensor | None = None) -> Float[Tensor, " n"]:
        """Exact log-density, differentiable, −inf outside the support.

        `torch.func` and `torch.export` follow it where no context is given, except that an IAF, whose
        inverse goes column by column, cannot be exported.

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
        self._check_density(exact=True)
        inside, x, features = accept(self, x, context)
        value = self._log_prob(x, features)
        # Where numbers overflow, a row is as far out as they reach.
        return torch.where(inside & ~value.isnan(), value, -math.inf)

    def log_likelihood(
        self, x: Rows, context: Tensor | None = None, *, seed: int | None = None, **estimator: Any
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
            The family's own options: the keywords of its `estimator`.

        Raises
        ------
        DensityError
            If the family has no likelihood of any kind.
        LikelyError
            If the family has no such option, or not of that value.
        """
        self._check_density()
        options.check(f"{type(self).__name__}.log_likelihood", self.estimator, estimator)
        found = self.estimator(seed=seed, **estimator)
        value, *stderr = map_chunks(self, found.terms, x, context, seed)
        error = stderr[0] if stderr else None
        return Likelihood(value, found.kind, error, found.common_stderr, found.tolerance)

    def anomaly_score(
        self, x: Rows, context: Tensor | None = None, *, seed: int | None = None
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
            what = f"{type(self).__name__} has no anomaly score"
            raise DensityError(f"{what}: use an autoencoder, or a model with a likelihood")
        return -self.log_likelihood(x, context, seed=seed).value

    # What a family writes.

    def _sample(self, n: int, context: Tensor | None) -> Tensor:
        """n draws, given context features; keywords are options of `sample`."""
        raise NotImplementedError

    def _log_prob(self, x: Tensor, context: Tensor | None) -> Tensor:
        """log p(x|context) of each row, where that is exact."""
        raise NotImplementedError

    def estimator(self, *, seed: int | None = None) -> Estimator:
        """What `log_likelihood` computes; keywords are its options."""
        return Estimator(lambda x, context: self._log_prob(x, context)[None], Kind.EXACT)

    def _check_density(self, exact: bool = False) -> None:
        name, density = type(self).__name__, self.density
        if density == Kind.NONE:
            raise DensityError(f"{name} has no likelihood: compare its samples (lk.evaluate)")
        if exact and density != Kind.EXACT:
            raise DensityError(f"{name}: the density is not exact ({density}): use log_likelihood")
